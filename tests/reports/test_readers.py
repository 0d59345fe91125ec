"""Runs that others recorded: verl's own loggers and dumps, alone, together, damaged; each says what it lacks."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from constructed_run import build
from sv6d.reports.runs import RunError, load_run, summary
from sv6d.schema import TASKS

LOGGERS = {"file": "verl's file logger", "wandb_here": "W&B's offline files", "tensorboard": "TensorBoard"}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """What `verl_logs.py` describes, written by verl, TensorBoard and W&B themselves."""
    folder = tmp_path_factory.mktemp("logs") / "logs"
    script = Path(__file__).with_name("verl_logs.py")
    subprocess.run([sys.executable, script, folder], check=True, capture_output=True, text=True)
    return folder


@pytest.fixture
def copied(logs, tmp_path):
    return Path(shutil.copytree(logs, tmp_path / "logs"))


def only(folder, *kept):
    for inside in folder.iterdir():
        if inside.name not in kept:
            shutil.rmtree(inside)
    return folder


@pytest.mark.parametrize("logger", LOGGERS)
def test_the_metrics_of_every_logger_are_read_through_a_resume(logs, logger):
    run = load_run(logs / logger)
    assert run.metrics.index.tolist() == [0, 1, 2, 3, 4, 5]
    # steps 3 and 4 are those of the second process
    assert run.metrics["critic/score/mean"].dropna().tolist() == pytest.approx([0.1, 0.2, 0.8, 0.9, 1.0])
    assert run.metrics["val-core/subject/reward/mean@1"].dropna().tolist() == pytest.approx([0.0, 0.7])
    assert "actor/kl_loss" not in run.metrics  # never a number
    assert run.sources[0].startswith(LOGGERS[logger])
    judged = summary(run)
    assert (judged["length_last"], judged["steps"], judged["rollouts"]) == (7.0, 5, 0)
    assert judged["heldout_after"] == {"subject": pytest.approx(0.7)}


@pytest.mark.parametrize("logger", LOGGERS)
def test_metrics_by_task_and_component_keep_their_names(logs, logger):
    metrics = load_run(logs / logger).metrics
    mine = [key for key in metrics if key.startswith("task/")]
    assert len(mine) == 13 * 20 and {key.split("/")[1] for key in mine} == set(TASKS)
    assert metrics.loc[5, "task/subject/score"] == pytest.approx(1.0)
    assert metrics.loc[5, "task/visual_reasoning/judge_failed"] == pytest.approx(
        1.19
    )  # 1 + 19 / 100, the last of 20 names


def test_a_run_without_rollouts_says_so_and_how_to_have_them(logs):
    (missing,) = load_run(logs / "file").missing
    assert missing.startswith("No rollouts") and "sv6d_*" in missing and "trainer.rollout_data_dir" in missing


@pytest.mark.parametrize(
    "pattern", ["file/metrics.jsonl", "tensorboard/sv6d/run/*.tfevents.*", "wandb_here/wandb/offline-run-*/run-*.wandb"]
)
def test_a_single_file_is_a_run(logs, pattern):
    files = [load_run(file) for file in logs.glob(pattern)]
    assert {5} <= {run.metrics.index.max() for run in files} and all(not run.rollouts.size for run in files)


def test_v1_s_dumps_are_rollouts(logs):
    run = load_run(logs / "v1")
    assert run.rollouts["step"].tolist() == [1] * 4 + [2] * 4 + [10] * 4  # by number, not by name
    first = run.rollouts.iloc[:4]
    assert first["uid"].tolist() == ["a1_0_0", "a1_1_0", "b1_0_0", "b1_1_0"]
    assert first["group"].tolist() == ["a1", "a1", "b1", "b1"]
    assert first["score"].tolist() == [1.0, 0.0, 0.5, 0.25]
    assert set(first["task"]) == {"unknown"} and first["response_length"].isna().all()
    assert first["prompt"].nunique() == 2
    assert "lack task, length, truncation" in run.missing[0] and run.notes == ()
    assert summary(run)["reward_first"] == 0.4375  # (1 + 0 + .5 + .25) / 4


def test_v0_s_dumps_have_the_components_that_our_rewards_gave(logs):
    rollouts = load_run(logs / "v0").rollouts.iloc[:4]
    assert rollouts["iou"].tolist() == [1.0, 0.0, 0.5, 0.25] and rollouts["label"].isna().all()
    assert rollouts["task"].tolist() == ["subject", "subject", "ocr_regular", "ocr_regular"]
    assert rollouts["group"].nunique() == 2  # without keys: who answers the same prompt in a step


def test_texts_of_dumps_are_read_when_they_are_asked_for(logs):
    run = load_run(logs / "v1")
    assert len(run.texts()) == 12
    told = run.texts(uids=["a1_1_0"], steps=[1]).to_dict("records")
    assert told == [{"step": 1, "uid": "a1_1_0", "response": "no", "ground_truth": "yes", "text_at_random": True}]
    assert run.texts(steps=[2])["response"].tolist() == ["yes", "no", "é", ""]


def test_a_folder_with_several_formats_is_one_run(copied):
    only(copied, "file", "tensorboard", "v1", "dumps_of_validation")
    (copied / "file" / "metrics.jsonl").write_text("")  # the second process's: lost
    run = load_run(copied)
    assert [source.split(":")[0] for source in run.sources] == [
        "verl's file logger",
        "TensorBoard",
        "verl's rollout dumps",
    ]
    assert run.metrics.index.tolist() == [0, 1, 2, 3, 4, 5]  # 5 from TensorBoard
    assert run.metrics.loc[4, "critic/score/mean"] == 0.4  # the file logger is believed where it has something
    assert len(run.rollouts) == 12
    assert run.notes[0] == "dumps_of_validation/ holds dumps of validations, which are left out."


def test_our_recorder_goes_before_dumps(copied, tmp_path):
    run = build(tmp_path / "run", steps=2, tasks=("subject",))
    shutil.copytree(copied / "v1", run / "dumps")
    loaded = load_run(run)
    assert len(loaded.rollouts) == 2 * 2 * 4 and set(loaded.rollouts["task"]) == {"subject"}
    assert loaded.missing == ()


def test_dumps_may_lie_where_our_recorder_s_rollouts_would(copied, tmp_path):
    shutil.copytree(copied / "v1", tmp_path / "run" / "rollouts")
    for path in (tmp_path / "run", tmp_path / "run" / "rollouts"):
        assert len(load_run(path).rollouts) == 12


def test_two_runs_in_a_folder_are_refused_with_their_names(copied):
    shutil.copytree(copied / "tensorboard" / "sv6d" / "run", copied / "tensorboard" / "sv6d" / "other")
    with pytest.raises(RunError, match=r"2 runs are here, with sv6d/other/.*, sv6d/run/.*; name the folder"):
        load_run(copied / "tensorboard")
    assert len(load_run(copied / "tensorboard" / "sv6d" / "other").metrics) == 6


def test_two_experiments_of_the_file_logger_are_two_runs(copied):
    for name in ("first", "second"):  # verl's own place is <project>/<experiment>.jsonl
        shutil.copy(copied / "file" / "metrics.jsonl", copied / f"{name}.jsonl")
    with pytest.raises(RunError, match=r"2 runs are here, with first\.jsonl, second\.jsonl"):
        load_run(only_files(copied))
    assert load_run(copied / "first.jsonl").metrics.index.tolist() == [2, 3, 4, 5]


def only_files(folder):
    return only(folder, *(inside.name for inside in folder.iterdir() if inside.is_file()))


# Damage


def newest(folder, pattern):
    return max(folder.rglob(pattern), key=lambda file: str(file))


@pytest.mark.parametrize(("logger", "pattern"), [("tensorboard", "*.tfevents.*"), ("wandb_here", "*.wandb")])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_of_a_damaged_file_what_is_whole_is_read_and_the_rest_is_named(copied, logger, pattern, damage):
    file = newest(copied / logger, pattern)
    content, middle = bytearray(file.read_bytes()), file.stat().st_size // 2
    if damage == "cut":
        content = content[:middle]
    else:
        content[middle] ^= 0xFF
    file.write_bytes(content)
    run = load_run(copied / logger)
    assert f"{file.name} ends in a broken record" in run.missing[0] and "bytes are left out" in run.missing[0]
    assert {0, 1, 2} <= set(run.metrics.index) and run.metrics.index.max() < 5
    assert run.metrics.loc[1, "critic/score/mean"] == pytest.approx(0.1)


@pytest.mark.parametrize(("logger", "pattern"), [("tensorboard", "*.tfevents.*"), ("wandb_here", "*.wandb")])
def test_a_file_of_garbage_is_named(copied, logger, pattern):
    only(copied, logger)
    for file in copied.rglob(pattern):
        file.write_bytes(b"garbage" * 100)
    with pytest.raises(RunError, match=r"nothing to report\. \S+ (ends in a broken record|does not begin as W&B's)"):
        load_run(copied)


def test_a_line_that_is_no_rollout_is_counted(copied):
    with (copied / "v1" / "2.jsonl").open("a") as file:
        file.write('[1]\n{"input": "what is')
    run = load_run(copied / "v1")
    assert run.missing[0] == "2.jsonl: 2 line(s) are not whole and left out, the first is line 5."
    assert len(run.rollouts) == 12


# Libraries that are not there


@pytest.mark.parametrize(
    ("logger", "module", "mend"),
    [
        ("tensorboard", "tensorboard.backend.event_processing.event_file_loader", "pip install tensorboard"),
        ("wandb_here", "wandb.proto.wandb_internal_pb2", "pip install wandb"),
    ],
)
def test_a_format_whose_library_is_missing_says_what_to_install(copied, monkeypatch, logger, module, mend):
    monkeypatch.setitem(sys.modules, module, None)
    only(copied, logger, "file")
    with pytest.raises(RunError, match=mend):
        load_run(copied / logger)
    run = load_run(copied)  # what can be read is
    assert mend in run.missing[0] and len(run.metrics) == 6


def test_numbers_that_are_none_are_left_out_of_every_format(logs):
    for logger in LOGGERS:
        assert not any(math.isinf(v) for v in load_run(logs / logger).metrics.to_numpy().ravel())
