"""One rank of a run that takes the first gradients of the same batch; `test_gradients.py` compares one rank's with two ranks'.

The engine is verl's own with the settings of the recipe `cpu_demo`, the loss verl's policy loss, the batch what verl's trainer hands to
an actor: texts, images, videos, and prompts of both, with answers of several lengths.
"""

from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

QUESTION = "When?"
# The media of each sequence. Two ranks hold four each, and in micro-batches of two meet other kinds at the same time: text and
# an image beside an image with a video; a video beside text.
KINDS = ["", "image", "video", "video", "image video", "image", "", ""]
MICRO_BATCH = 2


def write_media(folder: Path) -> None:
    noise = np.random.default_rng(0)
    Image.fromarray(noise.integers(0, 256, (64, 96, 3), np.uint8)).save(folder / "image.png")
    with av.open(str(folder / "video.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=4, options={"crf": "1"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(8):
            picture = noise.integers(0, 256, (64, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def sequences(folder: Path, config, model) -> list[dict]:
    """Prompt, answer and what the policy loss needs, of each sequence; all from one seed."""
    from sv6d.sft.prompt import Prompter

    prompter = Prompter(model.tokenizer, model.processor, config.data)
    chance = torch.Generator().manual_seed(0)
    sizes = {"min_pixels": 1024, "max_pixels": 64 * 64}
    found = []
    for number, kinds in enumerate(KINDS):
        row = {
            "prompt": [{"role": "user", "content": "".join(f"<{kind}>" for kind in kinds.split()) + QUESTION}],
            "images": [{"image": str(folder / "image.png"), **sizes}] if "image" in kinds else [],
            "videos": [{"video": str(folder / "video.mp4"), "fps": 2.0, **sizes}] if "video" in kinds else [],
        }
        prompt, media = prompter.prompt(row)
        answer = torch.randint(0, 200, (3 + number % 3,), generator=chance).tolist()
        ids = torch.tensor([*prompt, *answer])
        found.append(
            {
                "input_ids": ids,
                "position_ids": prompter.positions(ids, media),
                "loss_mask": torch.tensor([0] * len(prompt) + [1] * len(answer)),
                "prompts": torch.tensor(prompt),
                "responses": torch.tensor(answer),
                "response_mask": torch.ones(len(answer), dtype=torch.int64),
                "old_log_probs": torch.full((len(answer),), -5.0),
                "advantages": torch.full((len(answer),), 1.0 + number if number % 2 else -1.0 - number),
                "multi_modal_inputs": media,
            }
        )
    return found


def batch_of(rows: list[dict], config):
    from tensordict import NonTensorStack
    from verl.utils import tensordict_utils as tu

    tensors = {}
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name == "multi_modal_inputs":
            tensors[name] = NonTensorStack(*values)
        elif name == "position_ids":  # as the trainer's batch arrives, equal lengths included
            tensors[name] = (
                torch.nested.as_nested_tensor(values, layout=torch.jagged)
                if _equal(values)
                else (tu.nested_tensor_from_tensor_list(values, ragged_idx=2))
            )
        else:
            tensors[name] = torch.nested.as_nested_tensor(values, layout=torch.jagged)
    settings = {
        "use_dynamic_bsz": False,
        "micro_batch_size_per_gpu": MICRO_BATCH,
        "temperature": 1.0,
        "use_remove_padding": True,
        "use_fused_kernels": False,
        "calculate_entropy": False,
        "global_batch_size": len(KINDS),
    }
    return tu.get_tensordict(tensors, settings)


def _equal(values) -> bool:
    return len({value.shape for value in values}) == 1


def recipe(folder: Path):
    """The recipe's configuration; nothing is clipped, so that every sequence has a gradient."""
    from sv6d.recipes.compose import compose

    paths = [f"sv6d.data={folder}", f"sv6d.model={folder}/model", f"sv6d.run_dir={folder}"]
    unclipped = [f"actor_rollout_ref.actor.clip_ratio_{side}={bound}" for side, bound in (("low", 0.999), ("high", 99))]
    return compose("grpo", "cpu_demo", [*paths, *unclipped])


def start(actor, model):
    """verl's engine of an actor, or of a reference policy, with its weights loaded."""
    from verl.workers.engine import EngineRegistry

    engine = EngineRegistry.new(
        model_type="language_model",
        backend=actor.engine.strategy,
        model_config=model,
        engine_config=actor.engine,
        optimizer_config=actor.optim,
        checkpoint_config=actor.checkpoint,
    )
    engine.initialize()
    return engine


def first_gradients(rank: int, folder: str, ranks: int) -> None:
    """Save `gradients-<ranks>.pt` in the folder: each parameter's gradient by name, before any clipping."""
    import verl  # noqa: F401
    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.tensordict_utils import maybe_fix_3d_position_ids
    from verl.workers.utils.losses import ppo_loss

    torch.set_num_threads(1)
    folder = Path(folder)
    config = recipe(folder)
    model = omega_conf_to_dataclass(config.actor_rollout_ref.model)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    engine = start(actor, model)
    rows = sequences(folder, config, model)
    own = len(rows) // ranks
    batch = batch_of(rows[rank * own : (rank + 1) * own], config)
    maybe_fix_3d_position_ids(batch)
    with engine.train_mode():
        engine.optimizer_zero_grad()
        engine.forward_backward_batch(batch, partial(ppo_loss, actor))
        gradients = {
            name: parameter.grad.full_tensor() if hasattr(parameter.grad, "full_tensor") else parameter.grad
            for name, parameter in engine.module.named_parameters()
            if parameter.grad is not None
        }
    if rank == 0:
        torch.save(gradients, folder / f"gradients-{ranks}.pt")


def reference_policy(rank: int, folder: str, mended: bool) -> None:
    """Start the engine that only runs forward, as verl does for the reference policy."""
    import verl  # noqa: F401
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.engine.fsdp import transformer_impl

    if not mended:
        transformer_impl.CPUOffloadPolicy = transformer_impl.CPUOffloadPolicy.__sv6d_original__
    config = recipe(Path(folder))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    object.__setattr__(actor.engine, "forward_only", True)
    start(actor, omega_conf_to_dataclass(config.actor_rollout_ref.model))
