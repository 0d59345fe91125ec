"""All rules in one table, and `diagnose`, which asks each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..runs import Run
from .answers import constant_tag, video_clock
from .curves import entropy_collapse, length_hacking, policy_collapse
from .evidence import Evidence
from .finding import LEVELS, Finding
from .rewards import constant_reward, dead_groups, reward_hacking, starved_task
from .scoring import failed_scoring, judge_drift, judge_failures, rollout_mismatch

RULES = (
    constant_reward,
    rollout_mismatch,
    policy_collapse,
    entropy_collapse,
    reward_hacking,
    constant_tag,
    length_hacking,
    dead_groups,
    starved_task,
    failed_scoring,
    judge_failures,
    judge_drift,
    video_clock,
)


def diagnose(
    run: Run, shown: dict[str, Any] | None = None, thresholds: Mapping[str, Mapping[str, float]] | None = None
) -> list[Finding]:
    """What is wrong with a run, the gravest first; rules that lacked data come last, as `unjudged`.

    Args:
        shown: `numbers(run)` where the caller has them; else they are made.
        thresholds: other thresholds, `{rule: {name: value}}`; `RULES` has the names and what they are otherwise.

    Raises:
        ValueError: a rule or a threshold that is none.
    """
    thresholds = thresholds or {}
    known = {rule.name: set(rule.thresholds) for rule in RULES}
    for name, values in thresholds.items():
        if name not in known:
            raise ValueError(f"no rule is called {name!r}; there are {', '.join(known)}")
        if wrong := set(values) - known[name]:
            raise ValueError(
                f"{name} has no threshold {', '.join(sorted(wrong))}; it has {', '.join(sorted(known[name]))}"
            )
    seen = Evidence.of(run, shown)
    findings = [finding for rule in RULES for finding in rule.judge(seen, **thresholds.get(rule.name, {}))]
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))
