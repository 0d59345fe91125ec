"""`sv6d sft` before and after the training process: what it plans, refuses and reports."""

import io
import json
import sys
from pathlib import Path

import pytest
import sv6d.schema
from click.testing import CliRunner
from omegaconf import OmegaConf
from rich.console import Console
from sv6d.data_mixers.rows import write_rows
from sv6d.recipes.checking import refuse
from sv6d.recipes.compose import RecipeError, compose
from sv6d.recipes.running import check_sft, supervise
from sv6d.recipes.running import grpo as launch_grpo
from sv6d.recipes.running import sft as cli
from sv6d.sft.manifest import seal

PLACES = ["sv6d.data=D", "sv6d.model=M", "sv6d.run_dir=R"]


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
        ({"trainer.n_gpus_per_node": 4}, "data.train_batch_size=6 does not divide over 4 ranks"),
        (
            {"trainer.nnodes": 2, "trainer.n_gpus_per_node": 2},
            "does not divide over 4 ranks (trainer.nnodes x trainer.n_gpus_per_node); take 4 or 8",
        ),
        (
            {"trainer.n_gpus_per_node": 2},
            "data.micro_batch_size_per_gpu=6 does not divide a rank's share of the batch, 3 rows",
        ),
        ({"trainer.device": "cuda"}, "asks for 1 GPUs (trainer.n_gpus_per_node) and this machine has 0"),
        (
            {"model.lora_rank": 8},
            "model.lora_rank=8, model.lora_adapter_path=None: verl's whole model then has PEFT's names",
        ),
        ({"trainer.test_freq": 5}, "trainer.test_freq=5 and there is nothing to validate on: set data.val_files"),
    ],
)
def test_a_run_that_would_fail_is_refused_before_it_starts(config, settings, message, monkeypatch, tmp_path):
    monkeypatch.setattr("sv6d.recipes.checking.inputs.gpus_here", lambda: 0)
    for key, value in settings.items():
        OmegaConf.update(config, key, value)
    with pytest.raises(RecipeError) as error:
        cli.train(config)
    assert message in error.value.message and not (tmp_path / "run").exists()


def test_the_gpus_of_several_nodes_are_not_looked_for_on_this_machine(config, monkeypatch):
    """As on a cluster's login node."""
    monkeypatch.setattr("sv6d.recipes.checking.inputs.gpus_here", lambda: 0)
    config.trainer.update(device="cuda", nnodes=2)
    refuse(check_sft.machine(config))


def test_ranks_that_share_a_sequence_count_once(config):
    config.trainer.n_gpus_per_node = 4  # 6 rows over 4 ranks do not go, over 2 pairs they do
    config.engine.ulysses_sequence_parallel_size = 2
    config.data.micro_batch_size_per_gpu = 3
    assert list(check_sft.settings(config)) == []


@pytest.mark.parametrize(
    ("batch", "level", "message"),
    [
        (18, "error", "data.val_files has 12 rows and a batch takes 18 (data.train_batch_size)"),
        (9, "warning", "of 12 held-out rows the last 3 are left out"),
        (6, "", ""),
    ],
)
def test_a_validation_set_is_whole_batches(config, data, batch, level, message):
    config.data.update(val_files=str(data / "sft"), train_batch_size=batch)
    found = [finding for finding in check_sft.held_out(config) if finding.level != "note"]
    assert [finding.level for finding in found] == [level] * bool(level)
    assert all(finding.text.startswith(message) for finding in found)


def test_held_out_rows_are_counted_as_they_are_sampled(config, data):
    """5 of 12 rows, spread over three tasks: one of each."""
    config.data.update(val_files=str(data / "sft"), val_max_samples=5)
    assert "data.val_files has 3 rows and a batch takes 6" in list(check_sft.held_out(config))[-1].text


@pytest.fixture
def cut_points(rows, config, tmp_path):
    """Write rows of cut points in which the first `broken` of 20 name a tag that is none, and train on them."""

    def make(broken, tag="harsh cut"):
        own = [row for row in rows if row["data_source"] == "cut_point_detection"] * 5
        for number, row in enumerate(own[:broken]):
            truth = row["reward_model"]["ground_truth"].replace("hard cut", tag)
            own[number] = {**row, "reward_model": {**row["reward_model"], "ground_truth": truth}}
        write_rows(own, tmp_path / "data" / "sft" / "cut_point_detection.parquet")
        config.data.train_files = str(tmp_path / "data" / "sft")
        return config

    return make


def test_a_few_broken_rows_are_told_and_many_end_the_run_before_it_starts(cut_points):
    (few,) = [finding for finding in check_sft.rows(cut_points(2)) if finding.level != "note"]
    assert few.level == "warning" and "2 of 20 rows of cut_point_detection are broken and will be skipped" in few.text
    (many,) = check_sft.rows(cut_points(3))
    assert many.level == "error" and "more than 10%" in many.text and "harsh cut" in many.text


def test_tags_of_ones_own_are_taken(cut_points, tmp_path):
    packaged = (Path(sv6d.schema.__file__).parent / "taxonomy.yaml").read_text()
    (tmp_path / "tags.yaml").write_text(packaged.replace("hard cut", "harsh cut"))
    config = cut_points(20)
    config.data.mixture.taxonomy = str(tmp_path / "tags.yaml")
    assert [finding.level for finding in check_sft.rows(config)] == ["note"]


