"""examples/mixture_with_trl.py as a reader would run it: GRPOTrainer on a tiny random model draws the mixture, also resumed."""

import importlib.util
from pathlib import Path

import pytest
from sv6d.data_mixers import Mixture

pytestmark = pytest.mark.slow  # importing TRL takes longer than training


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[2] / "examples" / "mixture_with_trl.py"
    spec = importlib.util.spec_from_file_location("mixture_with_trl", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn(example, folder, **options):
    """The id of each sample, in the order in which they are rewarded."""
    seen = []

    def watch(completions, id, **_):
        seen.extend(id)
        return [0.0] * len(completions)

    example.train(steps=4, folder=str(folder), watch=watch, **options)
    return seen


def expected(example, start, stop):
    """Each prompt of the steps start..stop-1 twice in a row: the two rollouts of a group."""
    tasks = sorted(example.ROWS)
    mixture = Mixture({task: example.ROWS[task] for task in tasks}, example.WEIGHTS, seed=42)  # TRL's default seed
    places = [mixture.locate(position) for position in range(4 * start, 4 * stop)]
    return [f"{place.task}/{place.row}" for place in places for _ in range(2)]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_trl_trains_the_mixture_and_goes_on_with_it(example, tmp_path, accumulated):
    """4 prompts x 2 rollouts a step, at once or in two accumulated halves; then again from the checkpoint of step 2."""
    sizes = {"per_device_train_batch_size": 8 // accumulated, "gradient_accumulation_steps": accumulated}
    assert drawn(example, tmp_path, save_steps=2, **sizes) == expected(example, 0, 4)
    resumed = drawn(example, tmp_path, resume=str(tmp_path / "checkpoint-2"), **sizes)
    assert resumed == expected(example, 2, 4)
