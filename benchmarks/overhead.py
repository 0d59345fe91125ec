"""What this package costs a training step of the CPU demo, part by part, beside what plain verl costs in its place, in one run.

    python benchmarks/overhead.py                          # data and model made on the spot, 6 steps: about 5 minutes
    python benchmarks/overhead.py --data DATA --model MODEL --steps 10

A real `sv6d grpo cpu_demo` in which every process times our parts, as verl calls them. Beside each call verl's own part does
the same work in the same process: its dataset on the same row, its decoder on the same media, its naive manager with our
score on the same rollout. For buffer and metrics ours call verl's, so verl's share is timed inside ours.

What a step waits for is counted in seconds; what runs on a thread beside it, while others write and the actor is updated, in
seconds of CPU, as if it were taken from the step. What verl's parts did for comparison is taken off the steps' time. The first
step, which warms everything up, is left out. Overhead is what ours cost more than plain verl; the bound is 2 % of a step.
Decoding is told apart and counts on neither side: ours happens once a prompt, plain verl's, which wants decord (the extra `test`),
for each of its rollouts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import wraps
from pathlib import Path

BOUND = 0.02
SETTING = "SV6D_OVERHEAD"  # the folder for timings, in the processes of the run

# part: what of ours is in it; what of verl
WAITED_FOR = {
    "a prompt": "the next row of the mixture; verl's dataset on a row",
    "reward": "manager and score; verl's naive manager with the same score",
    "buffer": "the balanced buffer and its quota; verl's asynchronous buffer",
    "metrics and recorder": "verl's metrics, ours by task, the parquet file; verl's metrics",
}
BESIDE = {
    "looking ahead": "do the next step's rows decode, do they fit; nothing",
    "reading rollouts": "for the recorder; nothing",
}
MEDIA = "decoding"


# In the processes of the run


class Log:
    """Lines `{time, part, side, seconds}` of one process."""

    def __init__(self, folder: str):
        self._file = (Path(folder) / f"{os.getpid()}.jsonl").open("a", buffering=1)

    def add(self, part: str, side: str, seconds: float) -> None:
        self._file.write(json.dumps([time.time(), part, side, seconds]) + "\n")


class Stepped:
    """An awaitable that counts the time in which a coroutine runs, without that in which it waits."""

    def __init__(self, coroutine):
        self.coroutine, self.seconds = coroutine, 0.0

    def __await__(self):
        steps = self.coroutine.__await__()
        resume, value = steps.send, None
        while True:
            start = time.perf_counter()
            try:
                waited_for = resume(value)
            except StopIteration as end:
                return end.value
            finally:
                self.seconds += time.perf_counter() - start
            try:
                resume, value = steps.send, (yield waited_for)
            except BaseException as error:
                resume, value = steps.throw, error


def timed(owner, name: str, log: Log, part: str, side: str, clock=time.perf_counter) -> None:
    """Time a function, with all that it calls."""
    function = getattr(owner, name)

    @wraps(function)
    def call(*args, **options):
        start = clock()
        try:
            return function(*args, **options)
        finally:
            log.add(part, side, clock() - start)

    setattr(owner, name, call)


def time_dataset(module, log: Log) -> None:
    ours, verls = module.MixtureDataset, module.RLHFDataset
    item, decode, ask = ours.__getitem__, ours._process_multi_modal_info, ours.process_multi_modal_info
    plain: dict[int, verls] = {}

    def row_of_verl(dataset, position):
        if id(dataset) not in plain:
            plain[id(dataset)] = verls(dataset.data_files, dataset.tokenizer, dataset.config, dataset.processor)
        own = plain[id(dataset)]
        start = time.perf_counter()
        own[position % len(own)]
        log.add("a prompt", "verl", time.perf_counter() - start)

    def getitem(self, position):
        start = time.perf_counter()
        found = item(self, position)
        log.add("a prompt", "ours", time.perf_counter() - start)
        if self.training:
            row_of_verl(self, position)
        return found

    def process(messages, image_patch_size, config):
        start = time.perf_counter()
        found = decode(messages, image_patch_size, config)
        log.add(MEDIA, "ours", time.perf_counter() - start)
        start = time.perf_counter()
        verls._process_multi_modal_info(messages, image_patch_size, config)
        log.add(MEDIA, "verl once", time.perf_counter() - start)
        return found

    def asked(messages, image_patch_size, config):
        log.add(MEDIA, "rollouts", 1)
        return ask(messages, image_patch_size, config)

    timed(ours, "_row_error", log, "looking ahead", "ours", time.thread_time)
    timed(module, "probe", log, "looking ahead", "ours")  # it waits for a process of its own
    ours.__getitem__ = getitem
    ours._process_multi_modal_info = staticmethod(process)
    ours.process_multi_modal_info = staticmethod(asked)


def time_reward(module, log: Log) -> None:
    ours = module.SV6DRewardManager
    run, naive = ours.run_single, {}

    async def run_single(self, data):
        from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

        step = Stepped(run(self, data))
        found = await step
        log.add("reward", "ours", step.seconds)
        if id(self) not in naive:
            naive[id(self)] = NaiveRewardManager(self.config, self.tokenizer, module.compute_score)
        step = Stepped(naive[id(self)].run_single(data))
        await step
        log.add("reward", "verl", step.seconds)
        return found

    ours.run_single = run_single


def time_buffer(module, log: Log) -> None:
    for name in ("_has_enough_samples", "_select_prompt_uids", "_evict_terminal_groups"):
        timed(module.ReplayBufferAsync, name, log, "buffer", "verl")
        timed(module.BalancedAsync, name, log, "buffer", "ours")
    for name in ("next_batch", "dispatch"):  # what the trainer tells the quota
        timed(module.Quota, name, log, "buffer", "ours")


def time_metrics(module, log: Log) -> None:
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    timed(PPOTrainer, "_compute_metrics", log, "metrics and recorder", "verl")
    timed(module.ColocateAsyncTrainer, "_compute_metrics", log, "metrics and recorder", "ours")
    timed(module.ColocateAsyncTrainer, "_measure", log, "reading rollouts", "ours", time.thread_time)


def install(folder: str) -> None:
    """Time the parts in this process as their modules are imported; verl does this in each (VERL_USE_EXTERNAL_MODULES)."""
    from sv6d.verl_plugin.after_import import after_import

    log = Log(folder)
    for name, install_timers in {
        "sv6d.data_mixers.verl_dataset": time_dataset,
        "sv6d.rewards.verl_manager": time_reward,
        "sv6d.verl_plugin.replay_buffer": time_buffer,
        "sv6d.verl_plugin.trainers": time_metrics,
    }.items():
        after_import(name, lambda module, install_timers=install_timers: install_timers(module, log))


if os.environ.get(SETTING) and __name__ != "__main__":
    install(os.environ[SETTING])


# The run, and what it came to


def prepare(folder: Path, steps: int) -> tuple[Path, Path]:
    """A small dataset of the demo's kind, with new rows for every step, and a model that has learnt nothing."""
    from sv6d.data_mixers.rows import read_rows
    from sv6d.data_mixers.sources import row_files
    from sv6d.recipes.demo.dataset import write_dataset
    from sv6d.recipes.demo.model import build_model, corpus_of

    write_dataset(folder / "data", per_task=3 * (steps + 2), sft_per_task=4, heldout_per_task=1, seed=0)
    rows = [row for file in row_files(folder / "data" / "sft") for row in read_rows(file)]
    build_model(corpus_of(rows), folder / "model")
    return folder / "data", folder / "model"


