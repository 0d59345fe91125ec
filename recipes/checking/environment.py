"""verl as it is installed, and the cluster: is the plug-in in place wherever verl runs, does verl take the recipe, do nodes agree?"""

import contextlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from omegaconf import DictConfig, OmegaConf

from ...schema.names import near_names
from ..compose import RecipeError
from .asynchrony import has_balanced_buffer
from .finding import Finding, NotKnown, counted, error, note, warning
from .subject import Subject

LOGGERS = ("wandb", "tensorboard", "mlflow", "swanlab", "clearml", "trackio")
"""verl's loggers whose package has their name."""
REWARD_MANAGER = "reward.reward_manager.name"


def plug_in(subject: Subject) -> Iterator[Finding]:
    """`import verl` in a fresh process brings the plug-in, which registers what the recipe names."""
    answer = _probe()
    for problem in answer["problems"]:
        yield error(f"in a fresh process the plug-in is not in place: {problem}. `sv6d doctor` says how to mend it")
    failed = [
        f"{name} ({state})" for name, state in answer.get("mends", {}).items() if state.startswith(("failed", "not l"))
    ]
    if failed:
        yield error(f"mends of verl that did not take: {', '.join(failed)}. `sv6d doctor` says how to mend it")
    if answer["loaded"] and not answer["problems"] and not failed:
        yield note(f"a fresh process of verl has the plug-in; platform {answer.get('platform', 'not told')}")


def names(subject: Subject) -> Iterator[Finding]:
    """What the recipe names is there in a fresh process of verl: estimator, engines, reward manager, loggers and their like."""
    known = _probe().get("names")
    if known is None:
        raise NotKnown("verl does not load; the plug-in's line says why")
    for key, there in known.items():
        given = OmegaConf.select(subject.config, key)
        if key == REWARD_MANAGER and OmegaConf.select(subject.config, "reward.reward_manager.source") != "register":
            continue
        for name in [given] if isinstance(given, str) else given or []:
            if name not in there:
                yield error(f"{key}={name} is none that verl has; {near_names(name, there)}")


def loggers(subject: Subject) -> Iterator[Finding]:
    """Packages of the loggers that the recipe asks for."""
    asked = subject.config.trainer.logger
    for name in [asked] if isinstance(asked, str) else asked or []:
        if name in LOGGERS and importlib.util.find_spec(name) is None:
            kind = error if subject.trains_here else warning
            yield kind(
                f"trainer.logger asks for {name}, which is not installed here, and the run ends where it is not: pip install {name} on the "
                f"machine of the driver, or take it out"
            )


def verl_settings(subject: Subject) -> Iterator[Finding]:
    """verl and our trainers read the recipe as they will at the start of the run, and refuse it now."""
    with warnings.catch_warnings():  # of engines that are not installed
        warnings.simplefilter("ignore")
        import verl.trainer.ppo.v1  # noqa: F401 (our trainers come with verl's, and not before them)

        from ...verl_plugin import kl, replay_buffer
        from ...verl_plugin.recording import trainer as recording

    def sampler(config):
        if has_balanced_buffer(config):
            replay_buffer.sampler_settings(config.trainer.v1.sampler.sampler_kwargs)

    for ask in (_validate, kl.read_settings, recording.texts_a_step, sampler):
        try:
            ask(subject.config)
        except Exception as refused:  # whatever their classes raise
            yield error(f"the run would be refused at its start: {refused.__cause__ or refused}")


def _validate(config: DictConfig) -> None:
    """As verl does before it starts Ray, without what it prints."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        validate_config(config, need_reference_policy(config), need_critic(config))


def ask_verl() -> None:
    """Start the fresh process of verl, which takes seconds, beside whatever else is done until its answer is needed."""
    _answer()


def _probe() -> dict:
    return _answer().result()


@cache
def _answer() -> Future:
    from ...verl_plugin.doctor.cli import run_probe

    return ThreadPoolExecutor(1).submit(run_probe, "verl")


def nodes(subject: Subject) -> Iterator[Finding]:
    """Every node of the Ray cluster: plug-in, versions, environment, shared folders, and room for the recipe's GPUs."""
    from ..cluster.nodes import disagreements, inspect_nodes, shortage

    try:
        reports = inspect_nodes(subject.config, wait=0)
    except RecipeError as missing:
        yield error(str(missing.message))
        return
    wrong = [*shortage(subject.config, reports), *disagreements(reports)]
    yield from map(error, wrong)
    if not wrong:
        gpus = int(sum(report.gpus for report in reports))
        yield note(
            f"plug-in, versions, environment and folders agree on {counted(len(reports), 'node')} with {counted(gpus, 'GPU')}"
        )
