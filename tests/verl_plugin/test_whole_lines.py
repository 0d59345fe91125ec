"""verl's file logger on a small disk: training goes on, no line is cut short, and those that are lost are counted."""

import errno
import json
from io import FileIO

import pytest
from sv6d.verl_plugin.surviving.whole_lines import LoggedTrainer, WholeLines
from verl.utils.tracking import Tracking


class SmallDisk(FileIO):
    """A file that finds room for so many bytes; as on a real disk, what goes in of a write goes in."""

    room = 100

    def write(self, data):
        free = self.room - self.tell()
        if not free:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[:free])


@pytest.fixture
def disk(tmp_path):
    with SmallDisk(tmp_path / "metrics.jsonl", "wb") as file:
        yield file


def written(disk):
    with open(disk.name) as file:
        return [len(line) for line in file]


def test_lines_without_room_are_counted_and_nothing_of_them_stays(disk, caplog):
    lines = WholeLines(disk)
    lost = []
    for length in (60, 50, 50, 40):  # the last one fits, and fills the disk; the next finds it full
        lines.write(b"x" * (length - 1) + b"\n")
        lost.append(lines.lost)
    lines.write(b"one more\n")
    assert written(disk) == [60, 40]
    assert [*lost, lines.lost] == [0, 1, 2, 0, 1]
    assert "metrics.jsonl (10 bytes too many); training goes on" in caplog.text
    assert "metrics.jsonl ([Errno 28] No space left on device); training goes on" in caplog.text


def test_once_there_is_room_again_lines_are_written(disk):
    lines = WholeLines(disk)
    lines.write(b"x" * 200 + b"\n")
    disk.room = 1_000
    lines.write(b"y" * 200 + b"\n")
    assert written(disk) == [201] and lines.lost == 0


class Base:
    """Stands for verl's trainer."""

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        metrics["timing_s/step"] = 1.0


class Trainer(LoggedTrainer, Base):
    def step(self, step):
        metrics = {}
        self._compute_metrics(None, metrics, {}, step, 0)
        self.logger.log(data=metrics, step=step)


def test_a_trainer_tells_in_a_steps_metrics_how_many_steps_before_it_are_missing(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(path))
    trainer = Trainer()
    trainer.logger = Tracking("sv6d", "test", ["file"])
    disk = trainer._lines._file = SmallDisk(path, "wb")
    for step in (1, 2, 3):
        trainer.step(step)
    disk.room = 1_000
    trainer.step(4)
    trainer.step(5)
    told = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(entry["step"], entry["data"]["sv6d/unlogged_steps"]) for entry in told] == [(1, 0), (4, 2), (5, 0)]


def test_without_a_file_logger_nothing_is_told():
    trainer = Trainer()
    trainer.logger = Tracking("sv6d", "test", ["console"])
    metrics = {}
    trainer._compute_metrics(None, metrics, {}, 1, 0)
    assert "sv6d/unlogged_steps" not in metrics
