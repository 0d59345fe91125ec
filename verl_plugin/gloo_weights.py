"""Checkpoint engine `gloo`: weights go from the trainer to rollouts of their own through host memory and TCP.

    actor_rollout_ref.rollout.checkpoint_engine.backend=gloo

verl's trainer mode `separate_async` (the report's asynchronous GRPO, section 5.2.3) takes nccl, nixl or the like, which all
need an accelerator and most of them cupy; this one needs torch alone. Trainer rank 0 fills a bucket while the bucket before
it is broadcast. Each sync has a store and a group of its own, made in milliseconds, so that rollouts may come and go.
"""

import asyncio
import pickle
from datetime import timedelta

import ray
import torch
from torch.distributed import ProcessGroupGloo, TCPStore
from verl.checkpoint_engine.base import (
    CheckpointEngine,
    CheckpointEngineRegistry,
    merge_weight_chunks,
    split_weight_chunks,
)
from verl.utils.device import get_device_id

ALIGNMENT = 64  # bytes: a view of a bucket must begin at a multiple of its type's size
OUTSIDE = -1  # the rank of a trainer's process that takes no part


async def fill_buckets(weights, size: int):
    """Pack weights, `(name, tensor)` pairs on any device, into buckets: `(metas, payload)`, uint8 in host memory.

    There are two buckets of `size` bytes, filled in turn: a payload stays as it is until the next but one is asked for.
    """
    bucket, other = (torch.empty(size, dtype=torch.uint8) for _ in range(2))
    metas, used = [], 0
    async for meta, chunk in split_weight_chunks(weights, size):
        start = -(-used // ALIGNMENT) * ALIGNMENT
        if start + meta.chunk_size > size:
            yield metas, bucket[:used]
            bucket, other = other, bucket
            metas, start = [], 0
        used = start + meta.chunk_size
        meta.offset = start
        bucket[start:used].copy_(chunk)
        metas.append(meta)
    if metas:
        yield metas, bucket[:used]


@CheckpointEngineRegistry.register("gloo")
class GlooCheckpointEngine(CheckpointEngine):
    """
    Args:
        bucket_size: bytes; the sender holds two such buckets, a receiver at most three.
        is_master: whether this is the trainer's rank 0, the sender.
        timeout_seconds: how long a member may be silent before the sync fails; one that dies is noticed at once. Set it as
            `rollout.checkpoint_engine.engine_kwargs.gloo.timeout_seconds`.
    """

    def __init__(self, bucket_size: int, is_master: bool = False, timeout_seconds: float = 600.0):
        self.bucket_size = bucket_size
        self.is_master = is_master
        self.timeout = timedelta(seconds=timeout_seconds)
        self._store = self._group = None

    def prepare(self) -> tuple[str, int] | None:
        """The sender's address, where the members of the next sync find each other."""
        if not self.is_master:
            return None
        self._store = TCPStore(_own_address(), 0, is_master=True, wait_for_workers=False, timeout=self.timeout)
        return self._store.host, self._store.port

    @classmethod
    def build_topology(cls, actor_wg_world_size, rollout_world_size, metadata):
        def arguments(ranks):
            count = len(ranks)
            return {"rank": ranks, "world_size": [1 + rollout_world_size] * count, "address": [metadata[0]] * count}

        trainer = [0] + [OUTSIDE] * (actor_wg_world_size - 1)
        return arguments(trainer), arguments(list(range(1, 1 + rollout_world_size)))

    def init_process_group(self, rank: int, world_size: int, address: tuple[str, int]) -> None:
        """Join the group of this sync; returns when all its members have."""
        if rank == OUTSIDE:
            return
        if not self.is_master:
            self._store = TCPStore(*address, is_master=False, timeout=self.timeout)
        options = ProcessGroupGloo._Options()
        options._timeout = self.timeout
        # by the address that Ray knows: a node's host name may stand for 127.0.1.1 in its own eyes
        options._devices = [ProcessGroupGloo.create_device(hostname=_own_address())]
        options._threads = 2
        self._group = ProcessGroupGloo(self._store, rank, world_size, options)

    def finalize(self) -> None:
        self._group = self._store = None

    @torch.no_grad()
    async def send_weights(self, weights, global_steps=None) -> dict[str, float]:
        """
        Returns:
            `weight_sync/megabytes` of the sender, which verl logs.

        Raises:
            RuntimeError: a rollout worker died or was silent too long.
        """
        if self._group is None:  # full tensors are gathered from all ranks of the trainer, so all of them walk along
            for _ in weights:
                pass
            return {}
        loop, sending, sent = asyncio.get_running_loop(), None, 0
        async for metas, payload in fill_buckets(weights, self.bucket_size):
            if sending is not None:
                await sending
            sending = loop.run_in_executor(None, self._send, metas, payload)
            sent += len(payload)
        if sending is not None:
            await sending
        await loop.run_in_executor(None, self._send, [], torch.empty(0, dtype=torch.uint8))
        return {"weight_sync/megabytes": sent / 2**20}

    @torch.no_grad()
    async def receive_weights(self, global_steps=None):
        """Yields `(name, tensor)` of the types and in the order in which they were sent. Those that fit into a bucket lie in host
        memory; larger ones on the device, whence verl hands them to vLLM one by one.

        Raises:
            RuntimeError: the trainer or another rollout worker died or was silent too long.
        """
        async for name, weight in merge_weight_chunks(self._chunks(), self.bucket_size):
            yield name, weight if weight.nbytes <= self.bucket_size else weight.to(get_device_id())

    async def _chunks(self):
        loop = asyncio.get_running_loop()
        metas, payload = await loop.run_in_executor(None, self._receive)
        while metas:
            following = loop.run_in_executor(None, self._receive)
            for meta in metas:
                yield meta, payload[meta.offset : meta.offset + meta.chunk_size]
            metas, payload = await following

    def _send(self, metas, payload) -> None:
        index = torch.frombuffer(bytearray(pickle.dumps(metas)), dtype=torch.uint8)
        self._broadcast(torch.tensor([len(index), len(payload)]))
        self._broadcast(index)
        self._broadcast(payload)

    def _receive(self):
        sizes = torch.empty(2, dtype=torch.int64)
        self._broadcast(sizes)
        index, payload = (torch.empty(size, dtype=torch.uint8) for size in sizes.tolist())
        self._broadcast(index)
        self._broadcast(payload)
        return pickle.loads(index.numpy().tobytes()), payload

    def _broadcast(self, tensor) -> None:
        if not len(tensor):
            return
        try:
            self._group.broadcast(tensor, 0).wait()
        except RuntimeError as error:
            self._group = None  # closes the connections: the others need not wait for their time-out
            raise RuntimeError(
                f"the new weights did not reach every rollout worker: a member of the sync died, or was silent for "
                f"{self.timeout.total_seconds():g} s (rollout.checkpoint_engine.engine_kwargs.gloo.timeout_seconds). {error}"
            ) from error


def _own_address() -> str:
    return ray.util.get_node_ip_address().strip("[]")
