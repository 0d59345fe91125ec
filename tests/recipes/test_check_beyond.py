"""Options beyond Table 3, before a run starts."""

import pytest
from preflight import findings, only, subject
from sv6d.recipes.checking.beyond import settings
from sv6d.recipes.compose import available

FILTER = "algorithm.filter_groups.enable=true", "algorithm.filter_groups.metric=reward"


@pytest.mark.parametrize("recipe", [name for name in available("grpo") if name != "table3"])
def test_the_packaged_recipes_have_none_of_them(recipe):
    assert findings(settings, subject(recipe)) == []


def test_a_wrong_setting_is_told_as_the_trainer_would():
    level, text = only(settings, subject("leum_8b_1node", "sv6d.beyond.task_ema.decay=99"))
    assert level == "error" and "sv6d.beyond.task_ema.decay is 99; set it to between 0 and 1" in text


def test_filtering_needs_a_limit_and_an_asynchronous_trainer():
    level, text = only(settings, subject("leum_8b_1node", *FILTER))
    assert level == "error" and "max_num_gen_batches is 0" in text
    assert findings(settings, subject("leum_8b_1node", *FILTER, "algorithm.filter_groups.max_num_gen_batches=1")) == []
    level, text = only(settings, subject("leum_8b_sync", *FILTER, "algorithm.filter_groups.max_num_gen_batches=1"))
    assert level == "error" and "a synchronous step" in text


def test_filtering_in_verls_own_buffer_is_verls():
    own = "trainer.v1.sampler.custom_sampler.name=null"
    assert findings(settings, subject("leum_8b_sync", *FILTER, own)) == []


def test_clip_higher_in_a_single_update_changes_nothing_and_is_told():
    higher = "actor_rollout_ref.actor.clip_ratio_high=0.28"
    level, text = only(settings, subject("leum_8b_1node", higher))
    assert level == "warning" and "clip_ratio_high=0.28 changes nothing" in text
    acts = "actor_rollout_ref.actor.ppo_epochs=2", "actor_rollout_ref.actor.ppo_mini_batch_size=195"
    acts = *acts, "algorithm.rollout_correction.bypass_mode=true"
    for setting in acts:
        assert findings(settings, subject("leum_8b_1node", higher, setting)) == []
