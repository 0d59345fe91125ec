"""Which of several checkpoints is best on held-out rows: the loss of the true answers, and the reward of the model's own.

For `sv6d average --validate`: the average is compared with each of its ingredients (5.1.2). One model is loaded at a time.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..rewards import score
from ..rewards.families import find_taxonomy
from .rows import Row

MEDIA = ("pixel_values", "pixel_values_videos", "image_grid_thw", "video_grid_thw")


class Validated(NamedTuple):
    """One model on the rows."""

    model: str
    loss: float
    """Mean over rows of the mean negative log-likelihood of the answer's tokens, nats; NaN where no row has an answer."""
    reward: float
    """Mean over tasks of the mean reward of a greedy answer, in [0, 1] (Table 4)."""
    by_task: dict[str, float]
    """Reward by task."""


def validate(
    models: Sequence[Path],
    rows: Sequence[Row],
    data: dict[str, Any],
    max_new_tokens: int,
    advance: Callable[[], None] = lambda: None,
) -> list[Validated]:
    """
    Args:
        models: Hugging Face folders.
        rows: RL or SFT rows with absolute media; only SFT rows have a loss.
        data: verl's `data` block that the models were trained with; says how media are sampled and sized, and which
            taxonomy the truths use.
        max_new_tokens: of an answer.
        advance: called for each row and model.
    """
    return [_validate(Path(model), rows, data, max_new_tokens, advance) for model in models]


def _validate(
    path: Path, rows: Sequence[Row], data: dict[str, Any], limit: int, advance: Callable[[], None]
) -> Validated:
    import torch
    from omegaconf import OmegaConf
    from transformers import AutoModelForImageTextToText
    from transformers.utils import logging
    from verl.utils.tokenizer import hf_processor, hf_tokenizer

    from .prompt import Prompter

    logging.disable_progress_bar()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=dtype, attn_implementation="sdpa").to(device).eval()
    tokenizer = hf_tokenizer(str(path))
    prompter = Prompter(tokenizer, hf_processor(str(path)), OmegaConf.create(data))
    taxonomy = find_taxonomy((data.get("mixture") or {}).get("taxonomy"))
    losses, rewards = [], defaultdict(list)
    for row in rows:
        prompt, features = prompter.prompt(row)
        media = {name: value.to(device) for name, value in features.items() if name in MEDIA}
        with torch.inference_mode():
            if row.get("messages"):
                losses.append(
                    _loss(model, prompter, tokenizer, prompt, row["messages"][-1]["content"], features, media)
                )
            answer = _answer(model, prompter, tokenizer, prompt, media, limit)
        truth = row["reward_model"]["ground_truth"]
        rewards[row["data_source"]].append(score(row["data_source"], answer, truth, taxonomy=taxonomy).value)
        advance()
    by_task = {task: _mean(values) for task, values in rewards.items()}
    return Validated(str(path), _mean(losses), _mean(by_task.values()), by_task)


def _loss(model, prompter, tokenizer, prompt, answer, features, media) -> float:
    import torch

    said = [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    ids = torch.tensor([*prompt, *said])
    positions = prompter.positions(ids, features).to(model.device)
    positions = positions[:, None] if positions.ndim == 2 else positions[None]
    logits = model(input_ids=ids[None].to(model.device), position_ids=positions, **media).logits[
        0, len(prompt) - 1 : -1
    ]
    return float(torch.nn.functional.cross_entropy(logits.float(), torch.tensor(said, device=logits.device)))


def _answer(model, prompter, tokenizer, prompt, media, limit) -> str:
    import torch

    ids = torch.tensor(prompt)[None].to(model.device)
    kinds = prompter.kinds(ids[0].cpu())[None].to(model.device)
    told = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=kinds,
        **media,
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer.decode(told[0, ids.shape[1] :], skip_special_tokens=True)


def _mean(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan
