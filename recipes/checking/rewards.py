"""The rewards (Table 4) before they are paid out: settings that are read, gold answers that earn 1, a judge that answers."""

import json
import os
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from math import isclose
from typing import Any

from omegaconf import OmegaConf

from ...rewards.config import RewardConfigError, settings_dict
from ...rewards.families import PluginError
from ...rewards.judging.config import JudgeConfig
from ...rewards.judging.health import JudgeStopped
from ...rewards.judging.served import require_that_verl_asks
from ...rewards.scorer import Scorer
from ...schema import TASKS, TaxonomyError
from .finding import Finding, error, note, warning
from .subject import Subject

PROBE_SECONDS = 20.0
THOUGHT = "The video shows it."
BESIDE = ("judge", "time_limit")
"""Settings that stand beside those of `Scorer` in `reward.reward_kwargs`."""


def settings(subject: Subject) -> Iterator[Finding]:
    """`reward.reward_kwargs` is read as the reward manager will read it."""
    manager = subject.config.reward.reward_manager
    if manager.name != "sv6d":
        yield note(f"reward.reward_manager.name={manager.name}: not ours, so what it pays is not checked")
        return
    try:
        _scorer(subject)
        judge = JudgeConfig.read(_given(subject).get("judge"))
    except (RewardConfigError, TaxonomyError, PluginError) as wrong:
        yield error(f"reward.reward_kwargs: {wrong}")
        return
    try:
        require_that_verl_asks(subject.config)
    except RewardConfigError as wrong:
        yield error(str(wrong))
    mode = subject.config.trainer.v1.trainer_mode
    if judge.fallback == "mask" and not mode.startswith("sv6d_"):
        yield error(
            f"reward.reward_kwargs.judge.fallback=mask takes one of our trainers, which leave masked samples out of their groups, and "
            f"trainer.v1.trainer_mode={mode}: set it to sv6d_{mode}, or judge.fallback=exact"
        )


def gold_answers(subject: Subject) -> Iterator[Finding]:
    """The true answer of a sampled row earns 1.0: else no policy can, and the row teaches something else."""
    if subject.config.reward.reward_manager.name != "sv6d":
        return
    try:
        scorer = _scorer(subject)
    except (RewardConfigError, TaxonomyError, PluginError):
        return  # `settings` says so
    rows = [row for row in subject.sample if row["data_source"] in TASKS]
    short: dict[str, list[str]] = {}
    for row in rows:
        if reason := _why_less_than_one(scorer, row):
            short.setdefault(row["data_source"], []).append(reason)
    sampled = Counter(row["data_source"] for row in rows)
    for task, reasons in short.items():
        yield error(
            f"the true answer itself does not earn 1 in {len(reasons)} of {sampled[task]} sampled rows of {task}: {reasons[0]}. Mend "
            f"the ground truth, or the reward settings (reward.reward_kwargs); `sv6d score --explain` shows where it loses"
        )
    if not short:
        yield note(f"the true answers of {len(rows)} sampled rows earn 1.0")


def _why_less_than_one(scorer: Scorer, row: dict[str, Any]) -> str | None:
    task, truth = row["data_source"], row["reward_model"]["ground_truth"]
    where = f"row {row['extra_info']['index']} (id {row['extra_info']['id']!r}), {truth[:120]!r}"
    try:
        value = scorer.score(task, gold_answer(task, truth), truth).value
    except ValueError as fault:
        return f"{where} cannot be scored: {fault}"
    return None if isclose(value, 1.0, abs_tol=1e-6) else f"{where} earns {value:.3f}"


def gold_answer(task: str, truth: str) -> str:
    """The answer that a perfect model gives."""
    reasons = TASKS[task].family == "chain_of_thought"
    return f"<think>{THOUGHT}</think><answer>{truth}</answer>" if reasons else truth


