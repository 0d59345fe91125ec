"""Runs that are killed, stopped and out of disk: verl's training loop, buffer and checkpoints as they are, on a real
TransferQueue. Only the models are missing: `Rollouts` ends groups in an order of its own, `Policy` keeps the ids that it
was trained on where weights would be.
"""

import errno
import json
import os
import random
from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
import torch
from omegaconf import open_dict
from sv6d.data_mixers.torch_loader import PositionLoader
from sv6d.recipes.compose import compose
from sv6d.sft import manifest
from sv6d.verl_plugin.recording import trainer as recording
from sv6d.verl_plugin.surviving.saving import CheckpointNotSaved, forget_trained
from sv6d.verl_plugin.surviving.watching import WorkerDied
from sv6d.verl_plugin.trainers import ColocateAsyncTrainer, SeparateAsyncTrainer, SyncTrainer
from tensordict import TensorDict
from verl.trainer.ppo.v1.trainer_separate_async import HybridEngineMode
from verl.utils.dataset.rl_dataset import collate_fn

pytestmark = pytest.mark.slow  # Ray and a TransferQueue: ten seconds to start

TASKS, GROUP, BATCH, STEPS = "abc", 2, 6, 8
TRAINERS = {"sync": SyncTrainer, "colocate_async": ColocateAsyncTrainer, "separate_async": SeparateAsyncTrainer}


class Rows:
    """Position i asks task abcabc...[i]."""

    def __getitem__(self, position):
        about = {"id": str(position)}
        task = TASKS[position % len(TASKS)]
        return {"raw_prompt": [{"role": "user", "content": "?"}], "data_source": task, "index": 0, "extra_info": about}

    def refill(self, task, number):
        raise AssertionError("no group of these runs fails")

    def state(self, position):
        return {"position": position}

    def resume(self, state):
        return state["position"]

    def __len__(self):
        return 1000


class Killed(Exception):
    """Where kill -9 would have struck."""


class Policy:
    """A double of the actor's worker group."""

    workers = ()

    def __init__(self):
        self.trained = []
        self.disk_is_full = False

    def save_checkpoint(self, local_path, *_, **__):
        Path(local_path).mkdir(parents=True)
        (Path(local_path) / "weights.json").write_text(json.dumps(self.trained))
        if self.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def load_checkpoint(self, local_path, **_):
        self.trained = json.loads((Path(local_path) / "weights.json").read_text())


