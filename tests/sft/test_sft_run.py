"""The warm start on real verl: it learns, ranks agree, a killed run continues exactly, and its average loads everywhere."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

STEPS = 8


def metrics(run):
    """step -> metrics, over all attempts of a run; a step that was trained twice has its last value."""
    files = [*sorted(run.glob("metrics-*.jsonl")), run / "metrics.jsonl"]
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return {line["step"]: line["data"] for line in lines}


def losses(run):
    return [data["train/loss"] for _, data in sorted(metrics(run).items())]


@pytest.fixture(scope="module")
def command(data, model):
    """run folder and overrides -> the command line of a short warm start that saves every second step."""

    def make(run, *overrides):
        settings = [
            f"sv6d.data={data}",
            f"sv6d.model={model}",
            f"sv6d.run_dir={run}",
            "data.train_batch_size=6",
            "data.micro_batch_size_per_gpu=3",
        ]
        steps = [
            "data.mixture.weights=null",
            f"trainer.total_training_steps={STEPS}",
            "trainer.save_freq=2",
            "optim.lr_warmup_steps=1",
        ]
        return [str(Path(sys.executable).parent / "sv6d"), "sft", "cpu_demo", *settings, *steps, *overrides]

    return make


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    """The folder of an uninterrupted run on one rank, and what it printed."""
    run = tmp_path_factory.mktemp("run") / "one"
    done = subprocess.run(command(run), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return run, done.stdout


def test_the_loss_falls_and_each_step_is_a_line(finished):
    run, printed = finished
    assert len(losses(run)) == STEPS
    assert losses(run)[-1] < 0.9 * losses(run)[0]
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("step")] == [
        str(i + 1) for i in range(STEPS)
    ]


def test_components_learn_at_their_own_rates(finished):
    log = (finished[0] / "train.log").read_text()
    assert "learning rate 0.002, weight decay 0 for language" in log
    assert "learning rate 0.001, weight decay 0 for vision" in log
    _, second, *_, last = (data for _, data in sorted(metrics(finished[0]).items()))  # the first warms up
    assert (
        second["language/lr"] == pytest.approx(2 * second["vision/lr"]) and 0 < last["vision/lr"] < second["vision/lr"]
    )
    assert second["merger/weight_decay"] == 0.0


def test_the_last_checkpoints_are_kept(finished):
    steps = sorted(path.name for path in (finished[0] / "checkpoints").glob("global_step_*"))
    assert steps == ["global_step_4", "global_step_6", "global_step_8"]  # sv6d.average_last is 3


def test_two_ranks_train_on_the_same_rows_as_one(command, finished, tmp_path):
    two = command(tmp_path / "two", "trainer.n_gpus_per_node=2")
    subprocess.run(two, check=True, capture_output=True, timeout=300)
    assert losses(tmp_path / "two") == pytest.approx(losses(finished[0]), rel=1e-3)
    rates = [[data["vision/lr"] for data in metrics(run).values()] for run in (tmp_path / "two", finished[0])]
    assert rates[0] == rates[1]  # one number, not one a rank


def test_two_nodes_train_on_the_same_rows_as_one(command, finished, tmp_path):
    """Without Slurm `sv6d sft` prepares a run of several nodes; the line that it prints is started on each (here: twice on this
    machine). `tests/recipes/test_launch_slurm.py` has a Slurm."""
    prepared = subprocess.run(
        command(tmp_path / "nodes", "trainer.nnodes=2"), capture_output=True, text=True, timeout=300
    )
    assert prepared.returncode == 0, prepared.stdout + prepared.stderr
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = prepared.stdout.splitlines()[-1].replace("HOST", "127.0.0.1").replace("29500", str(port))
    words = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    nodes = [subprocess.Popen(line.replace("NODE", str(node)), shell=True, **words) for node in range(2)]
    said = [node.communicate(timeout=300)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert losses(tmp_path / "nodes") == pytest.approx(losses(finished[0]), rel=1e-3)
    assert (tmp_path / "nodes" / "checkpoints" / f"global_step_{STEPS}" / "huggingface" / "model.safetensors").exists()


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_as_if_nothing_had_happened(command, finished, tmp_path):
    """SIGTERM to the launcher alone, while its job starts: that saves after its first step. The rows of the others are then fetched
    by another number of workers."""
    run = tmp_path / "stopped"
    with subprocess.Popen(command(run, "trainer.save_freq=100"), stderr=subprocess.PIPE, text=True) as child:
        deadline = time.monotonic() + 240
        while not (run / "train.log").exists():
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
        said = child.stderr.read()
    assert child.returncode == 75 and f"saved and ended: 1 of {STEPS} steps are kept" in said
    assert [path.name for path in (run / "checkpoints").glob("global_step_*")] == ["global_step_1"]

    again = subprocess.run(
        command(run, "trainer.save_freq=100", "data.num_workers=1"), capture_output=True, text=True, timeout=300
    )

    assert again.returncode == 0, again.stdout + again.stderr
    assert "step    1" not in again.stdout and "step    2" in again.stdout
    assert losses(run) == losses(finished[0])


def test_a_killed_run_continues_as_if_nothing_had_happened(command, finished, tmp_path):
    run = tmp_path / "killed"
    tracker = run / "checkpoints" / "latest_checkpointed_iteration.txt"
    child = subprocess.Popen(command(run), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not tracker.exists() or int(tracker.read_text() or 0) < 4:
        assert child.poll() is None and time.monotonic() < deadline, "the run ended before it could be killed"
        time.sleep(0.05)
    for process in [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]:
        process.send_signal(signal.SIGKILL)
    child.wait()

    done = subprocess.run(command(run), capture_output=True, text=True, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "SFT: continuing" in done.stdout
    assert losses(run) == losses(finished[0])
    weights = [
        load_file(r / f"checkpoints/global_step_{STEPS}/huggingface/model.safetensors") for r in (run, finished[0])
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


@pytest.fixture(scope="module")
def averaged(finished, tmp_path_factory):
    from sv6d.sft.average import average
    from sv6d.sft.checkpoints import last_checkpoints

    return average(last_checkpoints(finished[0], 3), tmp_path_factory.mktemp("average") / "out")


def test_the_average_is_the_mean_and_loads_in_transformers(finished, averaged):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    parts = [load_file(finished[0] / f"checkpoints/global_step_{i}/huggingface/model.safetensors") for i in (4, 6, 8)]
    name = "model.visual.merger.linear_fc1.weight"
    model = AutoModelForImageTextToText.from_pretrained(averaged, dtype=torch.float32)
    expected = torch.stack([part[name] for part in parts]).double().mean(0)
    torch.testing.assert_close(model.state_dict()[name].double(), expected, rtol=1e-5, atol=1e-7)
    assert AutoProcessor.from_pretrained(averaged).video_processor is not None


def test_the_average_is_compared_with_each_ingredient(finished, data, tmp_path):
    """On the rows that it learnt: the loss of the last step's model is that of the run's last steps, and the record has them all."""
    command = [str(Path(sys.executable).parent / "sv6d"), "average", str(finished[0]), "-o", str(tmp_path / "out")]
    options = ["--validate", str(data / "sft"), "--rows-per-task", "2", "--max-new-tokens", "8"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "out" / "sv6d_average.json").read_text())["validated"]
    assert [Path(one["model"]).name for one in told] == ["global_step_4", "global_step_6", "global_step_8", "out"]
    by_loss = min(told, key=lambda one: one["loss"])
    assert f"best by loss on 6 rows: {by_loss['model']}" in done.stdout and "best by reward on 6 rows" in done.stdout
    assert told[2]["loss"] < told[0]["loss"] and told[2]["loss"] == pytest.approx(losses(finished[0])[-1], rel=0.25)
    assert all(0 <= one["reward"] <= 1 and len(one["by_task"]) == 3 for one in told)


def test_fsdp_shards_are_merged_where_no_whole_model_was_saved(finished, averaged, tmp_path):
    from sv6d.sft.average import average

    folders = []
    for step in (4, 6, 8):
        folder = tmp_path / f"global_step_{step}"
        shutil.copytree(finished[0] / "checkpoints" / folder.name, folder)
        (folder / "huggingface" / "model.safetensors").unlink()
        folders.append(folder)
    merged = load_file(average(folders, tmp_path / "out") / "model.safetensors")
    whole = load_file(averaged / "model.safetensors")
    assert merged.keys() == whole.keys()
    for name, tensor in whole.items():  # verl's merger writes bfloat16: 8 bits of mantissa
        torch.testing.assert_close(merged[name].float(), tensor, rtol=2**-7, atol=1e-4)


def test_the_average_loads_in_vllm_and_answers(averaged):
    program = (
        "import sys; from vllm import LLM, SamplingParams\n"
        "model = LLM(sys.argv[1], dtype='float32', enforce_eager=True, max_model_len=128, max_num_seqs=1, seed=0)\n"
        "out = model.generate('<|im_start|>user\\nq<|im_end|>\\n<|im_start|>assistant\\n', SamplingParams(max_tokens=3))\n"
        "print('TOKENS', len(out[0].outputs[0].token_ids))"
    )
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(averaged)],
        capture_output=True, text=True, timeout=400, env={**os.environ, **environment, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert "TOKENS" in done.stdout, done.stderr[-3000:]
