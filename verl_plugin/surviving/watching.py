"""Workers that die end the run at once, so that its launcher starts it again: verl would wait for them, or fail prompt after prompt.

A dead agent loop worker takes its prompts with it and nobody hears of them again; a dead rollout server is the least busy
one, so that every prompt is sent there; a dead reward worker fails its share of the rollouts for good.
"""

import faulthandler
import time
from collections.abc import Mapping

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

STDERR = 2
LAST_LOOK = 5.0
"""Seconds for which a step that failed looks for a dead worker as its cause: Ray may hear of the death a little later."""


class WorkerDied(RuntimeError):
    """A process that the run cannot do without is gone; says which, and what Ray knows of its end."""


class Watch:
    """Asks Ray actors for a sign of life, one question each at a time: one that is busy answers later, one that is dead never
    leaves it open.

    Args:
        actors: what each is, in words, and its handle.
    """

    def __init__(self, actors: Mapping[str, ray.actor.ActorHandle]):
        self.actors = dict(actors)
        self._asked: dict[ray.ObjectRef, str] = {}
        for name in self.actors:
            self._ask(name)

    def _ask(self, name: str) -> None:
        self._asked[self.actors[name].__ray_call__.remote(sign_of_life)] = name

    def keep_looking(self, seconds: float) -> None:
        """Look for so long: an answer that lies here may be older than a death, of which Ray, too, may hear a little later.

        Raises:
            WorkerDied: as `look`.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.1)

    def look(self) -> None:
        """
        Raises:
            WorkerDied: an actor is dead, or the engine that it serves.
        """
        asked = list(self._asked)
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=0) if asked else ([], [])
        for ref in answered:
            name = self._asked.pop(ref)
            try:
                wrong = ray.get(ref)
            except ActorDiedError as error:
                raise WorkerDied(f"{name} died; the run cannot go on without it. {error}") from error
            except ActorUnavailableError:  # the network, for now
                wrong = None
            if wrong:
                raise WorkerDied(f"{name}: {wrong}; the run cannot go on without it")
            self._ask(name)


def sign_of_life(actor) -> str | None:
    """Runs in an actor, in which all is well (None), or vLLM's engine, a process of its own, is dead."""
    return "its engine died" if getattr(getattr(actor, "engine", None), "errored", False) else None


class WatchedTrainer:
    """Mixin over `StoppableTrainer`."""

    _watch: Watch | None = None

    def fit(self, agent_loop_manager):
        self._watch = Watch(self.workers(agent_loop_manager))
        try:
            super().fit(agent_loop_manager)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def workers(self, agent_loop_manager) -> dict[str, ray.actor.ActorHandle]:
        """All Ray actors that rollouts and rewards need."""
        servers = [server for replica in self._replicas() for server in replica.servers]
        groups = {
            "rollout server": servers,
            "reward worker": self.reward_loop_manager.reward_loop_workers,
            "agent loop worker": agent_loop_manager.agent_loop_workers,
            "training worker": self.actor_rollout_wg.workers,
        }
        return {f"{kind} {i}": actor for kind, actors in groups.items() for i, actor in enumerate(actors)}

    def _replicas(self) -> list:
        return [replica for manager in self._rollout_server_managers() for replica in manager.get_replicas()]

    def step(self, metrics, timing_raw):
        try:
            return super().step(metrics, timing_raw)
        except RuntimeError:
            # Where all rollouts of a step fail at once, verl's buffer says only that there are none, before anybody has looked.
            self._watch.keep_looking(LAST_LOOK)
            raise

    def look_after(self, partition: str) -> None:
        self._watch.look()
        super().look_after(partition)

    def on_sample_end(self):
        self._watch.look()  # else groups that failed for a dead worker would be trained
        super().on_sample_end()

    def on_step_begin(self):
        super().on_step_begin()
        limit = self._survival.stalled_after
        if limit is not None:  # the launcher ends it then; where it stands by then is left in the log
            faulthandler.dump_traceback_later(0.9 * limit, file=STDERR)
