"""What a run may add to Table 3: the settings under `sv6d.beyond`, and those of verl that filter groups; each off by default
(docs/beyond-table3.md).

EMA-GRPO (OneThinker, arXiv 2512.03043) and the difficulty weights and length reward of VL-Cogito (arXiv 2507.22607). What they
do to advantages is in `advantages.py`. Nothing heavy is imported here, so that a recipe can be checked anywhere.
"""

from typing import Any, NamedTuple

from omegaconf import OmegaConf

from ...rewards import COMPONENTS
from ...schema.names import near_names
from ..settings import read_block, refuse_unknown, require

STAGES = "easy", "medium", "hard"


class TaskEma(NamedTuple):
    """EMA-GRPO. Attributes: `decay` of a task's moments, in (0, 1); `clip`, the largest advantage in size."""

    decay: float
    clip: float


class Difficulty(NamedTuple):
    """VL-Cogito's weights. Attributes: `stage`, one of `STAGES`; `all_wrong`, the hard stage's weight of a group that earns
    nothing, in [0, 1]."""

    stage: str
    all_wrong: float


class Length(NamedTuple):
    """VL-Cogito's length reward. Attributes: `weight` beside the reward, above 0; `correct`, the reward from which an answer
    counts as right, in (0, 1]; `target`, tokens that a prompt without a right answer is worth."""

    weight: float
    correct: float
    target: int


class GroupFiltering(NamedTuple):
    """DAPO's dynamic sampling, of verl's `algorithm.filter_groups`. Attributes: `metric`, equal in all samples of a group that
    teaches nothing; `batches`, how many times a task's share of a step may be replaced."""

    metric: str
    batches: int


class Beyond(NamedTuple):
    """None for what is off."""

    task_ema: TaskEma | None = None
    difficulty: Difficulty | None = None
    length: Length | None = None


_DEFAULTS: dict[str, dict[str, Any]] = {
    "task_ema": {"decay": None, "clip": 5.0},
    "difficulty": {"stage": None, "all_wrong": 0.25},
    "length": {"weight": 0, "correct": 0.5, "target": 750},
}


def read_settings(config) -> Beyond:
    """The settings of a run's whole config; all off where it has none.

    Raises:
        ValueError: an unknown key, a value out of its range, or an estimator that these options do not know.
    """
    given = read_block(config, "sv6d.beyond", _DEFAULTS)
    for name, defaults in _DEFAULTS.items():
        refuse_unknown(f"sv6d.beyond.{name}", given.get(name) or {}, defaults)
    values = {name: defaults | (given.get(name) or {}) for name, defaults in _DEFAULTS.items()}
    beyond = Beyond(_task_ema(**values["task_ema"]), _difficulty(**values["difficulty"]), _length(**values["length"]))
    if any(beyond):
        _refuse_other_estimators(config)
    return beyond


def read_filtering(config, *, synchronous: bool) -> GroupFiltering | None:
    """The filtering of groups beside `BalancedReplayBuffer`; None where it is off.

    Raises:
        ValueError: it has no metric or no limit, or the trainer is synchronous.
    """
    given = OmegaConf.select(config, "algorithm.filter_groups") or {}
    if not given.get("enable"):
        return None
    if synchronous:
        raise ValueError(
            "algorithm.filter_groups.enable: a synchronous step trains just what was dispatched for it, with nothing in the "
            "place of a group that is filtered out. Set it to False, or use sv6d_colocate_async or sv6d_separate_async, or "
            "leave trainer.v1.sampler.custom_sampler unset"
        )
    metric, batches = given.get("metric"), given.get("max_num_gen_batches", 0)
    if not metric:
        raise ValueError(
            "algorithm.filter_groups.metric is not set: what all samples of a group have equal when it teaches nothing. Set it "
            "to reward, or to a component of the reward"
        )
    ours = OmegaConf.select(config, "reward.reward_manager.name") == "sv6d"
    if ours and metric != "reward" and metric not in COMPONENTS:
        hint = near_names(metric, ["reward", *COMPONENTS])
        raise ValueError(f"algorithm.filter_groups.metric is {metric!r}, which no reward has; {hint}")
    model = OmegaConf.select(config, "reward.reward_model") or {}
    if model.get("enable") and not model.get("enable_resource_pool"):
        raise ValueError(
            "algorithm.filter_groups.enable: a reward model on the trainer's GPUs scores groups after they were chosen. Set "
            "reward.reward_model.enable_resource_pool to True, or the filtering off"
        )
    if not isinstance(batches, int) or batches < 1:
        raise ValueError(
            f"algorithm.filter_groups.max_num_gen_batches is {batches!r}: without a limit a task that is solved would be rolled "
            f"out for ever. Set it to how many times its share of a step may be replaced, 1 or more"
        )
    return GroupFiltering(str(metric), batches)


def _task_ema(decay, clip) -> TaskEma | None:
    if decay is None:
        return None
    require(
        "sv6d.beyond.task_ema.decay",
        decay,
        lambda value: 0 < value < 1,
        "between 0 and 1 (its paper has 0.99), or null for off",
    )
    require("sv6d.beyond.task_ema.clip", clip, lambda value: value > 0, "above 0 (its paper has 5)")
    return TaskEma(float(decay), float(clip))


def _difficulty(stage, all_wrong) -> Difficulty | None:
    if stage is None:
        return None
    if stage not in STAGES:
        raise ValueError(f"sv6d.beyond.difficulty.stage is {stage!r}; set it to {', '.join(STAGES)}, or null for off")
    require(
        "sv6d.beyond.difficulty.all_wrong",
        all_wrong,
        lambda value: 0 <= value <= 1,
        "from 0 to 1 (its authors have 0.25)",
    )
    return Difficulty(stage, float(all_wrong))


def _length(weight, correct, target) -> Length | None:
    require("sv6d.beyond.length.weight", weight, lambda value: value >= 0, "0 for off, or above (its authors have 0.5)")
    if weight == 0:
        return None
    require(
        "sv6d.beyond.length.correct", correct, lambda value: 0 < value <= 1, "above 0 and at most 1 (1: right or wrong)"
    )
    require(
        "sv6d.beyond.length.target",
        target,
        lambda value: value >= 1 and value == int(value),
        "a number of tokens, 1 or more",
    )
    return Length(float(weight), float(correct), int(target))


def _refuse_other_estimators(config) -> None:
    estimator = OmegaConf.select(config, "algorithm.adv_estimator")
    if estimator != "grpo":
        raise ValueError(
            f"algorithm.adv_estimator is {estimator!r}; sv6d.beyond changes the advantages of GRPO: set it to grpo, or "
            f"switch task_ema, difficulty and length off"
        )