def train(data: Path, model: Path, run: Path, steps: int) -> list[float]:
    """Train, and return the seconds of each step.

    Raises:
        SystemExit: the run failed; its log's end is printed.
    """
    timings = run / "timings"
    timings.mkdir(parents=True)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    overrides = {
        "sv6d.data": data,
        "sv6d.model": model,
        "sv6d.run_dir": run,
        "trainer.total_training_steps": steps,
        "trainer.val_before_train": False,
        "trainer.test_freq": -1,
        "trainer.save_freq": -1,
        f"+sv6d.env.{SETTING}": timings,
        "+sv6d.env.PYTHONPATH": path,
        "+sv6d.env.VERL_USE_EXTERNAL_MODULES": "overhead",
    }
    sv6d = Path(sys.executable).with_name("sv6d")
    command = [str(sv6d), "grpo", "cpu_demo", *(f"{key}={value}" for key, value in overrides.items())]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise SystemExit(f"the run failed:\n{done.stdout[-3000:]}")
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["data"]["timing_s/step"] for line in lines if "timing_s/step" in line["data"]]


def events(folder: Path) -> Iterator[tuple[float, str, str, float]]:
    for file in sorted(folder.glob("*.jsonl")):
        yield from (tuple(json.loads(line)) for line in file.read_text().splitlines() if line.endswith("]"))


