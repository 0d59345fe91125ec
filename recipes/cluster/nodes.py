"""Is every node of the Ray cluster fit for the run? Asked before training starts: a plug-in that is missing on one node of sixteen
is otherwise found after an hour, or never.
"""

import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from ..compose import RecipeError
from . import witness
from .pools import Pool, describe, nodes_needed, pools, unplaced

ANSWER_SECONDS = 180
JOIN_SECONDS = 600


class NodeReport(NamedTuple):
    """What a process on one node of the cluster sees.

    Attributes:
        name: host or address, as Ray knows it.
        gpus, cpus: Ray's logical ones.
        error: why the node gave no answer; what follows is then empty.
        versions: of the packages that must agree; None where one is not installed.
        problems: why the plug-in is not in place.
        paths: by setting, a fingerprint of what lies there; None where nothing does.
        shared: whether it sees the run's folder of the node that asks, and can write there.
        environment: the variables of `sv6d.env` that differ from it there; None for one that is missing.
        devices: the machine's GPUs, `name, memory` each, whether or not Ray manages them.
        free_gib: disk space where the run's folder is.
    """

    name: str
    gpus: float
    cpus: float
    error: str | None = None
    versions: dict[str, str | None] = {}  # noqa: RUF012 - never written to
    problems: tuple[str, ...] = ()
    paths: dict[str, str | None] = {}  # noqa: RUF012
    shared: bool = True
    environment: dict[str, str | None] = {}  # noqa: RUF012
    devices: tuple[str, ...] = ()
    free_gib: float = 0.0


def cluster_address(config: DictConfig) -> str | None:
    """The Ray cluster that a run joins: as the recipe or RAY_ADDRESS says, or the one of this machine ("auto") where more than one
    node is needed. None for a run that starts a Ray of its own."""
    said = config.ray_kwargs.ray_init.get("address") or os.environ.get("RAY_ADDRESS")
    said = said or ("auto" if nodes_needed(config) > 1 else None)
    return None if said == "local" else said


def settle_address(config: DictConfig) -> None:
    """Write into the configuration which Ray the run uses. One of its own is asked for by name, "local": without that, Ray would
    join whatever cluster was last started on this machine. A cluster that is up has its resources already."""
    address = cluster_address(config)
    OmegaConf.update(config, "ray_kwargs.ray_init.address", address or "local", force_add=True)
    if address:
        for key in ("num_cpus", "num_gpus", "include_dashboard"):
            if key in config.ray_kwargs.ray_init:
                OmegaConf.update(config, f"ray_kwargs.ray_init.{key}", None)


@contextmanager
def connected(config: DictConfig) -> Iterator[None]:
    """Connect to Ray as the run will, with the environment that it gives to its processes.

    Raises:
        RecipeError: no cluster is there.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    settle_address(config)
    options = OmegaConf.to_container(config.ray_kwargs.ray_init, resolve=True)
    try:
        _knock(options["address"])
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RecipeError(_no_cluster(config, error)) from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Ray itself tries for half a minute, and then says less.

    Raises:
        ConnectionError: nothing listens there.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "//" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        except OSError as error:
            raise ConnectionError(str(error)) from error


def _no_cluster(config: DictConfig, error: Exception) -> str:
    address = config.ray_kwargs.ray_init.address
    if address == "local":
        return f"Ray does not start on this machine: {error}"
    if "InvalidAuthToken" in str(error):
        return (
            f"the Ray cluster at {address!r} asks for a token that this process does not have. Set RAY_AUTH_MODE=token and the same "
            "RAY_AUTH_TOKEN here as where `ray start` was called, on every node; or RAY_AUTH_MODE=disabled everywhere, where nobody "
            "else reaches the machines."
        )
    return (
        f"the recipe needs {describe(pools(config))}, and no Ray cluster answers at {address!r}: {error}\n"
        "Start one with `ray start --head` here and `ray start --address=<this machine>:6379` on the other nodes, or have one "
        "started: `sv6d launch --help`. Where this machine alone has all the GPUs: ray_kwargs.ray_init.address=local."
    )


def inspect_nodes(
    config: DictConfig, wait: float = JOIN_SECONDS, tell: Callable[[str], None] = lambda text: None
) -> list[NodeReport]:
    """Ask one process on each node of the cluster that the run will use; the node of this process comes first.

    Args:
        wait: seconds for nodes that have still to join a cluster, where the recipe needs more GPUs than are there.
        tell: told what is waited for.

    Raises:
        RecipeError: no cluster is there.
    """
    with connected(config), _token(config) as token:
        import ray

        nodes = _await_nodes(pools(config), wait if cluster_address(config) else 0, tell)
        tell(f"asking {len(nodes)} nodes of Ray what they see")
        here = ray.get_runtime_context().get_node_id()
        nodes.sort(key=lambda node: node["NodeID"] != here)
        return _ask(config, nodes, token)


def _await_nodes(wanted: list[Pool], seconds: float, tell: Callable[[str], None]) -> list[dict]:
    """The nodes that are up once the recipe's GPUs are there, or the time is over."""
    import ray

    end = time.monotonic() + seconds
    while True:
        alive = [node for node in ray.nodes() if node["Alive"]]
        missing = unplaced(wanted, [_resources(node) for node in alive])
        if not missing or time.monotonic() >= end:
            return alive
        tell(f"{len(alive)} nodes of Ray are up; waiting for {describe(missing)}")
        time.sleep(1)


