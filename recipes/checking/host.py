"""Does it fit into the nodes' own memory? verl's agent loop leaves the pixels of every sequence, each of a group's eight too, with
TransferQueue (`agent_loop_tq.py`, `multi_modal_inputs`), whose units lie on the nodes in turn; each rank of the trainer takes a copy
of its share for an update (`tqbridge`).
"""

from collections import defaultdict
from collections.abc import Iterator
from statistics import mean
from typing import NamedTuple

from omegaconf import DictConfig

from ..cluster.pools import node_gb, nodes_needed
from .asynchrony import batches_ahead
from .context import FRAMES_A_PATCH, clip, token_edge
from .finding import Finding, counted, error, note, warning
from .machine import usable_memory
from .memory import GB, TIGHT, offloaded, require_fsdp
from .model_size import ModelSize
from .subject import Subject

SHARING = "sv6d.verl_plugin.rollouts.manager.SharingManager"


class Held(NamedTuple):
    """Bytes of the fullest node's memory.

    Attributes:
        stored: pixels of the step's sequences that lie in TransferQueue there.
        ahead: of those that rollouts have written ahead of the step, at most.
        copied: what the trainer's ranks there take of the step.
        offloaded: parameters and optimizer, while vLLM has the GPUs.
        validated: pixels of a batch of validation, which is there when no step is.
    """

    stored: float
    ahead: float
    copied: float
    offloaded: float
    validated: float

    @property
    def total(self) -> float:
        return self.ahead + self.offloaded + max(self.stored + self.copied, self.validated)


def sequence_tokens(subject: Subject) -> float:
    """Vision tokens of a sequence, at most, in the mean over the tasks; a longer prompt than is allowed is skipped. Raises NotKnown
    where rows or model are not at hand, Unreadable where the rows cannot be read."""
    most = subject.config.data.max_prompt_length
    edge, by_task = token_edge(subject.config, subject.model_config), defaultdict(list)
    for row in subject.filmed:
        seconds = (row.get("extra_info") or {}).get("duration")
        made = [clip(options, seconds, edge) for options in subject.clips(row)]
        tokens = sum(one.frames // FRAMES_A_PATCH * one.pair_tokens for one in made)
        by_task[row["data_source"]].append(min(tokens, most))
    return mean(mean(tokens) for tokens in by_task.values()) if by_task else 0.0


def token_bytes(config: DictConfig, model: ModelSize) -> int:
    """Bytes of the pixels of one vision token on their way to the trainer: one a value where our rollouts send them, else eight, as
    verl stores float32 and, a second time, what SGLang would take."""
    ours = config.actor_rollout_ref.rollout.agent.agent_loop_manager_class == SHARING
    return model.patches * model.patch_values * (1 if ours else 8)


def node_memory(config: DictConfig, model: ModelSize, tokens: float, held_out: int = 0) -> Held:
    """What the fullest of the nodes holds in an update, where sequences have so many vision tokens, and in a validation on so many
    held-out rows."""
    sequence = tokens * token_bytes(config, model)
    step = sequence * config.data.train_batch_size * config.actor_rollout_ref.rollout.n
    units = config.transfer_queue.backend.SimpleStorage.num_data_storage_units
    there = -(-units // nodes_needed(config)) / units
    stored, validated = step * there, sequence * validation_batch(config, held_out) * there
    return Held(
        stored, stored * batches_ahead(config), step / config.trainer.nnodes, offloaded(config, model), validated
    )


def validation_batch(config: DictConfig, held_out: int) -> int:
    """Sequences that verl rolls out at once when it validates: of all held-out rows, where `data.val_batch_size` is not set."""
    if not config.trainer.val_before_train and config.trainer.test_freq <= 0:
        return 0
    return min(config.data.val_batch_size or held_out, held_out) * config.actor_rollout_ref.rollout.val_kwargs.n


def pixels(subject: Subject) -> Iterator[Finding]:
    """Pixels of a step, and what is offloaded, against the memory of a node."""
    config, model = subject.config, subject.model
    tokens = sequence_tokens(subject)
    if not tokens:
        return
    require_fsdp(config)
    held = node_memory(config, model, tokens, subject.held_out_count)
    size, told = _node(subject)
    text = (
        f"a sequence has up to {tokens:,.0f} vision tokens in the mean, whose pixels verl keeps in the nodes' memory, "
        f"{token_bytes(config, model) / 1024:.0f} KB each: {held.total / GB:,.1f} GB of a node ({told}): "
        f"{held.stored / GB:,.1f} of the step, {held.ahead / GB:,.1f} of rollouts ahead of it, {held.copied / GB:,.1f} copied for the "
        f"update, {held.offloaded / GB:,.1f} offloaded"
    )
    validates = held.validated > held.stored + held.copied
    if validates:
        text += f"; or, instead of the step's, {held.validated / GB:,.1f} of a batch of validation"
    if held.total <= TIGHT * size:
        yield note(text)
        return
    sure = held.total - held.ahead > size and told.startswith("of ")
    fewer = f"Set data.val_batch_size to {config.data.train_batch_size} or less. " if validates else ""
    yield (error if sure else warning)(
        f"{text}. A node that runs out of memory ends the run. {fewer}Lower sv6d.video_tokens or data.mixture.video.fps, or "
        f"sv6d.scale.prompts, or take more nodes than {counted(nodes_needed(config), 'node')}"
    )


def _node(subject: Subject) -> tuple[float, str]:
    """Bytes of a node's memory, and where the number is from."""
    if stated := subject.config.sv6d.get("node_gb"):
        return stated * GB, f"of {stated:g} GB"
    if subject.trains_here:
        size = usable_memory()
        return size, f"of {size / GB:,.0f} GB, as a process has on this one"
    return node_gb(subject.config) * GB, f"assumed to have {node_gb(subject.config):,} GB: sv6d.node_gb is not set"
