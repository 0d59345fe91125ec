"""A supervised job: its steps on the terminal, its output in the log, and none of its processes left when it is over."""

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from sv6d.recipes.running.supervise import Job, JsonLines, Limits, StopRequest, end, lasting, report_skipped, run

LIMITS = Limits(grace=30)


@pytest.fixture(autouse=True)
def no_long_looks(monkeypatch):
    monkeypatch.setattr("sv6d.recipes.running.supervise.POLL_SECONDS", 0.02)


def job(tmp_path, code, describe=lambda step, data: f"step {step} reward {data['reward']}"):
    return Job(
        title="job",
        command=[sys.executable, "-u", "-c", textwrap.dedent(code)],
        environment={"METRICS": str(tmp_path / "metrics.jsonl"), "FOLDER": str(tmp_path)},
        log=tmp_path / "job.log",
        metrics=tmp_path / "metrics.jsonl",
        total_steps=2,
        describe=describe,
    )


def supervise(tmp_path, code, limits=LIMITS, **more):
    out = io.StringIO()
    with StopRequest() as stop:
        end = run(job(tmp_path, code, **more), stop, limits, Console(file=out, width=200))
    return end, out.getvalue()


TWO_STEPS = """
    import json, os
    print("chatter")
    with open(os.environ["METRICS"], "w") as file:
        for step in (1, 2):
            file.write(json.dumps({"step": step, "data": {"reward": step / 10}}) + "\\n")
"""


def test_a_line_a_step_and_the_chatter_in_the_log(tmp_path):
    end, shown = supervise(tmp_path, TWO_STEPS)
    assert "step 1 reward 0.1" in shown and "step 2 reward 0.2" in shown
    assert "chatter" not in shown
    assert "chatter" in (tmp_path / "job.log").read_text()
    assert (end.status, end.step, end.stalled) == (0, 2, False)


def test_a_job_that_fails_ends_with_its_last_words_and_none_of_an_earlier_attempt(tmp_path):
    supervise(tmp_path, "raise SystemExit('the first')")
    end, _ = supervise(tmp_path, "raise SystemExit('no such model')")
    assert (end.status, end.step, end.words) == (1, None, "no such model")


def test_steps_of_an_earlier_attempt_are_kept_and_not_shown_again(tmp_path):
    supervise(tmp_path, TWO_STEPS)
    _, shown = supervise(tmp_path, TWO_STEPS.replace("(1, 2)", "(2,)"))
    assert "step 1" not in shown and "step 2" in shown
    assert (tmp_path / "metrics-001.jsonl").read_text().count("\n") == 2


def test_a_half_written_line_waits_for_its_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st')
    follower = JsonLines(path)
    assert list(follower.new()) == [{"step": 1}]
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert list(follower.new()) == [{"step": 2}]