def spent(folder: Path) -> tuple[dict[str, dict[str, float]], int, float]:
    """Seconds by part and side from the end of the first step to that of the last, how many steps that are, and the seconds
    that verl's parts took in the driver for comparison alone."""
    found = list(events(folder))
    ends = sorted(at for at, part, side, _ in found if (part, side) == ("metrics and recorder", "ours"))
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for at, part, side, seconds in found:
        if ends[0] < at <= ends[-1]:
            sums[part][side] += seconds
            sums[part][f"calls of {side}"] += 1
    media = sums[MEDIA]
    if media["calls of ours"]:  # verl decodes for every rollout
        media["verl"] = media["verl once"] * media["calls of rollouts"] / media["calls of ours"]
    shadows = sums["a prompt"]["verl"] + media["verl once"] + sums["reward"]["verl"]
    return sums, len(ends) - 1, shadows


def main() -> None:
    import click
    from rich.console import Console
    from rich.table import Table

    @click.command(help=__doc__.split("\n\n")[0])
    @click.option("--data", type=click.Path(path_type=Path, exists=True), help="A folder of rows; made when not given.")
    @click.option("--model", type=click.Path(path_type=Path, exists=True), help="A tiny model; made when not given.")
    @click.option("--steps", default=6, show_default=True, type=click.IntRange(min=3), help="Steps to train.")
    def command(data: Path | None, model: Path | None, steps: int):
        console = Console()
        with tempfile.TemporaryDirectory() as folder:
            if data is None or model is None:
                made = prepare(Path(folder), steps)
                data, model = data or made[0], model or made[1]
            with console.status(f"training {steps} steps"):
                seconds = train(data.absolute(), model.absolute(), Path(folder) / "run", steps)
            sums, counted, shadows = spent(Path(folder) / "run" / "timings")
        step = sum(seconds[1:]) / counted - shadows / counted
        table = Table("ms a step", "ours", "plain verl", "more", "of a step", title=f"{counted} steps of {step:.2f} s")
        more = 0.0
        for parts in (WAITED_FOR, BESIDE):
            more += sum(row(table, part, sums[part], counted, step) for part in parts)
            table.add_section()
        row(table, MEDIA, sums[MEDIA], counted, step)
        console.print(table)
        for part, what in (WAITED_FOR | BESIDE).items():
            console.print(f"{part}: {what}", highlight=False, soft_wrap=True)
        verdict = "within" if more <= BOUND else "NOT within"
        console.print(
            f"overhead, without decoding: {more:.2%} of a step, {verdict} the bound of {BOUND:.0%}", highlight=False
        )

    command()


def row(table, part: str, sums: dict[str, float], steps: int, step: float) -> float:
    """Add a part's line; returns what it costs more than plain verl, as a share of a step."""
    ours, verl = (sums[side] / steps for side in ("ours", "verl"))
    share = (ours - verl) / step
    table.add_row(part, f"{ours * 1e3:.1f}", f"{verl * 1e3:.1f}", f"{(ours - verl) * 1e3:+.1f}", f"{share:+.2%}")
    return share


if __name__ == "__main__":
    main()
