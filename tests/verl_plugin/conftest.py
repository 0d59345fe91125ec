"""Shared by these tests: verl's modules as they are without our mends, two processes that talk over gloo, a TransferQueue, and
a trainer without models on it."""

import importlib.util
import sys

import pytest


@pytest.fixture
def unmended():
    """A second copy of a verl module, executed afresh, so that no mend has touched it; `unmended(name) -> module`."""
    copies = []

    def load(name):
        copy = name + "_unmended"
        spec = importlib.util.spec_from_file_location(copy, importlib.util.find_spec(name).origin)
        module = importlib.util.module_from_spec(spec)
        sys.modules[copy] = module
        copies.append(copy)
        spec.loader.exec_module(module)
        return module

    yield load
    for copy in copies:
        sys.modules.pop(copy, None)


@pytest.fixture(scope="module")
def queue():
    """A real TransferQueue on a Ray of its own, which take ten seconds to start; its tests are slow.

    A file's own: a package's fixture lives until its process ends, and the next file may be one that needs another Ray.
    """
    import ray
    import transfer_queue as tq
    from omegaconf import OmegaConf

    ray.init("local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    tq.init(OmegaConf.create({"backend": {"SimpleStorage": {"num_data_storage_units": 1}}}))
    yield tq
    tq.close()
    ray.shutdown()


@pytest.fixture
def run(queue, tmp_path):
    """Start a `balanced_run.Run` on the queue; what it leaves there is taken out."""
    from balanced_run import Run

    def start(**options):
        return Run(queue, tmp_path, **options)

    yield start
    for partition, items in (queue.kv_list() or {}).items():
        if items:
            queue.kv_clear(keys=list(items), partition_id=partition)


def _call(rank, size, port, seconds, function, arguments):
    import os
    from datetime import timedelta

    import torch.distributed as dist

    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank)
    )
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the store is the parent's
    dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=seconds))
    try:
        function(rank, *arguments)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="session")
def ranks():
    """Run `function(rank, *arguments)` in so many processes joined by gloo; raises what a rank raised.

    They are forks of one process that has imported verl, which takes longer than most of what the ranks do. A rank that waits
    for `seconds` for another gives up.
    """
    import multiprocessing

    import torch.multiprocessing as mp
    from torch.distributed import TCPStore

    engines = ["verl.workers.engine", "verl.workers.utils.losses", "verl.models.transformers.qwen3_vl"]
    multiprocessing.set_forkserver_preload([*engines, "sv6d.recipes.compose", "sv6d.sft.prompt"])

    def run(number, function, *arguments, seconds=60):
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # a port that nobody else can take
        given = (number, store.port, seconds, function, arguments)
        mp.start_processes(_call, args=given, nprocs=number, join=True, start_method="forkserver")

    return run


@pytest.fixture
def two_ranks(ranks):
    """`ranks` for two."""
    return lambda function, *arguments, **options: ranks(2, function, *arguments, **options)
