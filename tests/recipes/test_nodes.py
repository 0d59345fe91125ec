"""Is every node of the cluster fit for the run: the sentences, and the questions asked on a real Ray of several local nodes."""

import json
import socket
import subprocess
import sys
from copy import deepcopy
from functools import cache

import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf
from sv6d.recipes.cli import main
from sv6d.recipes.cluster import witness
from sv6d.recipes.cluster.nodes import (
    NodeReport,
    cluster_address,
    compared_paths,
    connected,
    disagreements,
    inspect_nodes,
    settle_address,
    shortage,
)
from sv6d.recipes.cluster.pools import pools
from sv6d.recipes.cluster.witness import fingerprint
from sv6d.recipes.compose import RecipeError, compose
from sv6d.recipes.launching import cli as launch_cli

VERSIONS = {"python": "3.11.2", "verl": "0.9.1"}


@pytest.fixture(scope="module")
def composed():
    """A fresh copy of a recipe, composed once."""
    once = cache(lambda name: compose("grpo", name, ["sv6d.data=D", "sv6d.model=Qwen/Qwen3-VL-8B", "sv6d.run_dir=R"]))
    return lambda name: deepcopy(once(name))


@pytest.fixture
def config(composed, tmp_path):
    """leum_8b_async with rows of its own."""
    (tmp_path / "data" / "rl").mkdir(parents=True)
    (tmp_path / "data" / "rl" / "subject.parquet").write_bytes(b"rows")
    config = composed("leum_8b_async")
    config.sv6d.data, config.sv6d.run_dir = str(tmp_path / "data"), str(tmp_path / "run")
    return config


def node(name="a", gpus=8.0, cpus=64.0, **seen):
    return NodeReport(name, gpus, cpus, **{"versions": VERSIONS, "paths": {"sv6d.data": "1f"}, **seen})


def test_nodes_that_agree_give_no_sentence():
    assert disagreements([node("a"), node("b")]) == []


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        ({"error": "no answer within 180 s"}, "b does not answer: no answer within 180 s. Look at Ray's log there"),
        ({"problems": ("verl is not installed",)}, "b: the plug-in is not in place: verl is not installed"),
        ({"environment": {"NCCL_DEBUG": None}}, "b: the variable NCCL_DEBUG of sv6d.env did not arrive there"),
        ({"environment": {"API_KEY": "secret"}}, "b: the variable API_KEY of sv6d.env has another value there"),
        ({"shared": False}, "b does not share sv6d.run_dir with a: put it on a file system that every node mounts"),
        ({"devices": ("H100",) * 4}, "b: Ray was told of 8 GPUs and the machine has 4"),
        ({"paths": {"sv6d.data": None}}, "b: sv6d.data is not there. Copy it to the same place"),
        ({"paths": {"sv6d.data": "2e"}}, "b: sv6d.data holds other files than on a. Copy it to the same place"),
        (
            {"versions": {"python": "3.11.2", "verl": None}},
            "verl differs: 0.9.1 on a; not installed on b. Install one env",
        ),
    ],
)
def test_each_fault_of_a_node_is_one_sentence_that_says_what_to_change(seen, sentence):
    [found] = disagreements([node("a"), node("b", **seen)])
    assert found.startswith(sentence)
    assert "secret'" not in found  # keys are no business of a log


def test_gpus_that_are_not_there_are_missed_by_purpose_and_setting(config):
    [sentence] = shortage(config, [node("a"), node("b"), node("c")])
    assert sentence.startswith(
        "there is no room for 1 x 8 GPUs for rollouts (actor_rollout_ref.rollout.nnodes x .n_gpus_per_node), each GPU with 2 of "
        "Ray's CPUs: the cluster has 8 GPUs and 64 CPUs on a, 8 GPUs and 64 CPUs on b, 8 GPUs and 64 CPUs on c."
    )
    assert shortage(config, [node(name) for name in "abcd"]) == []


def test_a_fingerprint_is_of_names_and_sizes(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "subject.parquet").write_bytes(b"rows")
    assert fingerprint(str(tmp_path / "one")) == fingerprint(str(tmp_path / "two"))
    (tmp_path / "two" / "subject.parquet").write_bytes(b"more rows")
    assert fingerprint(str(tmp_path / "one")) != fingerprint(str(tmp_path / "two"))
    assert fingerprint(str(tmp_path / "none")) is None


def test_rows_and_model_are_compared_and_not_the_media_beside_them(config, tmp_path):
    (tmp_path / "data" / "videos").mkdir()
    assert compared_paths(config) == {
        "data.train_files": str(tmp_path / "data" / "rl")
    }  # nothing held out; a model of the Hub
    config.sv6d.model = str(tmp_path)
    assert compared_paths(config)["sv6d.model"] == str(tmp_path)


