"""A batch of three rollouts as it lies in TransferQueue once the advantages are there, small enough to work out by hand."""

import math

import torch
from sv6d.rewards import COMPONENTS

NAN = math.nan


def components(score, **known):
    known = {"failed": 0.0, "reward_seconds": 0.01} | known
    return {name: known.get(name, NAN) for name in (*COMPONENTS, "reward_seconds", "judge_seconds")} | {"score": score}


def batch():
    """Three rollouts of two prompts: two of the group `a` (OCR), one of `b` (a cut task)."""
    keys = ["a_0_0", "a_1_0", "b_0_0"]
    tags = [
        {"prompt_len": 9, "response_len": 2, "min_global_steps": 3, "max_global_steps": 3},
        {"prompt_len": 9, "response_len": 4, "min_global_steps": 3, "max_global_steps": 4},
        {"prompt_len": 9, "response_len": 3, "min_global_steps": 2, "max_global_steps": 4},
    ]
    data = {
        "data_source": ["ocr_regular", "ocr_regular", "cut_point_detection"],
        "extra_info": [{"dataset": "demo"}, {"dataset": "demo"}, {}],
        "extra_fields": [
            {"reward_extra_info": components(1.0, similarity=1.0)},
            {"reward_extra_info": components(0.5, similarity=0.5)},
            {"reward_extra_info": components(0.25, iou=0.5, label=0.0, format=1.0)},
        ],
        "rm_scores": torch.tensor([[0.0, 1.0, 0, 0], [0, 0, 0, 0.5], [0, 0, 0.25, 0]]),
        "response_mask": torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]),
        "advantages": torch.tensor([[1.0, 1, 9, 9], [-1, -1, -1, -1], [0, 0, 0, 9]]),
        # mean over the response: 2; 1; 0.5
        "entropy": torch.tensor([[1.0, 3, 9, 9], [1, 1, 1, 1], [0.5, 0.5, 0.5, 9]]),
        # the rollout is sure of every token; the actor gives the second token of the last rollout .75
        "rollout_log_probs": torch.zeros(3, 4),
        "old_log_probs": torch.tensor([[0.0, 0, -9, -9], [0, 0, 0, 0], [0, 0.75, 0, -9]]).where(
            torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 1]]).bool(), torch.tensor(0.75).log()
        ),
        "responses": torch.nested.as_nested_tensor([torch.tensor(ids) for ids in ([5, 6], [5, 6, 7, 8], [9, 9, 9])]),
        "reward_model": [{"ground_truth": "56"}, {"ground_truth": "56"}, {"ground_truth": [{"start": 0}]}],
    }
    return keys, tags, Columns(data)


class Columns(dict):
    """A TransferQueue batch: columns that are asked for by name."""
