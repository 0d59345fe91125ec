"""The rows (section 5.2.4): do they fit the schema, is there every task, and how often is each row seen in the run?"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from omegaconf import DictConfig, OmegaConf

from ...data_mixers.mixture import Mixture
from ...data_mixers.sources import TOLERANCE, Inspection
from ...schema import TASKS
from .finding import Finding, Unreadable, error, note, warning
from .subject import Subject

THEN = {
    "repeat": "the next pass over them begins",
    "renormalise": "the others go on without them",
    "stop": "the stream ends at the next draw of one of them",
}
MANY_PASSES = 10
"""Passes over a task's rows beyond which a policy may learn them by heart."""


def rows(subject: Subject) -> Iterator[Finding]:
    """Every row against the schema: its task, its ground truth, the places of its media in the prompt."""
    yield from _against_the_schema(lambda: subject.rows, "rows")


def held_out(subject: Subject) -> Iterator[Finding]:
    """As `rows`, of the rows that the run is validated on: it does not start without them."""
    yield from _against_the_schema(lambda: subject.held_out, "held-out rows")


def _against_the_schema(read: Callable[[], Inspection], of: str) -> Iterator[Finding]:
    try:
        found = read()
    except Unreadable as wrong:
        yield error(str(wrong))
        return
    sizes = Counter(row["data_source"] for row in found.rows)
    for index, reason in list(found.homeless.items())[:3]:
        yield error(f"{len(found.homeless)} {of} are of no task, at which training stops, as row {index}: {reason}")
    by_task: dict[str, list[str]] = {}
    for index, reason in found.broken.items():
        by_task.setdefault(found.rows[index]["data_source"], []).append(reason)
    for task, reasons in by_task.items():
        many = len(reasons) > TOLERANCE * sizes[task]
        yield (error if many else warning)(
            f"{len(reasons)} of {sizes[task]} {of} of {task} are broken"
            f"{f', more than {TOLERANCE:.0%}, at which training stops' if many else ' and will be skipped'}, as {reasons[0]}"
        )
    if not found.homeless and not found.broken:
        yield note(f"{len(found.rows):,} {of} of {len(sizes)} tasks fit the schema")


def media_files(subject: Subject) -> Iterator[Finding]:
    """Every media file is where its row says."""
    found = subject.rows
    sizes = Counter(row["data_source"] for row in found.rows)
    lacking: dict[str, list[str]] = {}
    for index, reason in found.missing.items():
        lacking.setdefault(found.rows[index]["data_source"], []).append(reason)
    for task, reasons in lacking.items():
        many = len(reasons) > TOLERANCE * sizes[task]
        yield (error if many else warning)(
            f"{len(reasons)} of {sizes[task]} rows of {task} lack their media"
            f"{'; were the media moved without the row files?' if many else ' and will be skipped'} The first: {reasons[0]}"
        )


def quotas(subject: Subject) -> Iterator[Finding]:
    """Rows of each task against what the whole run draws of it, and when a task's rows are used up."""
    config = subject.config
    if config.data.custom_cls.name != "MixtureDataset":
        yield note(f"data.custom_cls.name={config.data.custom_cls.name}: which rows it draws is not known here")
        return
    try:
        sizes = subject.task_counts
    except Unreadable as wrong:
        yield error(str(wrong))
        return
    yield from _missing_tasks(config, sizes)
    settings = OmegaConf.to_container(config.data.mixture, resolve=True)
    chosen = {key: settings[key] for key in ("weights", "seed", "exhausted", "mode") if key in settings}
    try:
        mixture = Mixture(sizes, **chosen)
        mixture.require(settings["length"], config.data.train_batch_size)
    except ValueError as wrong:
        yield error(f"data.mixture: {wrong}")
        return
    prompts, steps = config.data.train_batch_size, config.trainer.total_training_steps
    passes = mixture.epochs(steps * prompts)
    most = max(passes, key=passes.get)
    drawn = mixture.requested(0, steps * prompts)
    text = f"{steps} steps draw {drawn[most]:,} prompts of {most}, which has {sizes[most]:,} rows: {passes[most]:.1f} passes"
    if passes[most] > MANY_PASSES:
        often = sum(value > MANY_PASSES for value in passes.values())
        yield warning(
            f"{text}, the most of {len(sizes)} tasks ({often} have more than {MANY_PASSES}); a policy may learn them by heart. Give "
            f"it rows, or lower data.mixture.weights.{most} or trainer.total_training_steps"
        )
    else:
        yield note(f"{text}, the most of {len(sizes)} tasks")
    if used_up := foretell(mixture, steps, prompts):
        yield note(used_up)


def foretell(mixture: Mixture, steps: int, prompts: int) -> str | None:
    """Which tasks' rows are used up during a run of so many steps, and at which step; None where no task's are."""
    used_up = [f"{task} in step {at // prompts + 1}" for task, at in mixture.exhaustions if at < steps * prompts]
    if not used_up:
        return None
    few = f"{', '.join(used_up[:3])}{f' and {len(used_up) - 3} more' if len(used_up) > 3 else ''}"
    then = THEN[mixture.exhausted]
    return f"every row is used once: {few}; then {then} (data.mixture.exhausted={mixture.exhausted})"


def _missing_tasks(config: DictConfig, sizes: Mapping[str, int]) -> Iterator[Finding]:
    wanted = config.get("sv6d", {}).get("tasks", len(sizes))
    if len(sizes) == wanted:
        return
    lacking = [task for task in TASKS if task not in sizes]
    prompts = config.data.train_batch_size
    yield warning(
        f"the rows are of {len(sizes)} tasks and sv6d.tasks={wanted}: a step of {prompts} prompts then has about "
        f"{prompts / len(sizes):.4g} of each instead of {prompts / wanted:.4g}. Add rows of {', '.join(lacking) or 'the others'}, "
        f"or set sv6d.tasks={len(sizes)}"
    )
