"""Is every node of the cluster fit for the run: the sentences, and the questions asked on a real Ray of several local nodes."""

import pytest
from sv6d.recipes.compose import RecipeError, compose
from sv6d.recipes.launching.nodes import (
    NodeReport,
    cluster_address,
    connected,
    disagreements,
    inspect_nodes,
    settle_address,
    shortage,
)
from sv6d.recipes.launching.pools import pools
from sv6d.recipes.launching.witness import fingerprint

VERSIONS = {"python": "3.11.2", "verl": "0.9.1"}


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "data" / "rl").mkdir(parents=True)
    (tmp_path / "data" / "rl" / "subject.parquet").write_bytes(b"rows")
    places = [f"sv6d.data={tmp_path / 'data'}", "sv6d.model=Qwen/Qwen3-VL-8B", f"sv6d.run_dir={tmp_path / 'run'}"]
    return lambda name="leum_8b_async", *overrides: compose("grpo", name, [*places, *overrides])


def node(name="a", gpus=8.0, cpus=64.0, **seen):
    return NodeReport(name, gpus, cpus, **{"versions": VERSIONS, "paths": {"sv6d.data": "1f"}, **seen})


def test_nodes_that_agree_give_no_sentence():
    assert disagreements([node("a"), node("b")]) == []


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        ({"error": "no answer within 180 s"}, "b does not answer: no answer within 180 s. Look at Ray's log there"),
        ({"problems": ("verl is not installed",)}, "b: the plug-in is not in place: verl is not installed"),
        ({"environment": {"NCCL_DEBUG": None}}, "b: the variable NCCL_DEBUG of sv6d.env is None there"),
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


def test_gpus_that_are_not_there_are_missed_by_purpose_and_setting(recipe):
    [sentence] = shortage(recipe(), [node("a"), node("b"), node("c")])
    assert sentence.startswith(
        "there is no room for 1 x 8 GPUs for rollouts (actor_rollout_ref.rollout.nnodes x .n_gpus_per_node), each GPU with 2 of "
        "Ray's CPUs: the cluster has 8 GPUs and 64 CPUs on a, 8 GPUs and 64 CPUs on b, 8 GPUs and 64 CPUs on c."
    )
    assert shortage(recipe(), [node(name) for name in "abcd"]) == []


def test_a_fingerprint_is_of_names_and_sizes(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "subject.parquet").write_bytes(b"rows")
    assert fingerprint(str(tmp_path / "one")) == fingerprint(str(tmp_path / "two"))
    (tmp_path / "two" / "subject.parquet").write_bytes(b"more rows")
    assert fingerprint(str(tmp_path / "one")) != fingerprint(str(tmp_path / "two"))
    assert fingerprint(str(tmp_path / "none")) is None


def test_which_ray_a_run_joins(recipe, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(recipe("cpu_demo")) is None  # a Ray of its own
    assert cluster_address(recipe("leum_8b_async")) == "auto"  # the one that was started on this machine
    assert cluster_address(recipe("cpu_demo", "ray_kwargs.ray_init.address=10.0.0.1:6379")) == "10.0.0.1:6379"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.2:6379")
    assert cluster_address(recipe("cpu_demo")) == "10.0.0.2:6379"
    assert cluster_address(recipe("cpu_demo", "ray_kwargs.ray_init.address=local")) is None


def test_a_run_of_its_own_never_joins_a_cluster_by_chance_and_one_that_joins_brings_no_resources(recipe, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    alone, joining = recipe("cpu_demo"), recipe("cpu_demo", "ray_kwargs.ray_init.address=10.0.0.1:6379")
    for config in (alone, joining):
        settle_address(config)
    assert (alone.ray_kwargs.ray_init.address, alone.ray_kwargs.ray_init.num_gpus) == ("local", 1)
    assert (joining.ray_kwargs.ray_init.address, joining.ray_kwargs.ray_init.num_gpus) == ("10.0.0.1:6379", None)


def test_without_a_cluster_the_run_says_what_it_needs_and_how_to_start_one(recipe, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RecipeError) as error, connected(recipe()):
        pass
    assert error.value.message.startswith(
        "the recipe needs 3 x 8 GPUs for training (trainer.nnodes x trainer.n_gpus_per_node)"
    )
    assert "sv6d launch --help" in error.value.message


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Four nodes of 8 logical GPUs: two in order, one with another verl, one on which verl leaves plug-ins out."""
    from ray.cluster_utils import Cluster

    other = tmp_path_factory.mktemp("other")
    (other / "verl-9.9.9.dist-info").mkdir()
    (other / "verl-9.9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: verl\nVersion: 9.9.9\n")
    ray = Cluster()
    try:
        for variables in ({}, {}, {"PYTHONPATH": str(other)}, {"VERL_USE_EXTERNAL_PLUGINS": "none"}):
            ray.add_node(wait=False, num_cpus=40, num_gpus=8, env_vars=variables)
        ray.wait_for_nodes()
        yield ray
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_node_is_known_for_what_it_is(cluster, recipe, tmp_path):
    config = recipe("leum_8b_async", f"ray_kwargs.ray_init.address={cluster.address}", "+sv6d.env.OF_THE_RECIPE=seen")
    reports = inspect_nodes(config)
    assert [(node.gpus, node.error, node.shared, node.environment) for node in reports] == [(8, None, True, {})] * 4
    assert {node.paths["sv6d.data"] for node in reports} == {fingerprint(str(tmp_path / "data"))}
    assert not (tmp_path / "run").exists()
    plug_in, versions = disagreements(reports)
    assert "`import verl` does not load the plug-in sv6d" in plug_in
    assert versions.startswith("verl differs: 0.9.1 on ") and "9.9.9 on " in versions
    assert shortage(config, reports) == []
    assert shortage(recipe("leum_8b_async", "trainer.nnodes=5"), reports) != []


@pytest.mark.slow
def test_verl_places_trainer_and_rollouts_on_nodes_of_their_own(cluster, recipe):
    import ray
    from ray.util import placement_group_table
    from verl.single_controller.ray.base import ResourcePoolManager

    config = recipe("leum_8b_async", f"ray_kwargs.ray_init.address={cluster.address}")
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
