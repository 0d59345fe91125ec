"""verl's `fully_async_policy`: its own rollouter draws our stream, saves it and goes on with it. No Ray, no model: the
rollouter's constructor, its iterator and its checkpoint code as they are installed."""

import asyncio
from itertools import islice
from pathlib import Path

import pytest
import verl
from hydra import compose, initialize_config_dir
from sv6d.data_mixers import Mixture, MixtureMismatch
from verl.experimental.fully_async_policy.detach_utils import prepare_single_generation_data
from verl.experimental.fully_async_policy.fully_async_rollouter import FullyAsyncRollouter

CONFIG = Path(verl.__file__).parent / "experimental" / "fully_async_policy" / "config"


@pytest.fixture
def rollouter(data, processor):
    """Makes rollouters as the fully asynchronous main program does, resuming from `checkpoints` where there are any."""

    def make(**mixture):
        settings = {
            "data.train_files": data / "rl",
            "data.val_files": data / "heldout",
            "data.shuffle": False,
            "data.filter_overlong_prompts": False,
            "data.truncation": "error",
            "data.max_prompt_length": 4_096,
            "data.dataloader_num_workers": 0,
            "data.train_batch_size": 0,
            "data.custom_cls.path": "pkg://sv6d.data_mixers.verl_dataset",
            "data.custom_cls.name": "MixtureDataset",
            "actor_rollout_ref.hybrid_engine": False,
            "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
            "async_training.require_batches": 1,
            "async_training.trigger_parameter_sync_step": 1,
            "trainer.total_epochs": 1,
            "trainer.device": "cpu",
            "trainer.default_local_dir": data / "checkpoints",
        }
        overrides = [f"{key}={value}" for key, value in settings.items()]
        overrides += [f"+data.mixture.{key}={value}" for key, value in {"length": 24, "seed": 3, **mixture}.items()]
        with initialize_config_dir(str(CONFIG), version_base=None):
            config = compose("fully_async_ppo_trainer", overrides)
        return FullyAsyncRollouter.__ray_metadata__.modified_class(config, processor.tokenizer, processor)

    return make


def drawn(batches):
    return [(batch["data_source"][0], int(batch["extra_info"][0]["position"])) for _, batch in batches]


def expected(start, stop):
    mixture = Mixture({"subject": 3, "ocr_regular": 2}, seed=3)
    return [(mixture.locate(position).task, position) for position in range(start, stop)]


def test_it_draws_the_stream(rollouter):
    ours = rollouter()
    assert ours.total_rollout_steps == 24
    batches = list(ours._create_continuous_iterator())
    assert drawn(batches) == expected(0, 24)
    full = prepare_single_generation_data(batches[0][1], ours.config)
    assert full.non_tensor_batch["raw_prompt"][0][-1]["role"] == "user"


def test_it_goes_on_where_it_saved(rollouter, data):
    first = rollouter()
    assert drawn(islice(first._create_continuous_iterator(), 8)) == expected(0, 8)
    save(first, data)
    again = rollouter()
    again.load_checkpoint()
    assert again.global_steps == 2 * 4 + 1
    assert drawn(again._create_continuous_iterator()) == expected(8, 24)


def test_it_refuses_another_mixture(rollouter, data):
    first = rollouter()
    drawn(islice(first._create_continuous_iterator(), 8))
    save(first, data)
    other = rollouter(seed=4)
    other.load_checkpoint()
    with pytest.raises(MixtureMismatch, match=r"seed \(saved 3, now 4\)"):
        next(other._create_continuous_iterator())


def save(rollouter, data):
    """As the trainer does after its second step: the rollouter's state, then the pointer to it."""
    folder = data / "checkpoints"
    asyncio.run(rollouter.save_checkpoint(str(folder / "global_step_2")))
    (folder / "latest_checkpointed_iteration.txt").write_text("2")
