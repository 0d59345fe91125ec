"""One run a folder: a launcher keeps others out, for itself and for its job."""

import errno
import fcntl
import io
import os
import subprocess
import sys

import pytest
from rich.console import Console
from sv6d.recipes.compose import RecipeError
from sv6d.recipes.running.restarts import only_one


def test_a_second_launcher_waits_for_the_first_ones_job_and_then_refuses(tmp_path):
    """The hold is the job's too: one that lost its launcher is not joined by another."""
    out = io.StringIO()
    with only_one(tmp_path, 1, "GRPO", Console(file=out, width=400)) as held:
        job = subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=[held]
        )
    with (
        pytest.raises(RecipeError, match=r"another job still trains in .* after 1 s"),
        only_one(tmp_path, 1, "GRPO", Console(file=out, width=400)),
    ):
        pass
    assert "waiting for its end" in out.getvalue()
    job.communicate()
    with only_one(tmp_path, 1, "GRPO", Console(file=out, width=400)):
        pass


def test_a_file_system_without_locks_is_told_and_trained_on_all_the_same(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", flock)
    out = io.StringIO()
    with only_one(tmp_path, 1, "GRPO", Console(file=out, width=400)):
        assert "lock cannot be locked (Operation not supported)" in out.getvalue()
