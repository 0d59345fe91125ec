"""A supervised job: its steps on the terminal, its output in the log, its failure told with the end of the log."""

import io
import json
import sys
import textwrap
import time

import pytest
from omegaconf import OmegaConf
from rich.console import Console
from sv6d.recipes.compose import RecipeError
from sv6d.recipes.supervise import JobFailed, JsonLines, run, steps_done


def supervise(tmp_path, code, describe=lambda step, data: f"step {step} reward {data['reward']}"):
    out = io.StringIO()
    run(
        [sys.executable, "-u", "-c", textwrap.dedent(code)],
        title="job",
        environment={"METRICS": str(tmp_path / "metrics.jsonl")},
        log=tmp_path / "job.log",
        metrics=tmp_path / "metrics.jsonl",
        total_steps=2,
        describe=describe,
        console=Console(file=out, width=100),
    )
    return out.getvalue()


TWO_STEPS = """
    import json, os
    print("chatter")
    with open(os.environ["METRICS"], "w") as file:
        for step in (1, 2):
            file.write(json.dumps({"step": step, "data": {"reward": step / 10}}) + "\\n")
"""


def test_a_line_a_step_and_the_chatter_in_the_log(tmp_path):
    shown = supervise(tmp_path, TWO_STEPS)
    assert "step 1 reward 0.1" in shown and "step 2 reward 0.2" in shown
    assert "chatter" not in shown
    assert "chatter" in (tmp_path / "job.log").read_text()


def test_a_job_that_fails_ends_with_its_last_words(tmp_path):
    with pytest.raises(JobFailed, match="no such model") as failure:
        supervise(tmp_path, "raise SystemExit('no such model')")
    assert str(tmp_path / "job.log") in failure.value.message


def test_steps_of_an_earlier_attempt_are_kept_and_not_shown_again(tmp_path):
    supervise(tmp_path, TWO_STEPS)
    shown = supervise(tmp_path, TWO_STEPS.replace("(1, 2)", "(2,)"))
    assert "step 1" not in shown and "step 2" in shown
    assert (tmp_path / "metrics-001.jsonl").read_text().count("\n") == 2


def test_a_half_written_line_waits_for_its_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    follower = JsonLines(path)
    assert list(follower.new()) == [{"step": 1}]
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert list(follower.new()) == [{"step": 2}]


def test_an_interrupt_ends_the_job(tmp_path):
    def interrupt(step, data):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        supervise(tmp_path, TWO_STEPS + "\n    import time; time.sleep(300)", describe=interrupt)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize("shards", ["", "actor"])
def test_a_run_continues_from_its_checkpoint_on_the_same_number_of_ranks_only(tmp_path, shards):
    """SFT's shards stand in the checkpoint itself, GRPO's in a folder of it."""
    trainer = {"default_local_dir": str(tmp_path), "resume_mode": "auto", "nnodes": 2, "n_gpus_per_node": 4}
    config = OmegaConf.create({"trainer": trainer})
    assert steps_done(config, shards) == 0
    folder = tmp_path / "global_step_30" / shards
    folder.mkdir(parents=True)
    (folder / "fsdp_config.json").write_text(json.dumps({"world_size": 8}))
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("30")
    assert steps_done(config, shards) == 30
    config.trainer.nnodes = 1
    with pytest.raises(RecipeError, match="saved by 8 ranks and this run has 4"):
        steps_done(config, shards)
    config.trainer.resume_mode = "disable"
    assert steps_done(config, shards) == 0
