"""verl's FSDP engine with learning rates by component: vision encoder, merger, language model (report, section 5.1), and pixels
that come as bytes (`pixels.py`).

What `lr_groups` may say stands in `component_groups.py`. Registered for (device, vendor) pairs, which verl looks up before
the plain device: `strategy=fsdp|fsdp2` picks this engine in SFT and RL alike, with no new strategy name.
"""

from dataclasses import replace

import torch
import verl.workers.engine.fsdp.transformer_impl as impl
from verl.workers.config.optimizer import build_optimizer
from verl.workers.engine.base import EngineRegistry

from ..surviving.saving_together import SavesTogether
from .component_groups import Rates, parameter_groups, read_rates, schedule_settings
from .pixels import STRATEGIES, scale_levels


@EngineRegistry.register("language_model", STRATEGIES, device="cuda", vendor=["nvidia", "amd"])
@EngineRegistry.register("language_model", STRATEGIES, device="cpu", vendor="cpu")
class ComponentFSDPEngine(SavesTogether, impl.FSDPEngineWithLMHead):
    """verl's FSDP engine; only the optimizer's groups differ, in what form pixels may come, and what happens where a rank cannot
    save."""

    def _build_optimizer(self, module):
        config = self.optimizer_config
        override = dict(config.override_optimizer_config or {})
        rates = read_rates(override.pop("lr_groups", None))
        groups = parameter_groups(module.named_parameters(), rates, config.lr)
        self._components = [group["component"] for group in groups]
        self._schedules = [schedule_settings(rates.get(name, Rates())) for name in self._components]
        for group in groups:
            if self.rank == 0:
                print(
                    f"sv6d: learning rate {group['lr']:g}, weight decay {group.get('weight_decay', config.weight_decay):g} for "
                    f"{group['component']}: {len(group['params'])} tensors, {group['params'][0][0]} ... {group['params'][-1][0]}",
                    flush=True,
                )
            group["params"] = [parameter for _, parameter in group["params"]]
        return build_optimizer(groups, replace(config, override_optimizer_config=override or None))

    def _build_lr_scheduler(self, optimizer):
        """verl's schedule; where a component has one of its own, verl's function of it for that component's group."""
        if not any(self._schedules):
            return super()._build_lr_scheduler(optimizer)
        common, factors = self.optimizer_config, []
        for own in self._schedules:
            self.optimizer_config = replace(common, **own)
            alone = super()._build_lr_scheduler(torch.optim.SGD([torch.zeros(1)], lr=1.0))
            factors.append(alone.lr_lambdas[0])
        self.optimizer_config = common
        return torch.optim.lr_scheduler.LambdaLR(optimizer, factors)

    def prepare_model_inputs(self, micro_batch):
        model_inputs, output_args = super().prepare_model_inputs(micro_batch)
        scale_levels(model_inputs, self.model_config.processor)
        return model_inputs, output_args

    def train_batch(self, data, loss_function):
        """A step's metrics also hold what each component was trained with: `<component>/lr`, `<component>/weight_decay`."""
        used = {
            f"{component}/{name}": [float(group[name])]  # a list, as RL chains what micro-batches give
            for component, group in zip(self._components, self.optimizer.param_groups, strict=True)
            for name in ("lr", "weight_decay")
        }
        output = super().train_batch(data, loss_function)
        if self.is_mp_src_rank_with_outputs():
            output["metrics"].update(used)
        return output
