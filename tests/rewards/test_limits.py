"""Calls in a process that can be ended: results, errors, time limits, and nothing left behind."""

import asyncio
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading

import psutil
import pytest
from sv6d.rewards import limits

SOON = 20.0
"""Seconds that a call which ends at once never needs."""


def forever():
    while True:
        pass


def process_id():
    return os.getpid()


def child_that_lingers(path):
    child = subprocess.Popen(["sleep", "600"])
    path.write_text(str(child.pid))
    child.wait()


class OddError(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def raise_odd_error():
    raise OddError(1, 2)


def gone(pid):
    """Whether the process ends (it was signalled; the kernel may take a moment)."""
    try:
        process = psutil.Process(pid)
        return not psutil.wait_procs([process], timeout=30)[1] or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def pool():
    pool = limits.WorkerPool(workers=1)
    yield pool
    pool.close()


def call(pool, function, *arguments, seconds=SOON):
    return pool.submit(function, *arguments, seconds=seconds).result()


def test_a_result_comes_back_and_the_process_serves_again(pool):
    assert call(pool, math.sqrt, 4.0) == 2.0
    first = call(pool, process_id)
    assert first != os.getpid() and call(pool, process_id) == first


def test_a_function_given_by_name_is_imported_by_the_worker_alone(pool):
    first = call(pool, process_id)
    assert call(pool, "nturl2path:url2pathname", "///C:/a") == "C:\\a"
    assert "nturl2path" not in sys.modules and call(pool, process_id) == first
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        call(pool, "no_such_module:function")


def test_an_error_of_the_function_comes_back(pool):
    first = call(pool, process_id)
    with pytest.raises(ValueError, match="math domain error"):
        call(pool, math.sqrt, -1.0)
    with pytest.raises(RuntimeError, match="OddError: 1 and 2"):  # one that pickle cannot restore
        call(pool, raise_odd_error)
    with pytest.raises(RuntimeError, match="SystemExit"):
        call(pool, sys.exit, 3)
    assert call(pool, process_id) == first


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(forever, ()), (re.match, (r"(a+)+$", "a" * 60 + "b"))],  # the second never lets another thread run
    ids=["while True", "regex catastrophe"],
)
def test_a_call_that_takes_too_long_is_ended_with_its_process(pool, function, arguments):
    doomed = call(pool, process_id)
    with pytest.raises(limits.TimeLimitError, match=r"took more than 0\.2 s"):
        call(pool, function, *arguments, seconds=0.2)
    assert gone(doomed)
    assert call(pool, math.sqrt, 9.0) == 3.0


def test_what_a_call_started_ends_with_it(pool, tmp_path):
    pid_file = tmp_path / "pid"
    with pytest.raises(limits.TimeLimitError):
        call(pool, child_that_lingers, pid_file, seconds=1.0)
    assert gone(int(pid_file.read_text()))


def test_a_process_that_dies_is_told_and_replaced(pool):
    with pytest.raises(limits.WorkerDiedError, match="_exit"):
        call(pool, os._exit, 7)
    assert call(pool, math.sqrt, 16.0) == 4.0


def test_what_cannot_be_pickled_is_refused_at_the_call(pool):
    with pytest.raises(Exception, match="pickle"):
        pool.submit(lambda: 1, seconds=SOON)


def test_the_event_loop_goes_on_while_a_call_runs():
    async def together():
        ticks = 0
        doomed = asyncio.ensure_future(limits.run_async(forever, seconds=0.3))
        while not doomed.done():
            ticks += 1
            await asyncio.sleep(0.01)
        with pytest.raises(limits.TimeLimitError):
            doomed.result()
        return ticks

    assert asyncio.run(together()) > 3


def test_calls_from_several_threads():
    results = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(limits.run(math.factorial, n, seconds=SOON)))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(map(math.factorial, range(6)))


def test_after_a_fork_the_child_has_workers_of_its_own():
    pool = limits.WorkerPool(workers=1)
    ours = call(pool, process_id)
    assert limits.run(math.sqrt, 4.0, seconds=SOON) == 2.0
    pid = os.fork()
    if not pid:
        del pool
        os._exit(0 if limits.run(math.sqrt, 4.0, seconds=SOON) == 2.0 else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert call(pool, process_id) == ours
    pool.close()
    assert gone(ours)


def test_a_script_without_a_main_guard_runs_once(tmp_path):
    script = tmp_path / "train.py"
    script.write_text("import math\nfrom sv6d.rewards import limits\nprint(limits.run(math.sqrt, 4.0, seconds=20))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("2.0\n", 0), done.stderr


def test_a_worker_does_not_outlive_a_parent_that_was_killed(tmp_path):
    code = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import test_limits
        from sv6d.rewards import limits
        print(limits.run(test_limits.process_id, seconds=20), flush=True)
        limits._shared().submit(test_limits.forever, seconds=1.0)
        print(limits.run(test_limits.process_id, seconds=20), flush=True)
        input()
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    workers = {int(parent.stdout.readline()), int(parent.stdout.readline())}
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all(gone(pid) for pid in workers)
