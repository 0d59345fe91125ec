"""Two runs on one machine: each sends its weights over a socket of its own, and its vLLM listens there."""

from types import SimpleNamespace

import pytest
import ray
from sv6d.verl_plugin.mends import weight_socket
from verl.workers import rollout
from verl.workers.config import RolloutConfig
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

MODULE = "verl.workers.rollout.vllm_rollout.vllm_rollout"


class Server:
    """Stands for verl's HTTP server, whose constructor wants a whole run; as that, it says which job this is."""

    def __init__(self, environment):
        environment.setenv("VERL_RAY_JOB_ID", ray.get_runtime_context().get_job_id())


@pytest.fixture
def run_of(monkeypatch, unmended):
    """`run_of(port)`: the sockets at which a run whose Ray listens at that port sends and receives weights."""
    module = unmended(MODULE)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("RAY_LOCAL_WORLD_SIZE", "1")
    monkeypatch.setenv("VERL_REPLICA_RANK", "0")
    worker = SimpleNamespace(local_rank=0, model_runner=None)

    def run(port):
        address = f"sv6d-leum-8b-raycluster-abcde-head-svc.the-longest-namespace-of-all.svc.cluster.local:{port}"
        context = SimpleNamespace(gcs_address=address, get_job_id=lambda: "01000000")  # every first job's id
        monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
        sender = module.ServerAdapter(RolloutConfig(name="vllm", mode="async"), None, None, replica_rank=0)
        Server(monkeypatch)
        return sender.zmq_handle, vLLMColocateWorkerExtension._get_zmq_handle(worker)

    return module, run


def test_without_the_mend_two_runs_meet_at_one_socket(run_of):
    _, run = run_of
    assert weight_socket.needed(rollout)
    assert run(6379)[0] == run(6380)[0]


def test_with_it_each_run_has_its_own_where_both_its_sides_meet(run_of, monkeypatch):
    module, run = run_of
    found = {"vllm_rollout": module, "vllm_async_server": SimpleNamespace(vLLMHttpServer=Server)}
    monkeypatch.setattr(Server, "__init__", Server.__init__)  # so that it is itself again afterwards
    monkeypatch.setattr(weight_socket, "after_import", lambda name, callback: callback(found[name.rsplit(".")[-1]]))
    weight_socket.apply(rollout)
    weight_socket.apply(rollout)  # once is enough
    (sends, receives), (other, _) = run(6379), run(6380)
    assert sends == receives != other
    assert sends.endswith("-01000000-replica-0-rank-0.sock")
    assert len(sends.removeprefix("ipc://")) <= 107  # what the kernel takes


@pytest.mark.parametrize("source", ["f'/tmp/rl-colocate-zmq-{job_id}-{context.gcs_address}.sock'", None])
def test_it_rests_where_verl_names_the_cluster_itself_and_where_there_is_no_vllm(source, tmp_path):
    (tmp_path / "vllm_rollout").mkdir()
    if source:
        (tmp_path / "vllm_rollout" / "vllm_rollout.py").write_text(source)
    assert not weight_socket.needed(SimpleNamespace(__file__=str(tmp_path / "__init__.py")))