def judge(subject: Subject) -> Iterator[Finding]:
    """The judge's endpoint is up, serves the model, and gives a true answer the best grade."""
    try:
        given = _given(subject).get("judge")
        config = None if given is None else JudgeConfig.read(given)
    except RewardConfigError:
        return  # `settings` says so
    if config is None or not config.url:
        if subject.config.reward.reward_model.enable:
            yield note("the judge is served by the run itself (reward.reward_model): it cannot be asked before")
        elif config is not None:
            yield error(
                "reward.reward_kwargs.judge has no url, and the run serves no model either (reward.reward_model.enable=false); give "
                "judge.url and judge.model, or take judge out for the rule judge"
            )
        else:
            yield note("reasoning is judged by rules: no model is asked")
        return
    wrong = reach(config)
    if wrong is not None:
        yield wrong
        return
    yield from _ask(config, _reasoning(subject))


def reach(config: JudgeConfig) -> Finding | None:
    """Ask the endpoint for its models; None where the judge's is among them."""
    address = f"{config.url.rstrip('/')}/models"
    try:
        served = [str(model.get("id")) for model in _get(config, address)["data"]]
    except urllib.error.HTTPError as refused:
        if refused.code in {401, 403}:
            return error(
                f"the judge at {config.url} refuses the key in {config.api_key_env} ({refused.code}): set that variable to a valid "
                f"one, also in sv6d.env so that every node has it"
            )
        if refused.code in {404, 405}:
            return None  # not every endpoint lists its models; the question that follows tells
        return error(f"the judge at {address} answers {refused.code} {refused.reason}: look at its log")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as failed:
        reason = getattr(failed, "reason", failed)
        return error(
            f"the judge cannot be reached at {address}: {reason}. Start it, mend reward.reward_kwargs.judge.url, or take judge out "
            f"for the rule judge"
        )
    if config.model not in served:
        return error(
            f"the judge at {config.url} serves {', '.join(served) or 'no model'}, and not {config.model!r}: set "
            f"reward.reward_kwargs.judge.model to one of them"
        )
    return None


def _get(config: JudgeConfig, address: str) -> Any:
    key = os.environ.get(config.api_key_env) or "none"
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as reply:
        return json.loads(reply.read())


def _ask(config: JudgeConfig, truth: str) -> Iterator[Finding]:
    """One real question, with the settings of the run but for its patience."""
    from ...rewards.judging.endpoint import EndpointJudge

    impatient = replace(
        config, attempts=1, request_seconds=min(config.request_seconds, PROBE_SECONDS), cache=None,
        window=1, min_failures=1, max_failure_rate=0.0,
    )  # fmt: skip
    try:
        asked = EndpointJudge(impatient)
    except ImportError as missing:
        yield error(str(missing))
        return
    try:
        value = asked.verdict(truth, truth).value
    except JudgeStopped as failed:
        fault = str(failed).partition("last: ")[2].partition(". Endpoint")[0]
        yield error(f"the judge {config.model} at {config.url} gave no verdict: {fault}")
        return
    finally:
        asked.close()
    if value < max(config.grades):
        yield warning(
            f"the judge {config.model} gives the true answer {truth!r:.60} a grade of {value:g} of {max(config.grades):g}: it may be "
            f"too small a model, or judge.rubric unclear"
        )
    else:
        yield note(f"the judge {config.model} at {config.url} gives a true answer the best grade")


def _reasoning(subject: Subject) -> str:
    """A true answer of a sampled reasoning row; "B" where there is none."""
    for row in subject.sample:
        if row["data_source"] in TASKS and TASKS[row["data_source"]].family == "chain_of_thought":
            return row["reward_model"]["ground_truth"]
    return "B"


def _given(subject: Subject) -> dict[str, Any]:
    return settings_dict(OmegaConf.select(subject.config, "reward.reward_kwargs"))


def _scorer(subject: Subject) -> Scorer:
    given = _given(subject)
    return Scorer({key: value for key, value in given.items() if key not in BESIDE}, beside=BESIDE)
