"""`sv6d fit-weights FILE`: the weights w_k of eq. 9 from people's scores or preferences, and whether they help."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ..schema import GroundTruthError, Taxonomy, TaxonomyError
from .config import RewardConfig, RewardConfigError, read_settings
from .families import PluginError, find_taxonomy
from .fit_weights import Fit, FitError, Opinion, fit, read_parse, settings

SHOWN = 20
"""How many bad rows are listed."""
MAX_SCORE = 1e9
"""Beyond any scale that people use; the squares of the fit stay finite."""


class Row(NamedTuple):
    """One line of the file: a prediction with its score, or two with a vote."""

    line: int
    ground_truth: str
    predictions: tuple[str, ...]
    value: float
    """The score; 1 where the first of two is preferred, 0 where the second is, 0.5 for neither."""


class Problem(NamedTuple):
    """A line that cannot be used."""

    line: int
    why: str


@click.command(name="fit-weights")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the weights to this YAML file, where they are better than uniform ones.",
)
@click.option("--anyway", is_flag=True, help="Write them although they are no better.")
@click.option(
    "--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Parts that are held out in turn."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which ground truths are held out together.")
@click.option(
    "--taxonomy", help="A taxonomy file, or the name of one that a package plugs in; default: the packaged one."
)
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML file of reward settings; alpha and overlap_gate decide the matching.",
)
def command(
    file: Path, output: Path | None, anyway: bool, folds: int, seed: int, taxonomy: str | None, config_path: Path | None
):
    """Learn how much each dimension should count from what people think of parses.

    FILE is JSON lines, of one of two kinds:

    \b
      {"ground_truth": T, "prediction": P, "score": 3.5}
      {"ground_truth": T, "prediction_a": P, "prediction_b": P, "preferred": "a"}

    T and P are answers of temporal grounding as they stand in rows and rollouts: JSON text of segments, labelled in two
    dimensions or more (weights are relative). Scores may be on any scale. "preferred" is a, b, or null for neither;
    several votes on one pair are pooled.

    Ground truths are held out in turn; the table says how well the fitted weights and uniform ones agree with people
    there: the share of preferences foreseen, or Spearman's rank correlation with the scores. Only a gain of more than two
    standard errors is called one. Use what -o writes as settings: `sv6d score --config weights.yaml`, or in verl

    \b
      '+reward.reward_kwargs.dimension_weights={camera_language: 1.4, editing: 0.6}'
    """
    try:
        taxonomy, config = find_taxonomy(taxonomy), RewardConfig.read(read_settings(config_path))
        if output and not output.parent.is_dir():
            raise FitError(f"{output}: there is no folder {output.parent}; make it first")
        rows, problems = read_rows(file)
        opinions, dimensions, more = read_opinions(rows, taxonomy, config)
        problems += more
        for problem in problems[:SHOWN]:
            click.echo(f"{file}: line {problem.line}: {problem.why}", err=True)
        if problems:
            click.echo(f"{len(problems)} lines left out", err=True)
        if not opinions:
            raise FitError(f"{file}: no usable line")
        found = fit(opinions, dimensions, config, folds, seed, _track)
    except (FitError, TaxonomyError, RewardConfigError, PluginError) as error:
        raise click.ClickException(str(error)) from error
    _report(found, opinions, len(rows))
    if output and (found.better or anyway):
        write_settings(found, output)
        click.echo(f"written to {output}")
    elif output:
        click.echo(f"{output} was not written; --anyway writes it")


def read_rows(file: Path) -> tuple[list[Row], list[Problem]]:
    """The usable lines of a file, and the others with the reason.

    Raises:
        FitError: scores and preferences in one file.
    """
    rows, problems = [], []
    with file.open(encoding="utf-8", errors="replace") as lines:
        for number, text in enumerate(lines, 1):
            if text.strip():
                row = _read_row(number, text)
                (rows if isinstance(row, Row) else problems).append(row)
    for row in rows:
        if len(row.predictions) != len(rows[0].predictions):
            raise FitError(
                f"{file}: line {rows[0].line} and line {row.line} are of two kinds, a score and a preference; "
                "give each kind in a file of its own"
            )
    return rows, problems


def read_opinions(
    rows: list[Row], taxonomy: Taxonomy, config: RewardConfig
) -> tuple[list[Opinion], list[str], list[Problem]]:
    """Opinions with distances, the dimensions that are weighed against others in them, and the lines left out.

    Several votes on the same pair, whichever stands first, and several scores of the same prediction become one opinion,
    their mean.
    """
    names = list(taxonomy.dimensions)
    parses, problems = {}, []
    votes: dict[tuple[str, ...], list[float]] = {}
    for row in track(rows, description="reading", console=Console(stderr=True), transient=True):
        try:
            for prediction in row.predictions:
                key = row.ground_truth, prediction
                if key not in parses:
                    parses[key] = read_parse(prediction, row.ground_truth, names, taxonomy, config)
        except (GroundTruthError, FitError) as error:
            problems.append(Problem(row.line, str(error)))
            continue
        order = tuple(sorted(row.predictions))
        value = row.value if order == row.predictions else 1.0 - row.value
        votes.setdefault((row.ground_truth, *order), []).append(value)
    weighed = [
        k
        for k, _ in enumerate(names)
        if any((parse.annotated[k] & (parse.annotated.sum(axis=0) > 1)).any() for parse in parses.values())
    ]
    parses = {
        key: parse._replace(distances=parse.distances[weighed], annotated=parse.annotated[weighed])
        for key, parse in parses.items()
    }
    opinions = [
        Opinion(truth, parses[truth, first], parses[truth, second[0]] if second else None, sum(values) / len(values))
        for (truth, first, *second), values in votes.items()
    ]
    return opinions, [names[k] for k in weighed], problems


def write_settings(found: Fit, path: Path) -> None:
    """The weights as a YAML file of reward settings; it appears whole or not at all."""
    kind = "agreement with people on held-out rows"
    lines = [
        f"# sv6d fit-weights: {kind} {found.fitted:.3f} ± {found.fitted_error:.3f}, uniform weights "
        f"{found.uniform:.3f} ± {found.uniform_error:.3f}",
        "# Mean 1: a dimension that is not named weighs 1. Eq. 9's w_k are these over their sum.",
        "dimension_weights:",
        *(f"  {name}: {weight}" for name, weight in settings(found.weights)["dimension_weights"].items()),
    ]
    partial = path.with_name(path.name + ".partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _read_row(number: int, text: str) -> Row | Problem:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Problem(number, f"is not JSON: {error}")
    if not isinstance(raw, dict):
        return Problem(number, "is no object")
    pair = "prediction_a" in raw or "prediction_b" in raw
    names = ("prediction_a", "prediction_b") if pair else ("prediction",)
    for name in ("ground_truth", *names):
        if not isinstance(raw.get(name), str):
            return Problem(number, f"{name} is {raw.get(name)!r:.40}; give the text of the segments")
    predictions = tuple(raw[name] for name in names)
    value = _preference(raw) if pair else _score(raw)
    if isinstance(value, str):
        return Problem(number, value)
    if pair and predictions[0] == predictions[1]:
        return Problem(number, "prediction_a and prediction_b are the same; a preference between them says nothing")
    return Row(number, raw["ground_truth"], predictions, value)


def _preference(raw: Mapping[str, Any]) -> float | str:
    preferred = raw.get("preferred", "")
    if preferred not in ("a", "b", None):
        return f'preferred is {preferred!r:.40}; give "a", "b" or null'
    return {"a": 1.0, "b": 0.0, None: 0.5}[preferred]


def _score(raw: Mapping[str, Any]) -> float | str:
    value = raw.get("score")
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_SCORE:
        return f"score is {value!r:.40}; give a number, in size at most {MAX_SCORE:g}"
    return float(value)


def _report(found: Fit, opinions: list[Opinion], lines: int) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    preferences = opinions[0].second is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("dimension", "w_k", "over folds"):
        table.add_column(name, justify="left" if name == "dimension" else "right")
    for name, weight in found.weights.items():
        table.add_row(name, f"{weight:.3f}", f"±{found.spread[name]:.3f}")
    console.print(table)
    what = "preferences foreseen" if preferences else "rank correlation with scores"
    pooled = f", pooled from {lines} lines" if lines > len(opinions) else ""
    truths = len({opinion.truth for opinion in opinions})
    console.print(f"{what}, {len(opinions)} opinions on {truths} ground truths{pooled}, {found.folds} held-out parts:")
    console.print(f"  fitted   {found.fitted:.3f} ± {found.fitted_error:.3f}")
    console.print(f"  uniform  {found.uniform:.3f} ± {found.uniform_error:.3f}")
    console.print(f"  gain    {found.gain:+.3f} ± {found.gain_error:.3f}")
    if not found.better:
        console.print(
            "No gain: the fitted weights agree with people no better than uniform ones (two standard errors)."
        )
    if preferences and (ties := sum(opinion.value == 0.5 for opinion in opinions)):
        console.print(f"Pairs without a majority, which count in the fit and not in the agreement: {ties}")
    if not found.settled:
        console.print(f"The matching still changed after {found.rounds} rounds of match and fit; the last is used.")


def _track(items: range, what: str) -> Iterator[int]:
    return track(items, description=what, console=Console(stderr=True), transient=True)