def test_a_line_that_a_full_disk_cut_short_does_not_end_the_job(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "da{"step": 3}\n{"step": 4}\n')
    assert list(JsonLines(path).new()) == [{"step": 1}, {"step": 4}]


def test_a_line_that_cannot_be_written_does_not_end_the_job(tmp_path):
    end, shown = supervise(tmp_path, TWO_STEPS, describe=lambda step, data: f"{data['entropy']:.3f}")
    assert (end.status, end.step) == (0, 2)
    assert "step 2: its line cannot be written (KeyError: 'entropy')" in shown


@pytest.mark.parametrize("gone", ["a closed terminal", "the reader of a pipe"])
def test_a_job_outlives_those_who_look_at_it(tmp_path, gone):
    """`sv6d grpo ... | head`, or a terminal closed on a command that does not mind."""
    reader, writer = os.openpty() if gone == "a closed terminal" else os.pipe()
    stream = os.fdopen(writer, "w")
    os.close(reader)
    console = Console(file=stream, width=200)
    with StopRequest() as stop, lasting(console):
        end = run(job(tmp_path, TWO_STEPS), stop, LIMITS, console)
        console.print("and so does its launcher")
    stream.close()
    assert (end.status, end.step) == (0, 2)


def test_what_a_step_says_of_checkpoints_is_shown(tmp_path):
    code = TWO_STEPS.replace(
        '{"reward": step / 10}',
        '{"reward": 0, "sv6d/checkpoint_failed": step - 1, "sv6d/unlogged_steps": 3 * (step - 1), '
        '"sv6d/restored_groups": 3, "sv6d/restarted_groups": 13}',
    )
    _, shown = supervise(tmp_path, code)
    assert shown.count("no checkpoint, it could not be saved") == 1
    assert "step 2: the metrics of 3 before it found no room on the disk" in shown
    assert "step 1: the metrics of" not in shown
    assert (
        "step 1: of the prompts that were in flight when the checkpoint was saved, 3 had their rollouts, 13 were"
        in shown
    )


def test_an_interrupt_ends_the_job(tmp_path):
    def interrupt(step, data):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        supervise(tmp_path, TWO_STEPS + "\n    import time; time.sleep(300)", describe=interrupt)
    assert time.monotonic() - start < 60


def test_skipped_rows_are_told_whatever_a_killed_process_left_of_their_list(tmp_path):
    line = json.dumps({"task": "subject", "index": 7, "id": "clip-7", "error": "it is empty"})
    (tmp_path / "skipped_rows.jsonl").write_text(f'{line}\n{{"task": "sub\n{line}\n{{"tas')
    out = io.StringIO()
    report_skipped(tmp_path, Console(file=out, width=200))
    assert "1 rows were skipped (1 of subject)" in out.getvalue()
    assert "subject row 7 (id 'clip-7'): it is empty" in out.getvalue()


# SIGTERM

SAVES_AND_ENDS = """
    import json, os, signal, sys, time
    def end(*_):
        print("saved")
        sys.exit(75)
    signal.signal(signal.SIGTERM, end)
    with open(os.environ["METRICS"], "w") as file:
        file.write(json.dumps({"step": 1, "data": {"reward": 0}}) + "\\n")
    time.sleep(300)
"""


def terminate(step, data):
    """Sends this process what a cluster sends the launcher."""
    os.kill(os.getpid(), signal.SIGTERM)
    return f"step {step}"


def test_sigterm_is_passed_on_to_the_job_which_has_time_to_save(tmp_path):
    end, shown = supervise(tmp_path, SAVES_AND_ENDS, describe=terminate)
    assert (end.status, end.step, end.words) == (75, 1, "saved")
    assert "the job has 30 s (sv6d.grace) to save and end" in shown


def test_a_job_that_would_end_at_sigterm_is_asked_by_a_file(tmp_path):
    """As torchrun would, and its ranks with it."""
    code = (
        TWO_STEPS
        + """
    import time
    while not os.path.exists(os.environ["FOLDER"] + "/checkpoints/stop"):
        time.sleep(0.01)
    print("saved")
"""
    )
    stop = tmp_path / "checkpoints" / "stop"
    out = io.StringIO()
    with StopRequest() as asked:
        asked_by_file = job(tmp_path, code, describe=terminate)._replace(stop=stop)
        end = run(asked_by_file, asked, LIMITS, Console(file=out, width=200))
    assert (end.status, end.words) == (0, "chatter\nsaved")


def test_a_job_that_takes_longer_than_the_grace_is_ended(tmp_path):
    deaf = SAVES_AND_ENDS.replace("sys.exit(75)", "return").replace(
        "signal.signal(signal.SIGTERM, end)",
        "signal.signal(signal.SIGTERM, end); signal.signal(signal.SIGINT, signal.SIG_DFL)",
    )
    end, _ = supervise(tmp_path, deaf, limits=Limits(grace=0.5), describe=terminate)
    assert end.status == -signal.SIGINT


def twice(step, data):
    terminate(step, data)
    terminate(step, data)


def test_a_second_sigterm_does_not_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("sv6d.recipes.running.supervise.AT_ONCE", 0)
    with pytest.raises(KeyboardInterrupt):
        supervise(tmp_path, SAVES_AND_ENDS, describe=twice)


def test_two_that_come_together_are_one(tmp_path):
    """`timeout` signals its child and then its process group: the same process twice."""
    end, _ = supervise(tmp_path, SAVES_AND_ENDS, describe=twice)
    assert (end.status, end.words) == (75, "saved")


def test_an_impatient_second_ctrl_c_leaves_no_process_behind(tmp_path):
    deaf = "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(os.getpid()); time.sleep(300)"
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", deaf], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    child.stdout.readline()
    threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
    end(child)
    assert child.returncode == -signal.SIGKILL


# Jobs that hang, and what a dead job leaves behind


def test_a_job_that_makes_no_step_for_too_long_is_ended(tmp_path):
    end, _ = supervise(tmp_path, TWO_STEPS + "\n    import time; time.sleep(300)", limits=Limits(stalled_after=3))
    assert end.stalled and end.step == 2 and end.status != 0


def test_slow_steps_are_not_taken_for_a_hang():
    """Three times the longest, 3 x 3,000 s = 9,000 s, where that is more than the setting."""
    assert Limits(stalled_after=7200).patience(longest=0) == 7200
    assert Limits(stalled_after=7200).patience(longest=3000) == 9000
    assert Limits(stalled_after=None).patience(longest=3000) is None


def test_steps_that_are_longer_than_the_time_to_stop_are_told_once(tmp_path):
    code = """
        import json, os, time
        with open(os.environ["METRICS"], "w", buffering=1) as file:
            for step in (1, 2, 3):
                file.write(json.dumps({"step": step, "data": {"reward": 0}}) + chr(10))
                time.sleep(0.5)
    """
    _, shown = supervise(tmp_path, code, limits=Limits(grace=0.2))
    assert shown.count("a job that is asked to stop has 0.2 s (sv6d.grace): in the middle of an update") == 1
    _, shown = supervise(tmp_path, code, limits=Limits(grace=60))
    assert "sv6d.grace" not in shown


def test_no_process_of_a_job_outlives_it(tmp_path):
    """As Ray's and vLLM's would that of a job which was killed: in its session, in process groups of their own."""
    code = """
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], preexec_fn=lambda: os.setpgid(0, 0))
        print(child.pid)
        os.kill(os.getpid(), 9)
    """
    end, _ = supervise(tmp_path, code)
    assert end.status == -signal.SIGKILL
    assert not psutil.pid_exists(int(end.words))


@pytest.mark.slow  # Ray takes its ten seconds
def test_nor_does_a_ray_that_lost_its_driver(tmp_path):
    code = """
        import os, subprocess, sys, ray
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False)

        @ray.remote
        class Server:
            def start(self):
                engine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
                return [os.getpid(), engine.pid]

        server = Server.remote()
        print(*ray.get(server.start.remote()))
        os.kill(os.getpid(), 9)
    """
    end, _ = supervise(tmp_path, code)
    assert end.status == -signal.SIGKILL
    assert [psutil.pid_exists(int(pid)) for pid in end.words.splitlines()[-1].split()] == [False, False]


LAUNCHER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_supervise import SAVES_AND_ENDS, supervise
supervise(Path({folder!r}), SAVES_AND_ENDS)
"""


def test_a_job_whose_launcher_is_killed_is_asked_to_save_and_end(tmp_path):
    code = LAUNCHER.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    launcher = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 60
    while not (tmp_path / "metrics.jsonl").exists():
        assert launcher.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    (child,) = psutil.Process(launcher.pid).children()
    launcher.kill()
    launcher.wait()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
    assert "saved" in (tmp_path / "job.log").read_text()


def test_other_threads_of_the_launcher_do_not_matter_to_that(tmp_path):
    """Linux tells the job of the death of the thread that began it: a job begun in the main thread outlives other threads."""
    thread = threading.Thread(target=time.sleep, args=(0.1,))
    thread.start()
    end, _ = supervise(tmp_path, "import time; time.sleep(1); print('whole')")
    thread.join()
    assert (end.status, end.words) == (0, "whole")
