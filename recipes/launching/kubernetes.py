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
        cpus, memory: of a pod with GPUs; the host's memory holds the pixels of a step's videos and offloaded weights.
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
    """Of a composed recipe and the command that runs it. The head has no GPU; each of the recipe's nodes is a pod of its own."""
    metadata = {"name": settings.name} | ({"namespace": settings.namespace} if settings.namespace else {})
    notice = notice_seconds(config)
    head = pod("ray-head", settings, notice, cpus=8, memory="64Gi")
    head["spec"]["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["bash", "-c", STOP_RUN]}}}
    gpus = max(pool.gpus for pool in pools(config)) if config.trainer.device == "cuda" else 0
    worker = pod("ray-worker", settings, notice, settings.cpus, settings.memory, gpus)
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": metadata,
        "spec": {
            "entrypoint": shlex.join(command),
            "submissionMode": "K8sJobMode",
            "runtimeEnvYAML": yaml.safe_dump(environment(config)),
            "backoffLimit": settings.attempts,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": {
                "rayVersion": version("ray"),
                "headGroupSpec": {"rayStartParams": {"num-gpus": "0"}, "template": head},
                "workerGroupSpecs": [
                    {
                        "groupName": "gpus",
                        "replicas": nodes_needed(config),
                        "minReplicas": nodes_needed(config),
                        "maxReplicas": nodes_needed(config),
                        "rayStartParams": logical_resources(config),
                        "template": worker,
                    }
                ],
            },
        },
    }


def pod(name: str, settings: Settings, notice: int, cpus: int, memory: str, gpus: int = 0) -> dict[str, Any]:
    """A pod's template: one container with the image, the volume, and memory for `/dev/shm`, through which NCCL and weights go.

    Args:
        notice: seconds between its SIGTERM and its SIGKILL.
    """
    resources = {"cpu": str(cpus), "memory": memory} | ({settings.gpu: str(gpus)} if gpus else {})
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
            "terminationGracePeriodSeconds": notice,
            "containers": [container],
            "volumes": [
                {"name": "shared", "persistentVolumeClaim": {"claimName": settings.claim}},
                {"name": "shm", "emptyDir": {"medium": "Memory"}},
            ],
        }
    }
