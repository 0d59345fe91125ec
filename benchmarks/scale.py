"""How long a GRPO step takes, how idle the GPUs are and how stale the rollouts, on 1 to 64 nodes of 8 GPUs: a simulation.

    python benchmarks/scale.py                                    # Leum-VL-8B, by assumptions, which it prints
    python benchmarks/scale.py --calibrate RUN                    # by a run's own times; says how well it predicts that run
    python benchmarks/scale.py --calibrate RUN --against OTHER    # and a run in another mode, on the same machine
    python benchmarks/scale.py --training-seconds 500 --rollout-tokens-per-second 1200 --sync-seconds 12

The three ways in which verl shares GPUs: `sync` and `colocate_async` write and train in turns on all of them, `separate_async`
writes on some and trains on the others all the time. The nodes and `num_warmup_batches` of `leum_8b_async` come from here.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scale_costs import ASSUMED, Calibration, Measured, assumed, full_scale, mean_tokens, measure, with_rate
from scale_costs import responses as draw_responses
from scale_sim import Outcome, Plan, Run, Writing, masked_rows, training_seconds

NODES = 1, 2, 3, 4, 6, 8, 10, 13, 16, 32, 64
GPUS = 8  # a node
AHEAD = 0.5, 1, 2, 3
RECIPE_NODES = 4  # of leum_8b_async


def outcome(plan: Plan, calibration: Calibration, steps: int, seed: int) -> Outcome:
    costs, writing, groups, size = calibration
    return Run(plan, costs, writing, groups, size, seed).steps(steps)


def candidates(nodes: int, calibration: Calibration, ahead: float) -> list[Plan]:
    """Ways to split the nodes: the three nearest to where training takes as long as writing, of those over whose ranks the
    batch divides: in this mode verl has no mini-batch but the batch."""
    batch = calibration.groups, calibration.group_size
    whole = [n for n in range(1, nodes) if not masked_rows(*batch, n * GPUS)]
    alone = writing_seconds(calibration)

    def off(trainers: int) -> float:
        training = training_seconds(calibration.costs, *batch, trainers * GPUS)
        return abs(math.log(training / (alone / ((nodes - trainers) * GPUS))))

    best = sorted(whole, key=off)[:3]
    return [Plan("separate_async", n * GPUS, (nodes - n) * GPUS, ahead) for n in sorted(best)]


def writing_seconds(calibration: Calibration) -> float:
    """Engine seconds of a batch, all slots taken."""
    costs, writing, groups, size = calibration
    a_token = costs.decode_base / costs.slots + costs.decode_each
    prefill = sum(task.prefill for task in writing.values()) / len(writing)
    return groups * size * (prefill + mean_tokens(writing) * a_token)


def plans(calibration: Calibration, nodes: tuple[int, ...]) -> Iterator[Plan]:
    for count in nodes:
        yield Plan("sync", count * GPUS, 0)
        yield Plan("colocate_async", count * GPUS, 0, 1)
        yield from candidates(count, calibration, 1)


def fastest(results: dict[Plan, Outcome], gpus: int, mode: str) -> Plan | None:
    of_mode = [plan for plan in results if plan.gpus == gpus and plan.mode == mode]
    return min(of_mode, key=lambda plan: results[plan].step, default=None)


HEADINGS = "nodes", "mode", "split", "step s", "waits s", "idle", "stale", "batch"


def table_of(title: str, headings: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("", "mode") else "right", no_wrap=True)
    return table


def scale_table(results: dict[Plan, Outcome], calibration: Calibration) -> Table:
    table = table_of("Steps by number of nodes", HEADINGS)
    for gpus in sorted({plan.gpus for plan in results}):
        for mode in ("sync", "colocate_async", "separate_async"):
            if plan := fastest(results, gpus, mode):
                table.add_row(*row(plan, results[plan], calibration))
    return table


def row(plan: Plan, found: Outcome, calibration: Calibration) -> list[str]:
    groups, size = calibration.groups, calibration.group_size
    split = f"{plan.trainers // GPUS} + {plan.rollouts // GPUS}" if plan.rollouts else "turns"
    late = f"{found.staleness.mean():.2f} / {found.staleness.max()}"
    masked = masked_rows(groups, size, plan.trainers)
    trains = f"{groups * size:,}" + (f" + {masked}" if masked else "")
    times = f"{found.step:,.0f}", f"{found.wait:,.0f}", f"{found.idle:.0%}"
    return [f"{plan.gpus // GPUS}", plan.mode, split, *times, late, trains]


def split_table(results: dict[Plan, Outcome], gpus: int, calibration: Calibration) -> Table:
    """All splits of so many GPUs that were simulated."""
    table = table_of(f"{gpus // GPUS} nodes, trainers + rollouts", HEADINGS[2:])
    for plan in results:
        if plan.gpus == gpus and plan.rollouts:
            table.add_row(*row(plan, results[plan], calibration)[2:])
    return table


def by_ahead(plan: Plan, calibration: Calibration, steps: int, seed: int) -> dict[float, Outcome]:
    """One plan with rollouts that run more or less far ahead."""
    return {ahead: outcome(plan._replace(ahead=ahead), calibration, steps, seed) for ahead in AHEAD}


def ahead_table(plan: Plan, found: dict[float, Outcome], calibration: Calibration) -> Table:
    nodes = f"{plan.trainers // GPUS} + {plan.rollouts // GPUS} nodes" if plan.rollouts else f"{plan.gpus // GPUS} node"
    table = table_of(f"{plan.mode}, {nodes}", ("ahead", *HEADINGS[3:7]))
    for ahead, result in found.items():
        table.add_row(f"{ahead}", *row(plan, result, calibration)[3:7])
    return table


def least_ahead(found: dict[float, Outcome]) -> float:
    """The freshest rollouts at the best speed, or within 2 % of it."""
    best = min(result.step for result in found.values())
    return min(ahead for ahead, result in found.items() if result.step <= 1.02 * best)


def settings(plan: Plan) -> str:
    """A plan on separate nodes as a recipe has it."""
    return (
        f"trainer.nnodes={plan.trainers // GPUS} actor_rollout_ref.rollout.nnodes={plan.rollouts // GPUS} "
        f"trainer.v1.separate_async.num_warmup_batches={plan.ahead:g}"
    )


def show_costs(console: Console, calibration: Calibration, source: str) -> None:
    costs, writing, groups, size = calibration
    console.print(f"Costs ({source}):", highlight=False)
    for name, value in asdict(costs).items():
        console.print(f"  {name:12} {value:.4g}", highlight=False)
    lengths = sorted(length for task in writing.values() for length in task.lengths)
    tail = lengths[int(0.99 * len(lengths))]
    rate = costs.slots / (costs.decode_base + costs.decode_each * costs.slots)
    console.print(
        f"  an engine with all slots taken writes {rate:,.0f} tokens/s; responses have {mean_tokens(writing):,.0f} on average, "
        f"one in a hundred {tail:,.0f} or more; a batch is {groups} prompts x {size}",
        highlight=False,
    )


def show_assumptions(console: Console) -> None:
    table = Table(title="Assumptions", title_justify="left", box=None)
    for heading in ("name", "value", "unit", "from"):
        table.add_column(heading)
    for name, (value, unit, source) in ASSUMED.items():
        table.add_row(name, f"{value:.4g}", unit, source)
    console.print(table, "")


def show_validation(console: Console, title: str, measured: Measured, calibration: Calibration, seed: int) -> None:
    """A run predicted by the costs of a calibration, beside what it took."""
    found = measured.predict(calibration.costs, steps=20, seed=seed)
    table = table_of(title, ("", "predicted", "measured"))
    table.add_row("step s", f"{found.step:.2f}", f"{measured.step:.2f}")
    table.add_row("waits for rollouts s", f"{found.wait:.2f}", f"{measured.wait:.2f}")
    table.add_row("stale, mean", f"{found.staleness.mean():.3f}", f"{measured.staleness:.3f}")
    console.print(table, "")


def calibrated(console: Console, run: Path, against: Path | None, seed: int) -> Calibration:
    measured = measure(run)
    show_validation(console, f"{run}, second half by the times of the first", measured, measured.calibration, seed)
    if against:
        other = measure(against)
        show_validation(
            console, f"{against} ({other.plan.mode}) by the costs of {run.name}", other, measured.calibration, seed
        )
    return full_scale(measured.calibration)


ABOVE_0 = click.FloatRange(0, min_open=True)
RESPONSES = (ABOVE_0, click.FloatRange(0), click.FloatRange(0, 1))


@click.command(context_settings={"show_default": True}, help=__doc__.replace("\n\n", "\n\n\b\n", 1))
@click.option(
    "--calibrate", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a run: its times."
)
@click.option(
    "--against", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Predict this run as well."
)
@click.option("--training-seconds", type=ABOVE_0, help="Of a step on 8 GPUs: old log-probabilities and update.")
@click.option("--rollout-tokens-per-second", type=ABOVE_0, help="Of a GPU, as busy as it gets.")
@click.option("--sync-seconds", type=click.FloatRange(0), help="From the update to the first new rollout.")
@click.option("--slots", type=click.IntRange(1), help="Sequences that a GPU writes at a time.")
@click.option("--responses", type=RESPONSES, help="Median tokens, spread (of the logarithm), share at the limit.")
@click.option("--nodes", "-n", multiple=True, type=click.IntRange(1), help="Numbers of nodes.  [default: 1 to 64]")
@click.option("--steps", default=4, type=click.IntRange(1), help="Steps to simulate after the first two.")
@click.option("--seed", default=0, help="Of the responses' lengths.")
def main(calibrate, against, nodes, steps, seed, **own):
    console = Console(width=max(100, Console().width))
    if against and not calibrate:
        raise click.UsageError("--against needs --calibrate RUN, whose costs predict it")
    if calibrate:
        calibration, source = calibrated(console, calibrate, against, seed), f"of {calibrate}"
    else:
        show_assumptions(console)
        calibration, source = assumed(seed), "all assumed; nothing was measured on a GPU by us"
    calibration, told = own_times(calibration, seed, **own)
    show_costs(console, calibration, ", ".join([source, *told]))
    ways = list(plans(calibration, nodes or NODES))
    results = {
        plan: outcome(plan, calibration, steps, seed)
        for plan in track(ways, "Simulating", console=Console(stderr=True), transient=True)
    }
    console.print("", scale_table(results, calibration), "")
    if fastest(results, RECIPE_NODES * GPUS, "separate_async"):
        console.print(split_table(results, RECIPE_NODES * GPUS, calibration), "")
    for gpus, mode in ((GPUS, "colocate_async"), (RECIPE_NODES * GPUS, "separate_async")):
        if plan := fastest(results, gpus, mode):
            found = by_ahead(plan, calibration, steps, seed)
            console.print(ahead_table(plan, found, calibration), "")
            if plan.rollouts:
                chosen = settings(plan._replace(ahead=least_ahead(found)))
                console.print(f"leum_8b_async on {RECIPE_NODES} nodes: {chosen}\n", highlight=False, soft_wrap=True)
    console.print(
        "turns: all GPUs write, then all train. idle: share of GPU time in which a GPU neither writes nor trains; one that writes "
        "a single sequence counts as busy. stale: updates between a sample's first token and its own, mean / most. batch: "
        "sequences + masked rows. Where there are some, 3,120 sequences do not divide over the ranks, and verl stops unless "
        "actor.ppo_mini_batch_size is set to an eighth of that sum; the update is then smaller by their share (`sv6d check`). "
        "ahead: num_warmup_batches (1 in the tables above)."
    )


def own_times(
    calibration: Calibration, seed: int, *, training_seconds, rollout_tokens_per_second, sync_seconds, slots, responses
) -> tuple[Calibration, list[str]]:
    """A calibration with the user's own times in the place of others, and which those are."""
    costs, writing, groups, size = calibration
    if slots is not None:
        costs = replace(costs, slots=slots)
    if training_seconds is not None:
        train = training_seconds * GPUS / (groups * size)
        costs = replace(costs, train=train, padding=costs.padding * train / costs.train)
    if rollout_tokens_per_second is not None:
        costs = with_rate(costs, rollout_tokens_per_second)
    if sync_seconds is not None:
        costs = replace(costs, sync=sync_seconds)
    if responses:
        writing = {
            task: Writing(draw_responses(*responses, seed + index), kind.prefill)
            for index, (task, kind) in enumerate(writing.items())
        }
    given = {
        "slots": slots,
        "training": training_seconds,
        "rollout rate": rollout_tokens_per_second,
        "sync": sync_seconds,
        "responses": responses or None,
    }
    told = [f"{name} as given" for name, value in given.items() if value is not None]
    return Calibration(costs, writing, groups, size), told


if __name__ == "__main__":
    main()