def _resources(node: dict) -> tuple[float, float]:
    return node["Resources"].get("GPU", 0), node["Resources"].get("CPU", 0)


@contextmanager
def _token(config: DictConfig) -> Iterator[Path]:
    """A folder in the run's folder that only nodes with the same file system can see."""
    token = Path(config.sv6d.run_dir).absolute() / f".nodes-{uuid.uuid4().hex[:8]}"
    token.mkdir(parents=True)
    try:
        yield token
    finally:
        shutil.rmtree(token, ignore_errors=True)
        with suppress(OSError):
            token.parent.rmdir()  # only if this made it


def _ask(config: DictConfig, nodes: list[dict], token: Path) -> list[NodeReport]:
    import ray
    from ray.cloudpickle import register_pickle_by_value, unregister_pickle_by_value
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    expected = {name: str(value) for name, value in config.sv6d.env.items()}
    paths = compared_paths(config)
    register_pickle_by_value(witness)
    try:
        answers = []
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            look = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(witness.look)
            answers.append(look.remote(paths, str(token), node["NodeID"], list(expected)))
    finally:
        unregister_pickle_by_value(witness)
    ray.wait(answers, num_returns=len(answers), timeout=ANSWER_SECONDS)
    return [_report(node, answer, token, expected) for node, answer in zip(nodes, answers, strict=True)]


def compared_paths(config: DictConfig) -> dict[str, str]:
    """What must be the same on every node, by setting. Rows, and not the media beside them: to look at a million files takes longer
    than a node is given to answer."""
    settings = ("data.train_files", "data.val_files", "sv6d.model")
    given = {setting: OmegaConf.select(config, setting) for setting in settings}
    paths = {setting: Path(value).absolute() for setting, value in given.items() if isinstance(value, str)}
    return {setting: str(path) for setting, path in paths.items() if path.exists()}  # a model may be a hub's name


def _report(node: dict, answer, token: Path, expected: dict[str, str]) -> NodeReport:
    import ray

    name, (gpus, cpus) = _name(node), _resources(node)
    try:
        seen = ray.get(answer, timeout=0)
    except ray.exceptions.GetTimeoutError:
        return NodeReport(name, gpus, cpus, error=f"no answer within {ANSWER_SECONDS} s")
    except ray.exceptions.RayError as error:
        return NodeReport(name, gpus, cpus, error=str(error).strip().splitlines()[-1])
    differing = {key: value for key, value in seen["environment"].items() if value != expected[key]}
    return NodeReport(
        name,
        gpus,
        cpus,
        versions=seen["versions"],
        problems=tuple(seen["problems"]),
        paths=seen["paths"],
        shared=seen["shared"] and (token / node["NodeID"]).exists(),
        environment=differing,
        devices=tuple(seen["devices"]),
        free_gib=seen["free_gib"],
    )


