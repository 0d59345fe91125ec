"""Whether a run's workers live: real Ray actors that are busy, die, and lose the engine that they serve."""

import os
import signal
import time
from types import SimpleNamespace

import pytest
import ray
from sv6d.recipes.compose import compose
from sv6d.recipes.demo.model import build_model
from sv6d.verl_plugin.surviving.watching import Watch, WorkerDied

pytestmark = pytest.mark.slow  # Ray takes ten seconds to start


@ray.remote
class Worker:
    """A stand-in for a worker of verl: what matters of one here is that it is a Ray actor."""

    def busy(self, seconds):
        time.sleep(seconds)

    def die(self):
        os._exit(1)

    def lose_engine(self):
        self.engine = SimpleNamespace(errored=True)  # vLLM's client, when it has seen its process go


def test_a_dead_worker_is_told_by_name(queue):
    alive, dead = Worker.remote(), Worker.remote()
    watch = Watch({"reward worker 0": alive, "reward worker 1": dead})
    for _ in range(3):
        watch.look()
    ray.get(
        [worker.busy.remote(0) for worker in (alive, dead)]
    )  # their answers to the last look lie here, older than the death
    dead.die.remote()
    with pytest.raises(WorkerDied, match=r"^reward worker 1 died; the run cannot go on without it"):
        watch.keep_looking(30)
    ray.kill(alive)


def test_so_is_verls_reward_worker_that_is_killed(queue, tmp_path):
    from verl.experimental.reward_loop.reward_loop import RewardLoopManager

    build_model([([{"role": "user", "content": "?"}], "!")], tmp_path)
    paths = ["sv6d.data=d", f"sv6d.model={tmp_path}", f"sv6d.run_dir={tmp_path}"]
    (worker,) = RewardLoopManager(compose("grpo", "cpu_demo", paths)).reward_loop_workers
    watch = Watch({"reward worker 0": worker})
    pid = ray.get(worker.__ray_call__.remote(lambda actor: os.getpid()))
    watch.look()
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerDied, match=r"^reward worker 0 died"):
        watch.keep_looking(30)


def test_a_server_without_its_engine_is_a_dead_one(queue):
    server = Worker.remote()
    watch = Watch({"rollout server 0": server})
    watch.look()
    ray.get(server.lose_engine.remote())
    with pytest.raises(WorkerDied, match="rollout server 0: its engine died; the run"):
        watch.keep_looking(30)
    ray.kill(server)


def test_a_busy_worker_is_not_taken_for_a_dead_one(queue):
    worker = Worker.remote()
    done = worker.busy.remote(2)
    watch = Watch({"training worker 0": worker})
    while not ray.wait([done], timeout=0.1)[0]:
        watch.look()
    watch.look()
    ray.kill(worker)