class Rollouts:
    """A double of the agent loops: at each look of a waiting trainer some of the groups end."""

    agent_loop_workers = ()

    def __init__(self, tq, rng):
        self.tq, self.rng, self.sent = tq, rng, {}

    def generate_sequences(self, batch):
        for uid, about in zip(batch["uid"], batch["extra_info"], strict=True):
            self.sent[uid] = about["id"]

    def go_on(self):
        for uid in self.rng.sample(sorted(self.sent), max(1, len(self.sent) // 2)) if self.sent else ():
            values = TensorDict({"input_ids": torch.ones(GROUP, 2)}, batch_size=GROUP)
            values["extra_info"] = [{"id": self.sent.pop(uid)}] * GROUP
            keys = [f"{uid}_{session}_0" for session in range(GROUP)]
            self.tq.kv_batch_put(keys=keys, partition_id="train", tags=[{"status": "success"}] * GROUP, fields=values)
            self.tq.kv_put(key=uid, partition_id="train", tag={"status": "finished"})


def without_models(trainer_class):
    """A trainer whose models are doubles; `strikes(place)` may raise `Killed` there."""

    class Doubled(trainer_class):
        def __init__(self, config, tq, rng, strikes):
            self.actor_rollout_wg, self.rollouts, self.strikes = Policy(), Rollouts(tq, rng), strikes
            self.measured, self.looks = [], 0
            super().__init__(config)
            nothing = SimpleNamespace(
                **dict.fromkeys(
                    ["abort_replicas", "sleep_replicas", "update_weights", "resume_generation_replicas"],
                    lambda *_: None,
                )
            )
            self.checkpoint_manager = self.standalone_checkpoint_manager = nothing
            self.current_mode, self._enable_hybrid_replicas = HybridEngineMode.TRAINER, False  # of the separate trainer
            self.llm_server_manager = SimpleNamespace(get_replicas=list)
            self.reward_loop_manager = SimpleNamespace(reward_loop_worker_handles=(), reward_loop_workers=())
            self.train_dataset, self.train_dataloader_it = Rows(), None
            chunk = config.data.gen_batch_size
            self.train_dataloader = PositionLoader(self.train_dataset, chunk, collate_fn=collate_fn)
            self.steps_per_epoch, self.total_training_steps = 1000, STEPS
            self._dump_executor = None
            self.replay_buffer._wait_for_next_poll = self._wait
            self._load_checkpoint()

        def _wait(self, partition_id, last):
            self.looks += 1
            self.strikes(f"look {self.looks}")
            self.rollouts.go_on()
            self.look_after(partition_id)
            return last

        def _step_once(self, metrics, timing_raw, size):
            self.on_sample_begin()
            batch, _ = self.replay_buffer.sample(self.global_steps, "train", size)
            self.on_sample_end()
            data = self.rollouts.tq.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["extra_info"])
            ids = sorted({int(about["id"]) for about in list(data["extra_info"])})
            self.actor_rollout_wg.trained.append(ids)
            self.strikes(f"update {self.global_steps}")
            return batch

        def _save_checkpoint(self):
            super()._save_checkpoint()
            self.strikes(f"saved {self.global_steps}")

        def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
            self.measured.append(global_steps)

        def _start_profiling(self):
            pass

        _stop_profiling = _shutdown_dump_executor = _start_profiling

    return Doubled


@cache
def recipe(mode):
    """The demo's recipe with steps of 6 prompts, half a batch ahead, saved every second step."""
    settings = {
        "sv6d.run_dir": "none",
        "sv6d.data": "none",
        "sv6d.model": "none",
        "sv6d.record_dir": "null",
        "trainer.logger": "[]",
        "trainer.val_before_train": "false",
        "trainer.test_freq": -1,
        "trainer.save_freq": 2,
        "trainer.v1.trainer_mode": f"sv6d_{mode}",
        "trainer.v1.colocate_async.num_warmup_batches": 0.5,  # the separate recipe has it from there
        "trainer.v1.sampler.sampler_kwargs.wait_for_oldest": 1000,
        "data.train_batch_size": BATCH,
        "actor_rollout_ref.actor.ppo_mini_batch_size": BATCH,
    }
    name = "cpu_separate" if mode == "separate_async" else "cpu_demo"
    return compose("grpo", name, [f"{key}={value}" for key, value in settings.items()])


def config(folder, mode, **sv6d):
    composed = deepcopy(recipe(mode))
    with open_dict(composed):
        composed.trainer.default_local_dir = str(folder)
        composed.sv6d.update(sv6d)
        composed.data.gen_batch_size = BATCH if mode == "sync" else 1  # as verl sets it for its loader
    return composed


@pytest.fixture
def run(queue, tmp_path, monkeypatch):
    """Start a run, or go on with it: `run(mode, seed, strikes, **sv6d) -> trainer`, which has ended one way or the other."""

    monkeypatch.setattr(recording, "PROBLEMS", [])  # test modules import ours before verl's, as no run does

    def empty():
        for partition, items in (queue.kv_list() or {}).items():
            if items:
                queue.kv_clear(keys=list(items), partition_id=partition)

    def start(mode="colocate_async", seed=0, strikes=lambda place: None, **sv6d):
        empty()
        found = manifest.last_whole(tmp_path)
        manifest.name_latest(tmp_path, found.step)  # as the launcher does
        trainer = without_models(TRAINERS[mode])(config(tmp_path, mode, **sv6d), queue, random.Random(seed), strikes)
        try:
            trainer.fit(trainer.rollouts)
        except Killed:
            trainer.killed = True
        return trainer

    yield start
    empty()


UNINTERRUPTED = [list(range(BATCH * step, BATCH * (step + 1))) for step in range(STEPS)]


def at(*places):
    """Kill at the first of these places."""

    def strikes(place):
        if place in places:
            raise Killed(place)

    return strikes


def ask_to_stop(folder, place):
    """Touch the file at a place; once."""

    def strikes(reached):
        if reached == place:
            (folder / "stop").touch()

    return strikes


def test_without_interruption_each_step_trains_the_next_prompts(run):
    for mode in TRAINERS:
        assert run(mode).actor_rollout_wg.trained == UNINTERRUPTED


@pytest.mark.parametrize("mode", TRAINERS)
@pytest.mark.parametrize("place", ["look 1", "look 9", "update 3", "saved 2", "update 5", "saved 4", "saved 8"])
def test_a_killed_run_trains_what_it_would_have_trained(run, tmp_path, mode, place):
    """No prompt is lost, none is in the policy twice, and each is in the step of the uninterrupted run."""
    run(mode, 1, at(place))
    assert run(mode, 2).actor_rollout_wg.trained == UNINTERRUPTED


def test_a_checkpoint_counts_once_its_step_is_measured_too(run, tmp_path):
    """Killed between saving step 2 and measuring it: a resumed run would lack the step's metrics and rollouts for good."""
    killed = run("colocate_async", 1, at("saved 2"))
    assert (tmp_path / "global_step_2").exists() and killed.measured == [1]
    resumed = run()
    assert resumed.measured == list(range(1, STEPS + 1))


@pytest.mark.parametrize("mode", TRAINERS)
@pytest.mark.parametrize("place", ["look 1", "look 4", "look 9", "update 3", "update 4", "look 17"])
def test_a_stopped_run_goes_on_as_if_nothing_had_been(run, tmp_path, mode, place):
    stopped = run(mode, 1, ask_to_stop(tmp_path, place))
    done = len(stopped.actor_rollout_wg.trained)
    assert done < STEPS and stopped.actor_rollout_wg.trained == UNINTERRUPTED[:done]
    assert stopped.measured == list(range(1, done + 1))  # nothing of a step is left half
    assert manifest.last_whole(tmp_path).step == done
    (tmp_path / "stop").unlink()
    assert run(mode, 2).actor_rollout_wg.trained == UNINTERRUPTED


@pytest.mark.parametrize("mode", ["colocate_async", "separate_async"])
def test_a_run_that_is_stopped_while_it_waits_gives_the_step_up_and_dispatches_nothing_twice(run, tmp_path, mode):
    """Else each stop would leave a batch more in flight, and older rollouts in every step after it."""
    stopped = run(mode, 1, ask_to_stop(tmp_path, "look 9"))
    in_flight = len(stopped.replay_buffer.quota.groups)
    assert in_flight == BATCH + BATCH // 2  # the step's, and half a batch ahead
    (tmp_path / "stop").unlink()
    resumed = run(mode, 2, at("look 1"))
    assert len(resumed.replay_buffer.quota.groups) == in_flight


def test_stops_and_kills_in_any_order_lose_nothing(run, tmp_path):
    for seed in range(8):
        rng = random.Random(seed)
        place = rng.choice(
            [f"look {rng.randint(1, 12)}", f"update {rng.randint(1, STEPS)}", f"saved {rng.randint(1, 4) * 2}"]
        )
        run("colocate_async", seed, at(place) if rng.random() < 0.5 else ask_to_stop(tmp_path, place))
        (tmp_path / "stop").unlink(missing_ok=True)
    assert run("colocate_async", 9).actor_rollout_wg.trained == UNINTERRUPTED


def test_rollouts_that_were_trained_do_not_come_back_with_a_checkpoint(run, queue):
    """verl saves them with the step that trains them, and would keep them in memory for ever after a resume."""
    run("colocate_async", 1, at("update 3"))
    resumed = run("colocate_async", 2, at("look 1"))
    keys = queue.kv_list("train")["train"]
    assert {key.split("_")[0] for key in keys} <= set(resumed.replay_buffer.quota.groups)


def test_what_was_restored_is_counted(run, queue):
    queue.kv_put(key="x", partition_id="train", tag={"is_prompt": True, "status": "running", "global_steps": 1})
    queue.kv_put(key="y", partition_id="train", tag={"is_prompt": True, "status": "finished", "global_steps": 1})
    queue.kv_put(key="y_0_0", partition_id="train", tag={"status": "success"})
    queue.kv_put(key="z_0_0", partition_id="train", tag={"status": "success"})
    assert forget_trained("train") == {"running": 1, "finished": 1}
    assert sorted(queue.kv_list("train")["train"]) == ["x", "y", "y_0_0"]


# A full disk


@pytest.fixture
def full_disk(monkeypatch):
    """Saves of steps [from, until) find no room."""

    def fill(start, until):
        save = Policy.save_checkpoint

        def without_room(self, local_path, *rest, **more):
            self.disk_is_full = start <= int(Path(local_path).parent.name.split("_")[-1]) < until
            save(self, local_path, *rest, **more)

        monkeypatch.setattr(Policy, "save_checkpoint", without_room)

    return fill


def test_a_checkpoint_that_finds_no_room_is_removed_and_training_goes_on(run, tmp_path, full_disk, caplog):
    full_disk(4, 8)
    trained = run("colocate_async", 1).actor_rollout_wg.trained
    assert trained == UNINTERRUPTED
    assert [path.name for path in manifest.steps_saved(tmp_path).values()] == ["global_step_8", "global_step_2"]
    assert "global_step_4 could not be saved ([Errno 28] No space left on device)" in caplog.text
    assert "that of step 2 stays; training goes on" in caplog.text


def test_or_the_run_ends_where_it_is_told_to(run, tmp_path, full_disk):
    full_disk(4, 8)
    with pytest.raises(CheckpointNotSaved, match=r"global_step_4 could not be saved.*that of step 2 stays"):
        run("colocate_async", 1, on_failed_save="stop")
    assert manifest.last_whole(tmp_path).step == 2


def test_a_trainer_refuses_what_it_would_not_know_how_to_do_then(run):
    with pytest.raises(ValueError, match=r"sv6d\.on_failed_save is 'abort'; set it to continue or stop"):
        run("colocate_async", on_failed_save="abort")


@pytest.mark.parametrize("keep", [1, 2])
def test_the_last_whole_checkpoint_stays_until_the_next_is_whole(run, tmp_path, keep, monkeypatch):
    monkeypatch.setattr(ColocateAsyncTrainer, "_keep", keep)
    seen = []

    def look(place):
        if place.startswith("saved"):
            seen.append(manifest.last_sealed(tmp_path))

    run("colocate_async", 1, look)
    assert seen == [0, 2, 4, 6]
    assert len(manifest.steps_saved(tmp_path)) == 2


def test_a_damaged_checkpoint_does_not_push_the_last_whole_one_out(run, tmp_path):
    """Two are kept. The later one is damaged: it must not count when room is made for the next."""
    run("colocate_async", 1, at("update 5"))
    (tmp_path / "global_step_4" / "actor" / "weights.json").write_text("")
    seen = []
    run("colocate_async", 2, lambda place: seen.append(manifest.steps_saved(tmp_path)) if place == "saved 4" else None)
    assert list(seen[0]) == [4, 2] and manifest.last_whole(tmp_path).step == STEPS


# A worker that dies


class Mortal:
    """A stand-in for an agent loop worker."""

    def die(self):
        os._exit(1)


def test_a_step_whose_rollouts_all_fail_for_a_dead_worker_names_the_worker(run, queue, monkeypatch):
    """Faster than the trainer looks: verl's synchronous buffer then finds nothing to train on."""
    dead = ray.remote(Mortal).remote()
    monkeypatch.setattr(SyncTrainer, "workers", lambda *_: {"reward worker 0": dead})
    monkeypatch.setattr(SyncTrainer, "look_after", lambda *_: None)

    def fail(self):
        dead.die.remote()
        for uid in self.sent:
            queue.kv_put(key=uid, partition_id="train", tag={"status": "failure"})

    monkeypatch.setattr(Rollouts, "go_on", fail)
    with pytest.raises(WorkerDied, match="reward worker 0 died"):
        run("sync")


def test_a_waiting_trainer_ends_at_the_death_of_a_worker(run, queue, monkeypatch):
    dead = ray.remote(Mortal).remote()
    monkeypatch.setattr(ColocateAsyncTrainer, "workers", lambda *_: {"agent loop worker 0": dead})
    monkeypatch.setattr(
        Rollouts, "go_on", lambda self: dead.die.remote()
    )  # it takes its prompts with it: nothing ends any more
    with pytest.raises(WorkerDied, match="agent loop worker 0 died"):
        run("colocate_async")
