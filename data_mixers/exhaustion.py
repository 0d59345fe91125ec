"""When the rows of a task are used up, and what becomes of the stream then; known before the run from sizes and weights."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

from .schedules.plan import Plan
from .segments import ahead, weighing

Policy = Literal["repeat", "stop", "renormalise"]


class Exhaustion(NamedTuple):
    """A task whose rows have all been drawn: `position` is the first after its last new row."""

    task: str
    position: int


def use_up(plan: Plan, sizes: Mapping[str, int], exhausted: str) -> tuple[Plan, tuple[Exhaustion, ...], int | None]:
    """The plan as the sources allow it, when each is used up, and the stream's length."""
    if exhausted not in get_args(Policy):
        raise ValueError(f"exhausted is {exhausted!r}; set it to repeat, stop or renormalise")
    if exhausted == "renormalise":
        return _renormalise(plan, sizes)
    found = _exhaustions(plan, sizes, plan.tasks)
    again = (plan.position_of(task, sizes[task]) for task, _ in found)  # None: the task is never drawn again
    length = min((position for position in again if position is not None), default=None)
    return plan, found, None if exhausted == "repeat" else length


def _renormalise(agreed: Plan, sizes: Mapping[str, int]) -> tuple[Plan, tuple[Exhaustion, ...], int | None]:
    """The plan with each task leaving when it is used up; changes of weights keep their positions among that."""
    planned, *changed = agreed.chapters
    changes = [chapter[-1] for chapter in changed]
    if changes:
        plan = Plan([weighing(agreed.tasks, segment) for segment in planned], agreed.mode, agreed.max_period)
    else:
        plan = agreed
    left, found = list(agreed.tasks), []
    while True:
        upcoming = _exhaustions(plan, sizes, left)
        if changes and (not upcoming or changes[0].start < upcoming[0].position):
            change = changes.pop(0)
            position, weights = change.start, {task: change.weights.get(task, 0) for task in left}
            if not any(weights.values()):
                return plan, tuple(found), position
            plan = plan.change(position, weights, change.ramp)
        elif upcoming:
            found.append(upcoming[0])
            task, position = upcoming[0]
            left.remove(task)
            if not any(segment.weights.get(other) for segment in ahead(plan, position) for other in left):
                return plan, tuple(found), position
            plan = plan.leave(position, task)
        else:
            return plan, tuple(found), None


def _exhaustions(plan: Plan, sizes: Mapping[str, int], tasks: Iterable[str]) -> tuple[Exhaustion, ...]:
    last = ((task, plan.position_of(task, sizes[task] - 1)) for task in tasks)
    found = [Exhaustion(task, position + 1) for task, position in last if position is not None]
    return tuple(sorted(found, key=lambda each: each.position))
