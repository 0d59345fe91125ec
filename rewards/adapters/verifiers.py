"""The rewards in verifiers and prime-rl: `vf.SingleTurnEnv(dataset=..., rubric=rubric())`."""

from collections.abc import Callable, Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from ..families import COMPONENTS
from .rows import RowScorer

if TYPE_CHECKING:
    import verifiers as vf

KEY = "sv6d"
"""Where the components of a rollout stand in its state, NaN where one does not apply."""


def rubric(settings: Mapping[str, Any] | None = None, *, task: str | None = None) -> "vf.Rubric":
    """A rubric of one reward, `sv6d`, and a metric of weight 0 for each other component.

    Each row's `answer` is its ground truth (as text). Its task stands in `info["task"]`, else in the column `task`, which
    an environment group overwrites. A row that cannot be scored earns 0 and counts in the metric `failed`. verifiers
    multiplies metrics by their weights, so one that does not apply is 0 there, not NaN; `state["sv6d"]` tells the two
    apart. An exception of a reward is only logged by verifiers, so a judge that fails too often does not end the run: its
    fallback goes on, and `failed` shows it.

    Args:
        settings: the fields of `RewardConfig`; `taxonomy`, `judge`, `time_limit`, as in verl's `reward_kwargs`.
        task: the task of every row.

    Raises:
        RewardConfigError, TaxonomyError, PluginError: a wrong setting, before anything is scored.
        ImportError: verifiers is not installed.
    """
    try:
        import verifiers as vf
    except ImportError as error:
        raise ImportError("verifiers is not installed: pip install verifiers") from error
    rows = RowScorer(settings, task, outlive_judge=True)

    async def sv6d(completion, answer, state, info, task) -> float:
        named = info.get("task") if isinstance(info, Mapping) else None
        score = await rows.score(named or task, completion, answer)
        state[KEY] = score.components
        return score.value

    metrics = [_metric(name) for name in COMPONENTS if name != "score"]
    return vf.Rubric(funcs=[sv6d, *metrics], weights=[1.0] + [0.0] * len(metrics))


def _metric(component: str) -> Callable:
    def metric(state) -> float:
        value = state[KEY][component]
        return 0.0 if isnan(value) else value

    metric.__name__ = component
    return metric
