"""`sv6d schema TASK`: the JSON schema or regular expression that an answer to a task must keep to, for guided decoding."""

import json
from pathlib import Path

import click

from .answer_grammar import compact_constraint
from .answer_schema import LimitError, Limits, constraint
from .tasks import TASKS, TaskError, load_tasks
from .taxonomy import Taxonomy, TaxonomyError

_SECONDS, _COUNT = click.FloatRange(min=0, min_open=True), click.IntRange(min=1)


@click.command(name="schema", epilog=f"The tasks: {', '.join(TASKS)}.")
@click.argument("task")
@click.option(
    "--taxonomy",
    "taxonomy_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A taxonomy file in place of the packaged one; its tags become the enums.",
)
@click.option(
    "--tasks",
    "tasks_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A table of tasks in place of the packaged tasks.yaml.",
)
@click.option("--duration", type=_SECONDS, help="Length of the video in seconds: no time lies beyond it.")
@click.option(
    "--step",
    type=_SECONDS,
    help="With --duration: no segment ends before it starts, told apart in cells of so many seconds. A schema cannot "
    "compare two numbers, so each cell is spelled out; a segment within one cell cannot be said. 0.1 to 1 is sensible.",
)
@click.option(
    "--compact",
    is_flag=True,
    help="JSON as a grammar instead: without white space, as the prompt shows it, and quicker to read for a server.",
)
@click.option("--max-segments", type=_COUNT, help="At most so many segments.")
@click.option("--max-tags", type=_COUNT, help="At most so many tags where several apply.")
@click.option("--max-text", type=_COUNT, help="At most so many characters in a thought, and in its answer.")
def command(task: str, taxonomy_path: Path | None, tasks_path: Path | None, compact: bool, **limits):
    """Print what constrains an answer to TASK, ready for vLLM's structured outputs.

    Grounding and localization tasks print {"json": SCHEMA}, chain of thought prints {"regex": PATTERN}. OCR answers are
    free text: {} is printed. With --compact, JSON tasks print {"grammar": EBNF}.

    \b
    A request to a vLLM server:
      from openai import OpenAI
      constraint = json.loads(subprocess.check_output(["sv6d", "schema", "shot_framing"]))
      OpenAI(base_url=...).chat.completions.create(..., extra_body={"structured_outputs": constraint})
    In verl's rollouts:
      actor_rollout_ref.rollout.agent.default_agent_loop=sv6d_constrained
    """
    if limits["step"] and not limits["duration"]:
        raise click.UsageError("--step needs --duration: its cells must end somewhere")
    try:
        taxonomy = Taxonomy.load(taxonomy_path)
        tasks = load_tasks(tasks_path, taxonomy) if tasks_path else TASKS
        if task not in tasks:
            raise TaskError(f"unknown task {task!r}; the tasks are {', '.join(tasks)}")
        found = (compact_constraint if compact else constraint)(tasks[task], taxonomy, Limits(**limits))
    except (TaskError, TaxonomyError, LimitError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    if not found:
        click.echo(f"{task}: the answer is free text, there is nothing to constrain", err=True)
