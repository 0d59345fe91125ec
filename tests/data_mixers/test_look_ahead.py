"""Looks happen once each, in order, on a thread; what was found goes with copies and forks."""

import gc
import os
import pickle
import subprocess
import sys
import threading

import pytest
from sv6d.data_mixers.look_ahead import LookAhead


class Looks:
    """Tells of each look in which thread it was, and remembers the order."""

    def __init__(self):
        self.seen = []

    def __call__(self, index):
        self.seen.append(index)
        if index < 0:
            raise ValueError(f"no row {index}")
        return index * index, threading.current_thread().name


def test_each_index_is_looked_at_once_in_order():
    looks = Looks()
    ahead = LookAhead(looks)
    ahead.begin([3, 1, 3])
    assert [ahead.result(index)[0] for index in (1, 2, 3)] == [1, 4, 9]
    assert looks.seen == [3, 1, 2]
    assert ahead.result(1)[1].startswith("sv6d-look-ahead")


def test_what_a_look_raises_reaches_who_asks():
    ahead = LookAhead(Looks())
    ahead.begin([-1])
    with pytest.raises(ValueError, match="no row -1"):
        ahead.result(-1)


def test_a_copy_knows_what_was_found_and_looks_on_by_itself():
    ahead = LookAhead(Looks())
    ahead.result(2)
    copy = pickle.loads(pickle.dumps(ahead))
    assert [copy.result(index)[0] for index in (2, 3)] == [4, 9]
    assert copy._look.seen == [2, 3]


def test_a_fork_has_no_thread_and_starts_one():
    ahead = LookAhead(Looks())
    ahead.result(2)
    child = os.fork()
    if child == 0:
        os._exit(0 if (ahead.result(2)[0], ahead.result(3)[0]) == (4, 9) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_process_that_ends_does_not_wait_for_the_looks_that_are_left():
    """A hundred of a second each; the process is given half of that."""
    script = "import time; from sv6d.data_mixers.look_ahead import LookAhead; LookAhead(lambda _: time.sleep(1)).begin(range(100))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=50)


def test_its_thread_ends_with_it():
    ahead = LookAhead(Looks())
    name = ahead.result(2)[1]
    [thread] = [thread for thread in threading.enumerate() if thread.name == name and thread.is_alive()][-1:]
    del ahead
    gc.collect()
    thread.join(30)
    assert not thread.is_alive()


def test_a_process_that_ends_leaves_no_look_under_way():
    """Where its thread is inside torch then, a process with Ray in it would abort."""
    code = """
import atexit, threading, time
atexit.register(lambda: print([t.name for t in threading.enumerate() if "sv6d" in t.name]))  # runs after the looks' own end
from sv6d.data_mixers.look_ahead import LookAhead
looks = LookAhead(lambda index: time.sleep(0.3))
looks.begin(range(1000))
looks.result(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
