"""What the mixture of a GRPO run will draw, told in a second, before Ray starts: from rows, weights and steps alone."""

from omegaconf import DictConfig, OmegaConf

from ..data_mixers.mixture import Mixture
from ..data_mixers.sources import count_tasks, row_files
from .compose import RecipeError

_THEN = {
    "repeat": "the next pass over them begins",
    "renormalise": "the others go on without them",
    "stop": "the stream ends at the next draw of one of them",
}


def foretell(config: DictConfig) -> str | None:
    """Which tasks' rows are used up during the run, and at which step; None where no task's are, or the dataset is another's.

    Raises:
        RecipeError: weights that do not fit the rows, or sources that end before the run does.
    """
    data = config.data
    if data.custom_cls.name != "MixtureDataset":
        return None
    settings = OmegaConf.to_container(data.mixture, resolve=True)
    chosen = {key: settings[key] for key in ("weights", "seed", "exhausted", "mode") if key in settings}
    try:
        mixture = Mixture(count_tasks(row_files(data.train_files)), **chosen)
        mixture.require(settings["length"], data.train_batch_size)
    except ValueError as error:
        raise RecipeError(f"data.mixture: {error}") from error
    end = config.trainer.total_training_steps * data.train_batch_size
    used_up = [f"{task} in step {at // data.train_batch_size + 1}" for task, at in mixture.exhaustions if at < end]
    if not used_up:
        return None
    few = f"{', '.join(used_up[:3])}{f' and {len(used_up) - 3} more' if len(used_up) > 3 else ''}"
    then = _THEN[mixture.exhausted]
    return f"every row is used once: {few}; then {then} (data.mixture.exhausted={mixture.exhausted})"
