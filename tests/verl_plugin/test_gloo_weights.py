"""The gloo checkpoint engine: weights arrive bit for bit, and a member that dies ends the sync instead of hanging it."""

import asyncio
import os
import signal

import torch
import torch.multiprocessing as mp
from sv6d.verl_plugin.gloo_weights import GlooCheckpointEngine, fill_buckets
from verl.checkpoint_engine import CheckpointEngineRegistry

BUCKET = 1 << 16


def weights(seed):
    """Smaller than a bucket, much larger, of one byte, of odd length, without dimensions; of types of 1, 2, 4 and 8 bytes."""
    random = torch.Generator().manual_seed(seed)
    yield "matrix", torch.randn(7, 3, generator=random)
    yield "byte", torch.tensor([seed], dtype=torch.uint8)
    yield "large", torch.randn(100_003, generator=random)
    yield "scalar", torch.tensor(3.5 + seed)
    yield "half", torch.randn(333, generator=random).bfloat16()
    yield "long", torch.arange(5) + seed
    yield "as large as a bucket", torch.randn(BUCKET // 4, generator=random)


async def everything(engine):
    return [(name, tensor.clone()) async for name, tensor in engine.receive_weights()]


def same(received, sent):
    return [name for name, _ in received] == [name for name, _ in sent] and all(
        a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        for (_, a), (_, b) in zip(received, sent, strict=True)
    )


def test_it_is_registered_with_verl_by_the_plug_in():
    assert CheckpointEngineRegistry.get("gloo") is GlooCheckpointEngine


def test_buckets_are_filled_in_order_and_aligned():
    """Three tensors of 100, 40 and 200 bytes in buckets of 192: the second begins at 128, the third is cut at 192."""

    async def pack():
        tensors = [("a", torch.zeros(100, dtype=torch.uint8)), ("b", torch.zeros(10)), ("c", torch.zeros(50))]
        return [
            ([(m.name, m.offset, m.chunk_size) for m in metas], len(p)) async for metas, p in fill_buckets(tensors, 192)
        ]

    assert asyncio.run(pack()) == [
        ([("a", 0, 100), ("b", 128, 40)], 168),
        ([("c", 0, 192)], 192),
        ([("c", 0, 8)], 8),
    ]


def test_only_trainer_rank_0_and_the_rollouts_take_part():
    trainer, rollouts = GlooCheckpointEngine.build_topology(3, 2, [("host", 1234), None, None, None, None])
    assert trainer == {"rank": [0, -1, -1], "world_size": [3] * 3, "address": [("host", 1234)] * 3}
    assert rollouts == {"rank": [1, 2], "world_size": [3] * 2, "address": [("host", 1234)] * 2}


def test_the_trainers_other_ranks_walk_the_generator_and_send_nothing():
    engine, seen = GlooCheckpointEngine(BUCKET), []
    engine.init_process_group(rank=-1, world_size=2, address=("nobody", 1))
    assert asyncio.run(engine.send_weights(seen.append(name) for name, _ in weights(0))) == {}
    assert len(seen) == 7
    engine.finalize()


class Members:
    """One sender and some receivers, each in a process, driven as verl's manager drives them."""

    def __init__(self, receivers, work):
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["sv6d.verl_plugin.gloo_weights"])  # imported once, not once a process
        self.results = context.Queue()
        self.pipes, self.processes = [], []
        for rank in range(1 + receivers):
            ours, theirs = context.Pipe()
            self.pipes.append(ours)
            self.processes.append(context.Process(target=work, args=(rank, theirs, self.results), daemon=True))
            self.processes[-1].start()

    def sync(self):
        """Bring the members together for one sync."""
        metadata = [pipe.recv() for pipe in self.pipes]
        trainer, rollouts = GlooCheckpointEngine.build_topology(1, len(self.pipes) - 1, metadata)
        for rank, pipe in enumerate(self.pipes):
            pipe.send({name: (trainer[name] + rollouts[name])[rank] for name in trainer})

    def answers(self, count):
        return dict(self.results.get(timeout=60) for _ in range(count))

    def end(self):
        for process in self.processes:
            process.join(timeout=30)
        return [process.exitcode for process in self.processes]


def _two_syncs(rank, pipe, results):
    torch.set_num_threads(1)
    engine = GlooCheckpointEngine(BUCKET, is_master=rank == 0, timeout_seconds=60)
    good = True
    for seed in range(2):
        pipe.send(engine.prepare())
        engine.init_process_group(**pipe.recv())
        if rank == 0:
            sent = asyncio.run(engine.send_weights(weights(seed)))
            # all payloads, with gaps for alignment: 100,003 floats, a bucket full, and less than a KiB twice
            good &= 0.44 < sent["weight_sync/megabytes"] < 0.45
        else:
            good &= same(asyncio.run(everything(engine)), list(weights(seed)))
        engine.finalize()
    results.put((rank, good))


def test_three_receivers_get_every_weight_bit_for_bit_sync_after_sync():
    members = Members(3, _two_syncs)
    members.sync()
    members.sync()
    assert members.answers(4) == {0: True, 1: True, 2: True, 3: True}
    assert members.end() == [0, 0, 0, 0]


DIES = 3


def endless():
    while True:
        yield "weight", torch.zeros(BUCKET // 4)


def _die_on_the_way(rank, pipe, results):
    """Receiver `DIES` is killed, as the kernel's out-of-memory killer does it, when it has its first weight."""
    torch.set_num_threads(1)
    engine = GlooCheckpointEngine(BUCKET, is_master=rank == 0, timeout_seconds=300)
    pipe.send(engine.prepare())
    engine.init_process_group(**pipe.recv())

    async def receive():
        async for _ in engine.receive_weights():
            if rank == DIES:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        asyncio.run(engine.send_weights(endless()) if rank == 0 else receive())
    except RuntimeError as error:
        results.put((rank, str(error)))


def test_a_receiver_that_dies_is_an_error_for_all_others_long_before_the_time_out():
    """They have five minutes; `answers` waits for one."""
    members = Members(3, _die_on_the_way)
    members.sync()
    told = members.answers(3)
    assert set(told) == {0, 1, 2}
    assert all("did not reach every rollout worker: a member of the sync died" in text for text in told.values())
    assert members.end() == [0, 0, 0, -signal.SIGKILL]
