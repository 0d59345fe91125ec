"""`sv6d sft` before and after the training process: what it plans, refuses and reports."""

import io
import json
import sys

import pytest
from click.testing import CliRunner
from rich.console import Console
from sv6d.recipes import launch_sft as cli
from sv6d.recipes import supervise
from sv6d.recipes.compose import RecipeError, compose
from sv6d.sft.manifest import seal


@pytest.fixture
def config(data, model, tmp_path):
    overrides = [f"sv6d.data={data}", f"sv6d.model={model}", f"sv6d.run_dir={tmp_path / 'run'}"]
    batch = ["data.train_batch_size=6", "data.micro_batch_size_per_gpu=6", "trainer.total_training_steps=60"]
    return compose("sft", "cpu_demo", [*overrides, *batch])


def test_the_mixture_is_as_long_as_the_run(config):
    cli.plan_steps(config)
    assert config.data.mixture.length == 60 * 6
    assert (config.trainer.total_training_steps, config.trainer.total_epochs) == (60, 1)


def test_epochs_become_steps(config):
    # 12 rows in batches of 6: an epoch has 2 steps, 3 epochs 6.
    config.trainer.update(total_training_steps=None, total_epochs=3, save_freq="after_each_epoch")
    cli.plan_steps(config)
    assert (config.trainer.total_training_steps, config.trainer.save_freq, config.data.mixture.length) == (6, 2, 36)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_gpus_per_node": 4}, "data.train_batch_size=6 does not divide over 4 ranks"),
        (
            {"nnodes": 2, "n_gpus_per_node": 2},
            "does not divide over 4 ranks (trainer.nnodes x trainer.n_gpus_per_node); take 4 or 8",
        ),
        ({"n_gpus_per_node": 2}, "data.micro_batch_size_per_gpu=6 does not divide a rank's share of the batch, 3 rows"),
        ({"device": "cuda"}, "asks for 1 GPUs (trainer.n_gpus_per_node) and this machine has 0"),
    ],
)
def test_ranks_that_cannot_run_are_refused(config, settings, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    config.trainer.update(settings)
    with pytest.raises(RecipeError) as error:
        cli.check_ranks(config)
    assert message in error.value.message


def test_one_process_a_rank(config):
    config.trainer.n_gpus_per_node = 2
    command = cli.job_command(config)
    assert command[0] == sys.executable
    assert command[1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "sv6d.sft.train"),
    ]


def finish(config, step, ranks=1):
    from pathlib import Path

    folder = Path(config.trainer.default_local_dir)
    (folder / f"global_step_{step}").mkdir(parents=True)
    (folder / f"global_step_{step}" / "fsdp_config.json").write_text(json.dumps({"world_size": ranks}))
    seal(folder / f"global_step_{step}")


def test_a_complete_run_is_left_alone(config):
    finish(config, 60)
    out = io.StringIO()
    cli.train(config, Console(file=out, width=200))
    assert "is complete, 60 of 60 steps; nothing to do" in out.getvalue()


def test_a_run_cannot_continue_on_another_number_of_ranks(config):
    finish(config, 20, ranks=2)
    with pytest.raises(RecipeError, match=r"global_step_20 was saved by 2 ranks and this run has 1"):
        cli.train(config)


def test_a_step_is_a_line():
    data = {"train/loss": 2.34567, "train/lr": 1e-3, "train/grad_norm": 1.5, "train/global_tokens": 2048}
    assert cli.describe_step(7, data) == "step    7   loss 2.3457   lr 1.00e-03   gradient 1.50   tokens 2,048"
    assert cli.describe_step(7, {"val/loss": 1.5}) == "step    7   held-out loss 1.5000"
    assert cli.describe_step(7, {"other": 1}) is None


def test_skipped_rows_are_counted_once_by_task_and_listed(tmp_path):
    lines = [{"task": "subject", "index": i, "id": f"s{i}", "error": "ValueError: cut short"} for i in (1, 2, 1)]
    lines.append({"task": "ocr_regular", "index": 0, "id": "o", "error": "too long"})
    (tmp_path / "skipped_rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = io.StringIO()
    supervise.report_skipped(tmp_path, Console(file=out, width=200))
    assert "3 rows were skipped (2 of subject, 1 of ocr_regular)" in out.getvalue()
    assert "subject row 2 (id 's2'): ValueError: cut short" in out.getvalue()


def test_cfg_prints_the_resolved_configuration():
    result = CliRunner().invoke(
        cli.command, ["leum_8b", "--cfg", "job", "sv6d.data=D", "sv6d.model=M", "sv6d.run_dir=R"]
    )
    assert result.exit_code == 0
    assert "default_local_dir: R/checkpoints" in result.output


def test_a_missing_folder_is_one_sentence_not_a_trace(tmp_path):
    arguments = [
        "cpu_demo",
        f"sv6d.data={tmp_path}",
        f"sv6d.model={tmp_path / 'no'}",
        f"sv6d.run_dir={tmp_path / 'run'}",
    ]
    result = CliRunner().invoke(cli.command, arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: sv6d.model=") and "Traceback" not in result.output
    assert not (tmp_path / "run").exists()
