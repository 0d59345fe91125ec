"""This machine and the cluster: is the plug-in in place wherever verl runs, and do the nodes agree?"""

from collections.abc import Iterator
from functools import cache

from ..compose import RecipeError
from .finding import Finding, counted, error, note
from .subject import Subject


def plug_in(subject: Subject) -> Iterator[Finding]:
    """`import verl` in a fresh process brings the plug-in, which registers what the recipe names."""
    answer = _probe()
    for problem in answer["problems"]:
        yield error(f"in a fresh process the plug-in is not in place: {problem}. `sv6d doctor` says how to mend it")
    failed = [
        f"{name} ({state})" for name, state in answer.get("mends", {}).items() if state.startswith(("failed", "not l"))
    ]
    if failed:
        yield error(f"mends of verl that did not take: {', '.join(failed)}. `sv6d doctor` says how to mend it")
    if answer["loaded"] and not answer["problems"] and not failed:
        yield note(f"a fresh process of verl has the plug-in; platform {answer.get('platform', 'not told')}")


@cache
def _probe() -> dict:
    from ...verl_plugin.doctor import run_probe

    return run_probe("verl")


def nodes(subject: Subject) -> Iterator[Finding]:
    """Every node of the Ray cluster: plug-in, versions, environment, shared folders, and room for the recipe's GPUs."""
    from ..launching.nodes import disagreements, inspect_nodes, shortage

    try:
        reports = inspect_nodes(subject.config, wait=0)
    except RecipeError as missing:
        yield error(str(missing.message))
        return
    wrong = [*shortage(subject.config, reports), *disagreements(reports)]
    yield from map(error, wrong)
    if not wrong:
        gpus = int(sum(report.gpus for report in reports))
        yield note(
            f"plug-in, versions, environment and folders agree on {counted(len(reports), 'node')} with {counted(gpus, 'GPU')}"
        )
