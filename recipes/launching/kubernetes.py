"""The manifest of a run on Kubernetes: a RayJob of KubeRay, which brings up a Ray cluster for the run and takes it down after it."""

import os.path
import re
import shlex
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig

from ..cluster.pools import logical_resources, node_gb, nodes_needed, notice_seconds, pools
from ..compose import RecipeError
from .ray_job import environment

STOP_RUN = "pkill -TERM -f '[s]v6d grpo'; while pgrep -f '[s]v6d grpo' >/dev/null; do sleep 1; done"
"""Before the head's pod goes: the run is told, and saves. Its own shell must not match, hence the brackets."""
NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 47
"""Of a RayJob, as KubeRay takes it: it makes names of services of it."""


class Settings(NamedTuple):
    """What a cluster decides.

    Attributes:
        name: of the RayJob.
        image: with this project, verl and vLLM in it; the same on every node.
        claim, mount: a PersistentVolumeClaim that every pod may write to, and where it is mounted; data, model and run are there.
        namespace: None for the one of kubectl's context.
        gpu: the resource's name.
        cpus, memory: of a pod; the host's memory holds the pixels of a step's videos and offloaded weights. None for what `sv6d check`
            takes a node to have.
        attempts: how often KubeRay starts a failed run again.
    """

    name: str
    image: str
    claim: str
    mount: str
    namespace: str | None = None
    gpu: str = "nvidia.com/gpu"
    cpus: int = 64
    memory: str | None = None
    attempts: int = 3


def require_name(name: str) -> None:
    """Raises RecipeError for a name that KubeRay refuses, after `kubectl apply` was content with it."""
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise RecipeError(
            f"--name {name!r} is none that KubeRay takes: write small letters of a to z, digits and hyphens, a letter first and no hyphen "
            f"last, {LONGEST_NAME} at most"
        )


def places_outside(config: DictConfig, mount: str) -> dict[str, str]:
    """Settings of the `sv6d:` block that are paths and lie outside the volume: what is written there goes with the pod."""
    paths = {f"sv6d.{key}": str(config.sv6d[key]) for key in ("run_dir", "data", "model")}
    return {key: path for key, path in paths.items() if path.startswith("/") and not _is_below(path, mount)}


def _is_below(path: str, mount: str) -> bool:
    return PurePosixPath(os.path.normpath(path)).is_relative_to(os.path.normpath(mount))


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
    memory = settings.memory or f"{node_gb(config):.0f}G"
    resources = {"cpu": str(settings.cpus), "memory": memory} | ({settings.gpu: str(gpus)} if gpus else {})
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
