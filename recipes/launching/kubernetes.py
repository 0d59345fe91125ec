"""The manifest of a run on Kubernetes: a RayJob of KubeRay, which brings up a Ray cluster for the run and takes it down after it."""

import shlex
from importlib.metadata import version
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig

from .pools import logical_resources, nodes_needed, notice_seconds, pools
from .ray_job import environment

STOP_RUN = "pkill -TERM -f '[s]v6d grpo'; while pgrep -f '[s]v6d grpo' >/dev/null; do sleep 1; done"
"""Before the head's pod goes: the run is told, and saves. Its own shell must not match, hence the brackets."""


class Settings(NamedTuple):
    """What a cluster decides.

    Attributes:
        name: of the RayJob.
        image: with this project, verl and vLLM in it; the same on every node.
        claim, mount: a PersistentVolumeClaim that every pod may write to, and where it is mounted; data, model and run are there.
        namespace: None for the one of kubectl's context.
        gpu: the resource's name.
        cpus, memory: of a pod; the host's memory holds the pixels of a step's videos and offloaded weights.
        attempts: how often KubeRay starts a failed run again.
    """

    name: str
    image: str
    claim: str
    mount: str
    namespace: str | None = None
    gpu: str = "nvidia.com/gpu"
    cpus: int = 64
    memory: str = "1500Gi"
    attempts: int = 3


def manifest(config: DictConfig, command: list[str], settings: Settings) -> dict[str, Any]:
    """Of a composed recipe and the command that runs it. Each of the recipe's nodes is a pod, and the first of them has Ray's head:
    verl spreads its storage of pixels over all nodes of Ray alike, which a small head without GPUs would not survive."""
    others = nodes_needed(config) - 1
    start = logical_resources(config)
    head, worker = pod("ray-head", config, settings), pod("ray-worker", config, settings)
    head["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["bash", "-c", STOP_RUN]}}}
    cluster = {"rayVersion": version("ray"), "headGroupSpec": {"rayStartParams": start, "template": head}}
    if others:
        count = dict.fromkeys(("replicas", "minReplicas", "maxReplicas"), others)
        cluster["workerGroupSpecs"] = [{"groupName": "others", **count, "rayStartParams": start, "template": worker}]
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": settings.name} | ({"namespace": settings.namespace} if settings.namespace else {}),
        "spec": {
            "entrypoint": shlex.join(command),
            "submissionMode": "K8sJobMode",
            "runtimeEnvYAML": yaml.safe_dump(environment(config)),
            "backoffLimit": settings.attempts,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": cluster,
        },
    }


def pod(name: str, config: DictConfig, settings: Settings) -> dict[str, Any]:
    """A pod's template: one container with the image, the volume, and memory for `/dev/shm`, through which NCCL and weights go."""
    gpus = max(pool.gpus for pool in pools(config)) if config.trainer.device == "cuda" else 0
    resources = {"cpu": str(settings.cpus), "memory": settings.memory} | ({settings.gpu: str(gpus)} if gpus else {})
    container = {
        "name": name,
        "image": settings.image,
        "resources": {"requests": resources, "limits": resources},
        "volumeMounts": [
            {"name": "shared", "mountPath": settings.mount},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    return {
        "spec": {
            "terminationGracePeriodSeconds": notice_seconds(config),
            "containers": [container],
            "volumes": [
                {"name": "shared", "persistentVolumeClaim": {"claimName": settings.claim}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        }
    }
