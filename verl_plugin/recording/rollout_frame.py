"""A step's rollouts as a table, from what verl's trainer left in TransferQueue: columns as in `reports.recorder.schema()`.

Everything is computed on columns: a step of the report has 3,120 rollouts, and the trainer waits for their metrics.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import chain, zip_longest
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import GenerationConfig

from ...rewards import COMPONENTS
from ...rewards.verl_manager import TIMES
from ..replay_buffer import column


def rollout_frame(keys, tags, data, *, step: int, limits: Sequence[int], kl_of: Mapping[str, float]) -> pd.DataFrame:
    """One row a rollout, without texts. A component that is no number, as another package's reward may give it, is not known.

    Args:
        keys: TransferQueue keys, `<group>_<session>_<index>`.
        tags: the keys' tags (`response_len`, `min_global_steps`, `max_global_steps`).
        data: fields data_source, extra_info, extra_fields, rm_scores, response_mask, advantages; entropy optionally.
        step: the training step.
        limits: how many tokens each response could have; one of that length counts as truncated (see `ended_by_itself`).
        kl_of: the KL to the reference by key, of the rollouts that were measured (`KLTrainer`).
    """
    infos = [info or {} for info in column(data, "extra_info")]
    rewards = [extra.get("reward_extra_info") or {} for extra in column(data, "extra_fields")]
    mask, rows = _tokens(data["response_mask"])
    tokens = np.maximum(np.bincount(rows, mask, len(keys)), 1.0)

    def mean(name: str) -> np.ndarray:
        return np.bincount(rows, _tokens(data[name])[0] * mask, len(keys)) / tokens

    lengths = np.array([tag["response_len"] for tag in tags], dtype=np.int64)
    scores, scored = _tokens(data["rm_scores"])
    frame = pd.DataFrame(
        {
            "step": step,
            "uid": keys,
            "task": [str(task) for task in column(data, "data_source")],
            "dataset": [str(info.get("dataset") or "") for info in infos],
            "prompt": [str(info.get("id") or "") for info in infos],
            "group": [key.split("_")[0] for key in keys],
            "score": np.bincount(scored, scores, len(keys)),
            "response_length": lengths,
            "truncated": lengths >= np.asarray(limits),
            "entropy": mean("entropy") if "entropy" in data else np.nan,
            "kl": [kl_of.get(key, np.nan) for key in keys],
            "version_start": np.array([tag["min_global_steps"] for tag in tags], dtype=np.int64),
            "version_end": np.array([tag["max_global_steps"] for tag in tags], dtype=np.int64),
            "advantage": mean("advantages"),
        }
    )
    for name in (*COMPONENTS, *TIMES):
        if name != "score":
            frame[name] = _numbers([reward.get(name) for reward in rewards])
    judged = frame[
        "judge_seconds"
    ].notna()  # a response that was judged was read, so that only the judge can have failed
    frame["judge_failed"] = (frame["failed"] == 1.0).astype(object).where(judged, None)
    return frame


def _numbers(values: Sequence[Any]) -> np.ndarray:
    """Floats; NaN where there is no number."""
    return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(dtype=float)


def fresh_difference(tags, data, *, step: int) -> float | None:
    """The largest difference of a token's probability between rollout and actor, over the rollouts that the present
    policy wrote from end to end; None where there are none.

    verl's own `training/rollout_probs_diff_max` compares stale rollouts too, which differ as they should, and so says
    nothing of the weight sync when rollouts are asynchronous.
    """
    fresh = np.array([tag["min_global_steps"] == step - 1 for tag in tags])
    if not fresh.any():
        return None
    (rollout, rows), (actor, _), (mask, _) = (
        _tokens(data[name]) for name in ("rollout_log_probs", "old_log_probs", "response_mask")
    )
    difference = np.abs(np.exp(rollout) - np.exp(actor)) * mask
    return float(difference[fresh[rows]].max(initial=0.0))


def end_tokens(tokenizer: Any, model: str) -> set[int]:
    """The tokens that end a response: the tokenizer's, and those of the model's generation_config.json, at which vLLM stops too.

    Args:
        model: the model's folder; one without that file ends with the tokenizer's.
    """
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    with suppress(OSError):
        stated = GenerationConfig.from_pretrained(model).eos_token_id
        ends.update(stated if isinstance(stated, list) else [stated])
    return ends - {None}


def ended_by_itself(response: torch.Tensor, stops: Collection[int]) -> bool:
    """Whether a response as long as it could be ended there of its own accord. verl does not hand on why vLLM stopped."""
    return len(response) > 0 and int(response[-1]) in stops


def pick_texts(frame: pd.DataFrame, number: int | None, step: int) -> dict[int, bool]:
    """The rows whose text is kept, and whether by lot: of each task the best, the worst and two drawn from all of its rows,
    then the second best and worst and two more, and so on. The best and the worst are to be read; only the others tell what
    answers are like.

    Args:
        number: how many; None: all. With fewer than four a task, the tasks take turns by step.
    """
    if number is None or number >= len(frame):
        return dict.fromkeys(range(len(frame)), True)
    lot = np.random.default_rng(step)
    tasks = []
    for _, scores in frame.reset_index(drop=True).groupby("task", observed=True)["score"]:
        upwards = scores.sort_values(kind="stable").index.tolist()
        drawn = lot.permutation(upwards).tolist()
        tasks.append(
            [
                [(upwards[-1 - i], False), (upwards[i], False), *((row, True) for row in drawn[2 * i : 2 * i + 2])]
                for i in range((len(upwards) + 1) // 2)
            ]
        )
    start = step * max(number // 4, 1) % len(tasks)
    kept: dict[int, bool] = {}
    rounds = zip_longest(*tasks[start:], *tasks[:start], fillvalue=[])
    for row, by_lot in chain.from_iterable(chain.from_iterable(rounds)):
        if row not in kept and len(kept) == number:
            break
        kept[row] = kept.get(row, False) or by_lot
    return kept


def _tokens(nested: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The values of all rows one after another, and the row of each."""
    rows = nested.unbind()
    lengths = [len(row) for row in rows]
    values = torch.cat(rows) if rows else torch.empty(0)
    return values.double().numpy(), np.repeat(np.arange(len(rows)), lengths)
