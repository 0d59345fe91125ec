"""A run as a job of a Ray cluster that is up: submitted to its dashboard, it runs on the head, and outlives this terminal."""

import asyncio
import shlex
import time

from omegaconf import DictConfig

from ..cluster.pools import notice_seconds
from ..compose import RecipeError

AGENT_SECONDS = 60.0
"""For which a cluster that has just started may have no agent that takes jobs."""


def environment(config: DictConfig) -> dict[str, dict[str, str]]:
    """The job's runtime environment: when it is stopped, it has the seconds that its checkpoint takes; Ray's default is 3."""
    return {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(notice_seconds(config))}}


def submit(address: str, config: DictConfig, command: list[str]) -> str:
    """Submit the command that runs a composed recipe; returns the job's id.

    Args:
        address: of the cluster's dashboard, `http://HEAD:8265`.

    Raises:
        RecipeError: nothing answers there, or no node's agent takes a job within `AGENT_SECONDS`.
    """
    client, end = _client(address), time.monotonic() + AGENT_SECONDS
    while True:
        try:
            return client.submit_job(entrypoint=shlex.join(command), runtime_env=environment(config))
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            if time.monotonic() > end:
                raise RecipeError(f"the cluster at {address} takes no job: {error}") from error
        time.sleep(1.0)


def follow(address: str, job: str, echo) -> bool:
    """Pass what the job prints to `echo` until it ends; returns whether it succeeded.

    Raises:
        RecipeError: the dashboard was lost on the way; the job is not.
    """
    client = _client(address)

    async def read() -> None:
        async for text in client.tail_job_logs(job):
            echo(text)

    try:
        asyncio.run(read())
        status = client.get_job_status(job)
        if not status.is_terminal():
            raise ConnectionError("its log ended before it did")
        return status == "SUCCEEDED"
    except (OSError, RuntimeError) as error:
        raise RecipeError(
            f"the dashboard at {address} was lost ({error}); the job {job} goes on without this terminal. What it prints: "
            f"ray job logs --follow {job} --address {address}"
        ) from error


def _client(address: str):
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RecipeError(
            f"no Ray dashboard answers at {address}: {error}\nIt is where the cluster's head was started, on port 8265 unless "
            "`ray start --head --dashboard-port` says another; from elsewhere forward it (ssh -L 8265:localhost:8265 HEAD)."
        ) from error