def test_the_witness_needs_nothing_but_python_so_that_it_can_tell_what_is_not_installed(tmp_path):
    def look(token: str) -> dict:
        arguments = ({"sv6d.data": "."}, token, "node-1", ["SEEN", "UNSEEN"])
        code = f"import json, runpy; print(json.dumps(runpy.run_path({witness.__file__!r})['look'](*{arguments!r})))"
        bare = [sys.executable, "-I", "-S", "-c", code]
        done = subprocess.run(bare, cwd=tmp_path, env={"SEEN": "1"}, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    (tmp_path / "token").mkdir()
    seen = look("token")
    assert (seen["versions"]["sv6d"], seen["versions"]["verl"]) == (None, None)
    assert seen["problems"] == ["`import verl` fails: ModuleNotFoundError: No module named 'verl'"]
    assert seen["environment"] == {"SEEN": "1", "UNSEEN": None}
    assert seen["shared"] is True and (tmp_path / "token" / "node-1").exists()
    assert look("not-mounted-here")["shared"] is False


@pytest.mark.parametrize(
    ("name", "said", "environment", "joined"),
    [
        ("cpu_demo", None, None, None),  # a Ray of its own
        ("leum_8b_async", None, None, "auto"),  # the one that was started on this machine
        ("cpu_demo", "10.0.0.1:6379", None, "10.0.0.1:6379"),
        ("cpu_demo", None, "10.0.0.2:6379", "10.0.0.2:6379"),
        ("cpu_demo", "local", "10.0.0.2:6379", None),
    ],
)
def test_which_ray_a_run_joins(name, said, environment, joined, composed, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if environment:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    config = composed(name)
    config.ray_kwargs.ray_init.address = said
    assert cluster_address(config) == joined


def test_a_run_of_its_own_never_joins_a_cluster_by_chance_and_one_that_joins_brings_no_resources(composed, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    alone, joining = composed("cpu_demo"), composed("cpu_demo")
    joining.ray_kwargs.ray_init.address = "10.0.0.1:6379"
    for config in (alone, joining):
        settle_address(config)
    assert (alone.ray_kwargs.ray_init.address, alone.ray_kwargs.ray_init.num_gpus) == ("local", 1)
    assert (joining.ray_kwargs.ray_init.address, joining.ray_kwargs.ray_init.num_gpus) == ("10.0.0.1:6379", None)


def test_without_a_cluster_the_run_says_what_it_needs_and_how_to_start_one(config, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RecipeError) as error, connected(config):
        pass
    assert error.value.message.startswith(
        "the recipe needs 3 x 8 GPUs for training (trainer.nnodes x trainer.n_gpus_per_node)"
    )
    assert "sv6d launch --help" in error.value.message


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Four nodes of 8 logical GPUs: two in order, one with another verl, one on which verl leaves plug-ins out."""
    from ray.cluster_utils import Cluster

    other = tmp_path_factory.mktemp("other")
    (other / "verl-9.9.9.dist-info").mkdir()
    (other / "verl-9.9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: verl\nVersion: 9.9.9\n")
    ray = Cluster()
    try:
        # the agent that takes jobs: another Ray on this machine has the usual port
        head = {"include_dashboard": True, "dashboard_port": 0, "dashboard_agent_listen_port": free_port()}
        faulty = [{"PYTHONPATH": str(other)}, {"VERL_USE_EXTERNAL_PLUGINS": "none"}]
        for options in (head, {}, *({"env_vars": variables} for variables in faulty)):
            ray.add_node(wait=False, num_cpus=40, num_gpus=8, **options)
        ray.wait_for_nodes()
        yield ray
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_node_is_known_for_what_it_is(cluster, config, tmp_path):
    config.ray_kwargs.ray_init.address = cluster.address
    OmegaConf.update(config, "sv6d.env.OF_THE_RECIPE", "seen", force_add=True)
    reports = inspect_nodes(config)
    assert [(node.gpus, node.error, node.shared, node.environment) for node in reports] == [(8, None, True, {})] * 4
    assert {node.paths["data.train_files"] for node in reports} == {fingerprint(str(tmp_path / "data" / "rl"))}
    assert not (tmp_path / "run").exists()
    plug_in, versions = disagreements(reports)
    assert "`import verl` does not load the plug-in sv6d" in plug_in
    assert versions.startswith("verl differs: 0.9.1 on ") and "9.9.9 on " in versions
    assert shortage(config, reports) == []
    config.trainer.nnodes = 5
    assert shortage(config, reports) != []


@pytest.mark.slow
def test_verl_places_trainer_and_rollouts_on_nodes_of_their_own(cluster, config):
    import ray
    from ray.util import placement_group_table
    from verl.single_controller.ray.base import ResourcePoolManager

    config.ray_kwargs.ray_init.address = cluster.address
    training, rollouts = pools(config)

    def nodes_of(name: str, blocks: list[int], cpus: int) -> list[set[str]]:
        manager = ResourcePoolManager({name: blocks}, mapping=None, max_colocate_count=cpus)
        manager.create_resource_pool()
        groups = manager.resource_pool_dict[name].get_placement_groups()
        return [set(placement_group_table(group)["bundles_to_node_id"].values()) for group in groups]

    with connected(config):
        trainer = nodes_of("trainer", [training.gpus] * training.nodes, training.cpus)
        replicas = [nodes_of(f"rollout_{rank}", [rollouts.block], rollouts.cpus)[0] for rank in range(8)]
        assert [len(nodes) for nodes in trainer] == [1, 1, 1]
        assert len(set.union(*trainer)) == 3
        assert set.union(*replicas) == {node["NodeID"] for node in ray.nodes()} - set.union(*trainer)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ran", "status"), [("printenv RAY_ADDRESS RAY_JOB_STOP_WAIT_TIME_S", 0), ("printenv NO_SUCH", 1)]
)
def test_a_job_of_the_cluster_runs_where_its_head_is_and_its_words_and_end_come_back(ran, status, cluster, monkeypatch):
    monkeypatch.setattr(launch_cli, "run_command", lambda *_: ran.split())  # in place of a run of minutes
    places = ["sv6d.data=/mnt/data", "sv6d.model=/mnt/model", "sv6d.run_dir=/mnt/run"]
    address = f"http://{cluster.head_node.webui_url}"
    result = CliRunner().invoke(main, ["launch", "ray", "cpu_demo", *places, "--address", address])
    assert result.exit_code == status, result.output
    if status:
        assert "did not succeed; all that it printed: ray job logs raysubmit_" in result.output
    else:
        assert f"{cluster.address}\n600\n" in result.output  # seconds that `ray job stop` gives it