def _name(node: dict) -> str:
    host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
    return address if host == address else f"{host} ({address})"


def disagreements(reports: list[NodeReport]) -> list[str]:
    """What would go wrong on a node though it works on the first, a sentence each that says what to change."""
    first, found = reports[0], []
    for node in reports:
        if node.error:
            found.append(f"{node.name} does not answer: {node.error}. Look at Ray's log there, or take the node out.")
            continue
        found += [f"{node.name}: the plug-in is not in place: {problem}" for problem in node.problems]
        found += [
            f"{node.name}: the variable {key} of sv6d.env did not arrive there. Look at Ray's log on that node."
            if value is None
            else f"{node.name}: the variable {key} of sv6d.env has another value there, which is not shown as it may be a secret. "
            "Unset it where `ray start` was called on that node."
            for key, value in node.environment.items()
        ]
        if not node.shared:
            found.append(
                f"{node.name} does not share sv6d.run_dir with {first.name}: put it on a file system that every node mounts at "
                "the same place and may write to."
            )
        if node.devices and node.gpus > len(node.devices):
            found.append(
                f"{node.name}: Ray was told of {node.gpus:g} GPUs and the machine has {len(node.devices)}; start Ray there "
                "without --num-gpus."
            )
        found += _differing_paths(first, node)
    return [*found, *_differing_versions([node for node in reports if not node.error])]


def _differing_paths(first: NodeReport, node: NodeReport) -> list[str]:
    mend = "Copy it to the same place, or use a file system that every node mounts."
    return [
        f"{node.name}: {setting} is not there. {mend}"
        if node.paths.get(setting) is None
        else f"{node.name}: {setting} holds other files than on {first.name}. {mend}"
        for setting, seen in first.paths.items()
        if node.paths.get(setting) != seen
    ]


def _differing_versions(reports: list[NodeReport]) -> list[str]:
    found = []
    for package in reports[0].versions if reports else ():
        nodes_of: dict[str, list[str]] = {}
        for node in reports:
            nodes_of.setdefault(node.versions[package] or "not installed", []).append(node.name)
        if len(nodes_of) > 1:
            where = "; ".join(f"{seen} on {', '.join(nodes)}" for seen, nodes in nodes_of.items())
            found.append(f"{package} differs: {where}. Install one environment on every node.")
    return found


def shortage(config: DictConfig, reports: list[NodeReport]) -> list[str]:
    """Why the recipe's GPUs cannot be reserved on these nodes: verl would wait for them for ever. Empty where they can."""
    missing = unplaced(pools(config), [(node.gpus, node.cpus) for node in reports])
    if not missing:
        return []
    have = ", ".join(f"{node.gpus:g} GPUs and {node.cpus:g} CPUs on {node.name}" for node in reports)
    return [
        f"there is no room for {describe(missing)}, each GPU with {missing[0].cpus} of Ray's CPUs: the cluster has {have}. "
        "Add nodes, or lower the setting."
    ]


def require(config: DictConfig, console: Console) -> list[NodeReport]:
    """Inspect the cluster and print what was seen.

    Raises:
        RecipeError: a node would fail the run, or there is no room on them; the message says what to change.
    """
    with console.status("connecting to Ray") as status:
        reports = inspect_nodes(config, tell=status.update)
    show(reports, console)
    if found := [*shortage(config, reports), *disagreements(reports)]:
        raise RecipeError("the cluster is not fit for the run:\n" + "\n".join(f"- {sentence}" for sentence in found))
    return reports


def show(reports: list[NodeReport], console: Console) -> None:
    """A line a node."""
    table = Table(
        "node", "GPUs", "CPUs", "devices", "verl", "vllm", "torch", "free", title="nodes", title_justify="left"
    )
    for node in reports:
        versions = [node.versions.get(name) or "-" for name in ("verl", "vllm", "torch")]
        devices = f"{len(node.devices)} x {node.devices[0]}" if node.devices else "-"
        table.add_row(node.name, f"{node.gpus:g}", f"{node.cpus:g}", devices, *versions, f"{node.free_gib:,.0f} GiB")
    console.print(table)
