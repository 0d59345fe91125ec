"""The table of all checks, and the ways to run it: all of them (`check`), or those of a second before a run starts (`quick`)."""

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from omegaconf import DictConfig

from ..compose import RecipeError
from . import (
    asynchrony,
    batch,
    beyond,
    context,
    data,
    disk,
    environment,
    host,
    inputs,
    keys,
    media,
    memory,
    model_files,
    rewards,
)
from .finding import Finding, NotKnown, error, note
from .subject import Subject

SKIPPED = "not checked"
"""How the note of a check begins that lacked what it looks at."""


class Check(NamedTuple):
    """One check.

    Attributes:
        name: as the table prints it.
        function: looks at a subject and says what it found.
        needs: "" for nothing but the recipe, the model's configuration and the rows; "media" opens media files; "cluster" asks
            the nodes of a Ray cluster.
        quick: whether `sv6d grpo` runs it before it trains: it takes a second and needs no model files but config.json.
    """

    name: str
    function: Callable[[Subject], Iterable[Finding]]
    needs: Literal["", "media", "cluster"] = ""
    quick: bool = False


CHECKS = (
    Check("inputs", inputs.present, quick=True),
    Check("keys", keys.unknown_keys, quick=True),
    Check("values", keys.wrong_kinds, quick=True),
    Check("group", batch.signal, quick=True),
    Check("batch", batch.step, quick=True),
    Check("micro-batches", batch.micro_batches, quick=True),
    Check("trainer mode", asynchrony.trainer_mode, quick=True),
    Check("separate nodes", asynchrony.separate, quick=True),
    Check("replicas", asynchrony.replicas, quick=True),
    Check("staleness", asynchrony.staleness, quick=True),
    Check("beyond Table 3", beyond.settings, quick=True),
    Check("lengths", context.lengths, quick=True),
    Check("positions", context.positions, quick=True),
    Check("quotas", data.quotas, quick=True),
    Check("rows", data.rows),
    Check("held-out rows", data.held_out),
    Check("vision tokens", context.vision),
    Check("training memory", memory.training),
    Check("rollout memory", memory.rollouts),
    Check("host memory", host.pixels, quick=True),
    Check("disk", disk.free_disk),
    Check("reward settings", rewards.settings, quick=True),
    Check("gold answers", rewards.gold_answers),
    Check("judge", rewards.judge),
    Check("tokenizer", model_files.tokenizer),
    Check("chat template", model_files.chat_template),
    Check("patches", model_files.patches),
    Check("media files", data.media_files, "media"),
    Check("decoding", media.decodable, "media"),
    Check("durations", media.durations, "media"),
    Check("prompts", media.prompts, "media"),
    Check("GPUs", inputs.gpus),
    Check("plug-in", environment.plug_in),
    Check("names", environment.names),
    Check("loggers", environment.loggers, quick=True),
    Check("verl's settings", environment.verl_settings),
    Check("nodes", environment.nodes, "cluster"),
)


def check(
    config: DictConfig,
    media: bool = True,
    cluster: bool = False,
    sample: int = 26,
    seed: int = 0,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Iterator[Finding]:
    """Check a composed GRPO recipe; findings come as they are made, in the order of the table.

    Args:
        media: whether to open media files.
        cluster: whether to ask the nodes of the Ray cluster that the recipe would use.
        sample: rows that are looked at closely, evenly over the tasks.
        seed: of that sample.
        progress: told (what, done, of how many).
    """
    subject = Subject(config, sample, seed, progress)
    environment.ask_verl()
    for number, one in enumerate(CHECKS):
        if (one.needs == "media" and not media) or (one.needs == "cluster" and not cluster):
            continue
        progress(one.name, number, len(CHECKS))
        yield from run(one, subject)


def quick(config: DictConfig) -> list[Finding]:
    """The checks of a second that `sv6d grpo` makes before it trains. Returns what they say, errors excepted.

    Raises:
        RecipeError: the run would fail or be another than the recipe says; every reason, a line each.
    """
    subject = Subject(config)
    found = [finding for one in CHECKS if one.quick for finding in run(one, subject)]
    found += run(Check("GPUs", lambda subject: inputs.enough_gpus(subject.config)), subject)
    refuse(found)
    return found


def run(one: Check, subject: Subject) -> Iterator[Finding]:
    """One check's findings, under its name. What it cannot look at is a note; its own fault is an error, and stops no other:
    unless it stumbled over a value that cannot be reckoned with, which a check of its own names."""
    try:
        for finding in one.function(subject):
            yield finding._replace(check=one.name)
    except NotKnown as missing:
        yield note(f"{SKIPPED}: {missing}")._replace(check=one.name)
    except Exception as fault:  # whatever a broken file makes of a check
        unusable = (finding for find in (keys.wrong_kinds, batch.signal) for finding in find(subject))
        if subject and (named := next(unusable, None)):
            yield note(f"{SKIPPED}: {named.text.partition(';')[0].partition(':')[0]}")._replace(check=one.name)
            return
        yield error(f"the check itself failed: {type(fault).__name__}: {fault}")._replace(check=one.name)


def refuse(findings: Iterable[Finding]) -> None:
    """Raises RecipeError with all errors among the findings, where there are some."""
    errors = [_named(finding) for finding in findings if finding.level == "error"]
    if len(errors) == 1:
        raise RecipeError(errors[0])
    if errors:
        raise RecipeError("\n- ".join([f"{len(errors)} reasons not to start:", *errors]))


def line(finding: Finding) -> str:
    """A finding as a line of text."""
    return f"{finding.level}: {_named(finding)}"


def _named(finding: Finding) -> str:
    return f"{finding.check}: {finding.text}" if finding.check else finding.text
