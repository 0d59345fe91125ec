"""A trainer without models, for tests of balanced steps: verl's trainer, its buffer and its checkpoints as they are, on a real
TransferQueue. `Run` finishes, fails or holds back rollouts as each test says, where verl would sleep between two looks at the
queue. Time is the run's own clock."""

from collections import Counter
from types import SimpleNamespace

import torch
from omegaconf import OmegaConf
from sv6d.verl_plugin.trainers import ColocateAsyncTrainer
from tensordict import TensorDict
from torchdata.stateful_dataloader import StatefulDataLoader
from verl.utils.dataset.rl_dataset import collate_fn

TASKS, GROUP = "abc", 2


class Rows:
    """Position i asks task abcabc...[i]; refills have ids of their own."""

    def __getitem__(self, position):
        return self._row(TASKS[position % len(TASKS)], str(position))

    def refill(self, task, number):
        return self._row(task, f"refill{number}")

    def _row(self, task, name):
        about = {"id": f"{task}:{name}"}
        return {"raw_prompt": [{"role": "user", "content": "?"}], "data_source": task, "index": 0, "extra_info": about}

    def __len__(self):
        return 1000


def config(folder, sampler, filter_groups=None):
    sampler = {
        "max_off_policy_threshold": 3,
        "max_off_policy_strategy": "drop",
        "custom_sampler": {"path": "pkg://sv6d.verl_plugin.replay_buffer", "name": "BalancedReplayBuffer"},
        "sampler_kwargs": {"wait_for_oldest": 10, "wait_for_task": 100},
        **sampler,
    }
    trainer = {"default_local_dir": str(folder), "default_hdfs_dir": None, "resume_mode": "auto"}
    trainer |= {"del_local_ckpt_after_load": False, "v1": {"colocate_async": {}, "sampler": sampler}}
    return OmegaConf.create(
        {
            "trainer": trainer,
            "data": {"train_batch_size": 6, "gen_batch_size": 1},
            "algorithm": {"filter_groups": filter_groups},
            "reward": {"reward_model": {"enable": False}},
            "actor_rollout_ref": {"actor": {}},
            "skip": {"rollout_tq": {"enable": False}},
        }
    )


class Run:
    """A `ColocateAsyncTrainer` without models. `script` yields once for every look at the queue that finds too little."""

    def __init__(self, tq, folder, *, resume=False, filter_groups=None, **sampler):
        self.tq = tq
        self.now = 0.0
        self.sent = {}
        trainer = self.trainer = object.__new__(ColocateAsyncTrainer)
        trainer.config, trainer.trainer_mode, trainer.global_steps = (
            config(folder, sampler, filter_groups),
            "colocate_async",
            1,
        )
        trainer.use_critic, trainer._restored_tq_prompt_count = False, 0
        trainer.checkpoint_callback = SimpleNamespace(on_save=lambda **_: None)
        trainer.actor_rollout_wg = SimpleNamespace(save_checkpoint=lambda *_, **__: 0, load_checkpoint=lambda **_: 0)
        trainer.agent_loop_manager = SimpleNamespace(generate_sequences=self.receive)
        trainer.train_dataset, trainer.train_dataloader_it = Rows(), None
        trainer.train_dataloader = StatefulDataLoader(Rows(), batch_size=1, collate_fn=collate_fn)
        trainer.replay_buffer = self.buffer = trainer._build_replay_buffer()
        self.buffer.clock = lambda: self.now
        if resume:
            trainer._load_checkpoint()
            trainer.global_steps += 1
            trainer._reissue_inflight_prompts()

    def receive(self, batch):
        """What the agent loops get: prompts, by the id of their row."""
        for uid, about in zip(batch["uid"], batch["extra_info"], strict=True):
            self.sent[about["id"]] = uid

    def end(self, *ids, status="finished", scores=(0.0, 1.0), components=({}, {})):
        """Rollouts of these prompts end; where they end well, their trajectories lie in the queue, scored so."""
        for name in ids:
            uid = self.sent.pop(name)
            if status == "finished":
                values = TensorDict({"input_ids": torch.ones(GROUP, 2)}, batch_size=GROUP)
                values["rm_scores"] = torch.tensor([[0.0, score] for score in scores])
                values["extra_info"] = [{"id": name}] * GROUP
                values["extra_fields"] = [{"reward_extra_info": found} for found in components]
                keys = [f"{uid}_{session}_0" for session in range(GROUP)]
                tags = [{"status": "success", "global_steps": self.trainer.global_steps}] * GROUP
                self.tq.kv_batch_put(keys=keys, partition_id="train", tags=tags, fields=values)
            self.tq.kv_put(key=uid, partition_id="train", tag={"status": status})

    def step(self, script=()):
        """Train one step; the ids of the rows that it trained, in order. A script that ends first is a StopIteration."""
        trainer, events = self.trainer, iter(script)
        self.buffer._wait_for_next_poll = lambda partition_id, last_debug_time: next(events) or last_debug_time
        batch, _ = self.buffer.sample(global_steps=trainer.global_steps, partition_id="train", batch_size=6)
        data = self.tq.kv_batch_get(keys=batch.keys, partition_id="train", select_fields=["extra_info"])
        self.tq.kv_clear(keys=batch.keys, partition_id="train")
        trainer.global_steps += 1
        counts = Counter(about["id"] for about in list(data["extra_info"]))
        assert set(counts.values()) == {GROUP}  # whole groups
        return sorted(counts, key=lambda name: name.split(":")[::-1])


def ids(*positions):
    return [f"{TASKS[position % 3]}:{position}" for position in positions]
