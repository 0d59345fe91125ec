"""verl 0.9.1, `workers/rollout/vllm_rollout/vllm_rollout.py:141`, any device: two runs on one machine mix up their weights.

Weights go to vLLM over a socket in /tmp that is named by Ray's job id, and a Ray that a run starts for itself calls its first
job `01000000`, always. A sender removes what lies at its path and binds anew: vLLM of one run then loads the weights of the
other, or both wait for ever. The mend adds a mark of the run's Ray cluster to the id, on both sides.
"""

import hashlib
import os
from pathlib import Path

import ray

from ..after_import import after_import

VLLM = "verl.workers.rollout.vllm_rollout"


def needed(rollout) -> bool:
    """While the socket's name has nothing but the job's id (read in the source: to see two runs meet would take two runs)."""
    senders = Path(rollout.__file__).parent / "vllm_rollout" / "vllm_rollout.py"
    source = senders.read_text() if senders.exists() else ""
    return "rl-colocate-zmq-{job_id}-" in source and "gcs_address" not in source


def apply(rollout) -> None:
    """Where vLLM is used: other rollouts need not have it. The package is imported before its modules, so these are all to come."""

    def name_the_senders(adapter):
        job = ray.get_runtime_context().get_job_id()
        adapter.zmq_handle = adapter.zmq_handle.replace(f"-{job}-", f"-{unique_job()}-", 1)

    def tell_the_receivers(server):
        os.environ["VERL_RAY_JOB_ID"] = unique_job()  # vLLM's processes, which start later, read it there

    after_import(f"{VLLM}.vllm_rollout", lambda module: _after_init(module.ServerAdapter, name_the_senders))
    after_import(f"{VLLM}.vllm_async_server", lambda module: _after_init(module.vLLMHttpServer, tell_the_receivers))


def unique_job() -> str:
    """The job's id and a mark of its cluster, as a part of a file's name. A socket's path may have 107 characters, and the address
    of a cluster on Kubernetes alone can have more than a hundred."""
    context = ray.get_runtime_context()
    return f"{hashlib.sha256(context.gcs_address.encode()).hexdigest()[:12]}-{context.get_job_id()}"


def _after_init(cls, action) -> None:
    original = cls.__init__
    if hasattr(original, "__sv6d_original__"):
        return

    def __init__(self, *args, **kwargs):
        original(self, *args, **kwargs)
        action(self)

    __init__.__sv6d_original__ = original
    cls.__init__ = __init__
