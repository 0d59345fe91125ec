"""A run as a job of a Ray cluster that is up: submitted to its dashboard, it runs on the head, and outlives this terminal."""

import asyncio
import shlex

from ..compose import RecipeError

STOP = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}}
"""A job that is stopped has so many seconds for its checkpoint; Ray's default is 3."""


def submit(address: str, command: list[str]) -> str:
    """Submit the command; returns the job's id.

    Args:
        address: of the cluster's dashboard, `http://HEAD:8265`.

    Raises:
        RecipeError: nothing answers there.
    """
    return _client(address).submit_job(entrypoint=shlex.join(command), runtime_env=STOP)


def follow(address: str, job: str, echo) -> bool:
    """Pass what the job prints to `echo` until it ends; returns whether it succeeded."""
    client = _client(address)

    async def read() -> None:
        async for text in client.tail_job_logs(job):
            echo(text)

    asyncio.run(read())
    return client.get_job_status(job) == "SUCCEEDED"


def _client(address: str):
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        raise RecipeError(
            f"no Ray dashboard answers at {address}: {error}\nIt is where the cluster's head was started, on port 8265 unless "
            "`ray start --head --dashboard-port` says another; from elsewhere forward it (ssh -L 8265:localhost:8265 HEAD)."
        ) from error
