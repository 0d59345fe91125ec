"""The GPUs that a recipe asks of a cluster, in verl's own units, and whether the nodes that there are can give them.

verl reserves them in Ray placement groups; what does not fit waits for ever there, without a word.
"""

import math
from typing import NamedTuple

from omegaconf import DictConfig

ASSUMED_NODE = 1600
"""GB of its own memory that a run has of a node of eight GPUs, where nothing says: such nodes have some 2,000, and pods less."""


class Pool(NamedTuple):
    """GPUs with one purpose.

    Attributes:
        name: what they do, for people.
        settings: the keys of the configuration that say how many.
        nodes, gpus: so many nodes of so many GPUs each.
        block: GPUs that must lie on one node together: all of a trainer's node, those of one rollout replica.
        cpus: logical CPUs that verl reserves beside each GPU.
    """

    name: str
    settings: str
    nodes: int
    gpus: int
    block: int
    cpus: int


def pools(config: DictConfig) -> list[Pool]:
    """The trainer's GPUs; those of rollouts and of a reward model where they have their own."""
    trainer, per_node = config.trainer, config.trainer.n_gpus_per_node
    found = [Pool("training", "trainer.nnodes x trainer.n_gpus_per_node", trainer.nnodes, per_node, per_node, 3)]
    if is_warm_start(config):
        return found
    rollout = config.actor_rollout_ref.rollout
    if is_separate(config):
        keys = "actor_rollout_ref.rollout.nnodes x .n_gpus_per_node"
        found.append(Pool("rollouts", keys, rollout.nnodes, rollout.n_gpus_per_node, replica(rollout), 2))
    judge = config.reward.reward_model
    if judge.enable and judge.enable_resource_pool:
        keys = "reward.reward_model.nnodes x .n_gpus_per_node"
        found.append(Pool("reward model", keys, judge.nnodes, judge.n_gpus_per_node, judge.n_gpus_per_node, 3))
    return found


def is_warm_start(config: DictConfig) -> bool:
    """Whether this is a run of `sv6d sft`: it has no rollouts, and no Ray."""
    return "actor_rollout_ref" not in config


def mode_of(config: DictConfig) -> str:
    """verl's name of the trainer mode; our trainers' names are theirs with `sv6d_` before them."""
    return str(config.trainer.v1.trainer_mode).removeprefix("sv6d_")


def is_separate(config: DictConfig) -> bool:
    """Whether rollouts have GPUs of their own."""
    return mode_of(config) == "separate_async"


def replica(rollout: DictConfig) -> int:
    """GPUs of one copy of the policy that lie on one node."""
    world = rollout.tensor_model_parallel_size * rollout.data_parallel_size * rollout.pipeline_model_parallel_size
    return min(world, rollout.n_gpus_per_node)


def nodes_needed(config: DictConfig) -> int:
    """Nodes, where every pool has nodes of its own."""
    return sum(pool.nodes for pool in pools(config))


def node_gb(config: DictConfig) -> float:
    """GB of a node's own memory: stated, or assumed."""
    return config.sv6d.get("node_gb") or ASSUMED_NODE


def logical_resources(config: DictConfig) -> dict[str, str]:
    """Options of `ray start` on each node: what a recipe without GPUs states; real GPUs and CPUs Ray finds itself."""
    init = config.ray_kwargs.ray_init
    stated = {"num-gpus": init.get("num_gpus"), "num-cpus": init.get("num_cpus")}
    return {name: str(value) for name, value in stated.items() if value is not None}


def notice_seconds(config: DictConfig) -> int:
    """How long before its end a cluster is to send the run SIGTERM: what the run takes to save and end, and a minute."""
    return math.ceil(config.sv6d.grace) + 60


def describe(wanted: list[Pool]) -> str:
    """`3 x 8 GPUs for training (trainer.nnodes x trainer.n_gpus_per_node) and ...`"""
    return " and ".join(f"{pool.nodes} x {pool.gpus} GPUs for {pool.name} ({pool.settings})" for pool in wanted)


def unplaced(wanted: list[Pool], free: list[tuple[float, float]]) -> list[Pool]:
    """The pools that find no place, the largest blocks placed first, each on the node that it leaves the fewest GPUs on.

    Args:
        free: (GPUs, logical CPUs) of each node.
    """
    left = [list(node) for node in free]
    missing = []
    for pool in sorted(wanted, key=lambda pool: -pool.block):
        for _ in range(pool.nodes * pool.gpus // pool.block):
            fitting = [node for node in left if node[0] >= pool.block and node[1] >= pool.block * pool.cpus]
            if not fitting:
                missing.append(pool)
                break
            node = min(fitting)
            node[0] -= pool.block
            node[1] -= pool.block * pool.cpus
    return missing