def test_rows_without_an_answer_are_refused(config, rows, tmp_path):
    """As those for RL are."""
    write_rows(
        [{key: value for key, value in row.items() if key != "messages"} for row in rows], tmp_path / "rl.parquet"
    )
    config.data.train_files = str(tmp_path / "rl.parquet")
    (found,) = [finding for finding in check_sft.rows(config) if finding.level == "error"]
    assert found.text.startswith("12 of 12 rows have nothing to learn, the first is row 0, of cut_point_detection")


def test_rows_of_several_files_are_judged_together_and_a_file_without_rows_is_none(cut_points, rows, tmp_path):
    """3 broken rows of 20 in a file are too many, of 40 in two files they are not."""
    config = cut_points(3)
    folder = tmp_path / "data" / "sft"
    (folder / "cut_point_detection.parquet").rename(folder / "a.parquet")
    write_rows([], folder / "b.parquet")
    write_rows([row for row in rows if row["data_source"] == "cut_point_detection"] * 5, folder / "c.parquet")
    (few,) = check_sft.rows(config)
    assert few.level == "warning" and "3 of 40 rows of cut_point_detection are broken" in few.text
    assert "a.parquet" in few.text


def test_no_row_at_all_is_told(config, tmp_path):
    write_rows([], tmp_path / "none.parquet")
    config.data.train_files = str(tmp_path / "none.parquet")
    (found,) = check_sft.rows(config)
    assert found.level == "error" and "hold no row" in found.text


def test_leum_8b_fits_the_gpus_that_it_names_and_the_loss_in_one_piece_would_not():
    config = compose("sft", "leum_8b", ["sv6d.data=D", "sv6d.model=Qwen/Qwen3-VL-8B-Instruct", "sv6d.run_dir=R"])
    (fits,) = check_sft.memory(config)
    assert fits.level == "note" and "an update takes about 71 GB of a GPU of 80 GB" in fits.text
    config.model.use_fused_kernels = False
    (too_large,) = check_sft.memory(config)
    assert too_large.level == "error" and too_large.text.endswith("Set model.use_fused_kernels=true")


def test_a_video_is_as_long_in_the_warm_start_as_in_grpo():
    grpo, sft = (compose(kind, name, PLACES) for kind, name in (("grpo", "leum_8b_1node"), ("sft", "leum_8b")))
    assert sft.data.max_length == grpo.actor_rollout_ref.rollout.max_model_len == 58320
    assert sft.data.mixture.video == grpo.data.mixture.video


def test_one_process_a_rank(config):
    config.trainer.n_gpus_per_node = 2
    command = cli.job_command(config)
    assert command[0] == sys.executable
    assert command[1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *("-m", "sv6d.sft.train"),
    ]


def test_on_several_nodes_of_slurm_the_ranks_of_each_are_started_there(config, monkeypatch):
    monkeypatch.setattr(cli, "meeting_place", lambda: ("10.0.0.1", "4711"))
    config.trainer.update(nnodes=2, n_gpus_per_node=3)
    *srun, shell, option, line, name = cli.job_command(config)
    assert {"srun", "--nodes=2", "--ntasks=2", "--kill-on-bad-exit=1"} <= set(srun)
    assert (shell, option, name) == ("bash", "-c", "sft")  # the configuration's path comes after it, as $1
    assert line == (
        f"exec {sys.executable} -m torch.distributed.run --nnodes=2 --node-rank=$SLURM_NODEID --master-addr=10.0.0.1 "
        '--master-port=4711 --nproc-per-node=3 -m sv6d.sft.train "$1"'
    )


def test_without_slurm_it_is_said_what_to_start_where(config, monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    config.trainer.nnodes = 2
    config.data.micro_batch_size_per_gpu = 3
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("{}\n")
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "stop").touch()
    out = io.StringIO()
    cli.train(config, Console(file=out, width=200))
    assert "with 0 to 1 for NODE and the address of node 0 for HOST" in " ".join(out.getvalue().split())
    assert "--nnodes=2 --node-rank=NODE --master-addr=HOST --master-port=29500" in out.getvalue().splitlines()[-1]
    assert (tmp_path / "run" / "config.yaml").exists()
    assert (tmp_path / "run" / "metrics-001.jsonl").exists()  # verl's logger would empty it
    assert not (tmp_path / "run" / "checkpoints" / "stop").exists()  # it would end the run after a step


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


def test_a_metric_that_is_no_number_is_a_line_too(tmp_path):
    """verl's logger writes NaN and infinity as null."""
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 7, "data": {"train/loss": null, "train/lr": 1e-3, "train/grad_norm": null, "train/global_tokens": 2048}}\n'
        '{"step": 7, "data": {"critic/score/mean": null, "response_length/mean": 8.0, "timing_s/step": 3.0}}\n'
    )
    sft, grpo = supervise.JsonLines(tmp_path / "metrics.jsonl").new()
    assert cli.describe_step(7, sft["data"]) == "step    7   loss nan   lr 1.00e-03   gradient nan   tokens 2,048"
    assert launch_grpo.describe_step(7, grpo["data"]) == "step    7   reward nan   entropy nan   length 8.0   3.0 s"


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
