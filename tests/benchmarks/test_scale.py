"""The simulation of `benchmarks/scale.py` on cases that can be worked out by hand. An iteration takes 0.01 s where nothing else is
said, so 100 tokens take 1 s; training costs 1 s a sequence, 2 s a step; weights arrive within 3 s."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from click import ClickException
from click.testing import CliRunner
from omegaconf import OmegaConf
from sv6d.recipes.compose import compose
from sv6d.reports.recorder import Recorder

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from scale import by_ahead, candidates, fastest, least_ahead, main, outcome
from scale_costs import assumed, measure, responses, with_rate
from scale_sim import Costs, Engines, Outcome, Plan, Run, Sample, Writing, masked_rows, training_seconds

COSTS = Costs(decode_base=0.01, decode_each=0.0, slots=1000, train=1.0, padding=0.5, fixed=2.0, sync=3.0)
EQUAL = {"x": Writing(np.array([100]), 0.0)}


def costs(**changes):
    return Costs(**{**COSTS.__dict__, **changes})


def steps(plan, found=COSTS, writing=EQUAL, groups=8, group_size=2, seed=0):
    return Run(plan, found, writing, groups, group_size, seed).steps(4)


def finish_times(lengths, engines=1, prefill=0.0, **changes):
    """When samples of these lengths are finished that are submitted together at 0."""
    written = Engines(engines, costs(**changes), {"x": Writing(np.array([1]), prefill)})
    samples = [Sample(0, "x", tokens) for tokens in lengths]
    written.submit(samples)
    times = {}
    for sample in written.until(math.inf):
        times[samples.index(sample)] = written.now
    return [times[index] for index in range(len(lengths))], written.busy


# An engine


def test_sequences_that_are_written_together_slow_each_other_down():
    # 50 iterations of two at 0.01 + 2 x 0.01, then 50 of one at 0.02
    assert finish_times([100, 50], decode_each=0.01) == (pytest.approx([2.5, 1.5]), pytest.approx(2.5))


def test_nothing_is_written_while_a_prompt_is_taken_in():
    # taken in at 3 s and 6 s; then both write for 1 s
    assert finish_times([100, 100], prefill=3.0) == (pytest.approx([7, 7]), pytest.approx(7))


def test_what_finds_no_slot_waits():
    assert finish_times([100, 100, 100], slots=2)[0] == pytest.approx([1, 1, 2])


def test_each_sample_goes_to_the_engine_with_the_fewest():
    # 3 and 2 of five, one after another
    assert finish_times([100] * 5, engines=2, slots=1) == (pytest.approx([1, 1, 2, 2, 3]), pytest.approx(5))


def test_what_was_begun_is_put_aside_and_taken_in_again_with_its_tokens():
    engines = Engines(1, COSTS, {"x": Writing(np.array([1]), 2.0)})
    engines.submit([Sample(0, "x", 100)])
    assert list(engines.until(2.4)) == []  # 2 s for the prompt, then 40 tokens
    engines.pause()
    engines.resume(10.0, version=1)
    (sample,) = engines.until(math.inf)
    assert engines.now == pytest.approx(12.6) and sample.version == 0
    assert engines.busy == pytest.approx(2.4 + 2.6)


# A step


def test_equal_lengths_in_turns():
    # write 1 s, train 16 / 4 + 2 = 6 s, weights 3 s. Of 4 x 10 GPU seconds 4 write and 16 train
    found = steps(Plan("sync", 4, 0))
    assert (found.step, found.wait, found.idle) == pytest.approx((10, 1, 0.5))
    assert not found.staleness.any()


def test_equal_lengths_side_by_side():
    # train 16 / 2 + 2 = 10 s, weights 3 s; the next batch is written meanwhile, in 1 s on each of two engines.
    # Of 4 x 13 GPU seconds 2 write and 16 train
    found = steps(Plan("separate_async", 2, 2, 1))
    assert (found.step, found.wait, found.idle) == pytest.approx((13, 0, 1 - 18 / 52))
    assert set(found.staleness) == {1}


def test_side_by_side_without_running_ahead_waits_for_what_it_trains():
    found = steps(Plan("separate_async", 2, 2, 0))
    assert (found.step, found.wait) == pytest.approx((14, 1)) and not found.staleness.any()


def test_where_writing_is_slower_than_training_the_engine_sets_the_pace():
    # one after another, 16 sequences take 16 s, in which training (10 s) fits; the engine stands still for 3 s a step
    found = steps(Plan("separate_async", 2, 1, 1), costs(slots=1))
    assert (found.step, found.wait) == pytest.approx((19, 6))


def test_a_step_needs_every_task():
    # x takes 1 s, y 3 s; nothing else takes time. Of 2 x 3 GPU seconds 4 write
    writing = {"x": Writing(np.array([100]), 0.0), "y": Writing(np.array([300]), 0.0)}
    free = costs(train=0.0, fixed=0.0, sync=0.0)
    found = steps(Plan("sync", 2, 0), free, writing, groups=2, group_size=1)
    assert (found.step, found.idle) == pytest.approx((3, 1 / 3))


def test_running_ahead_in_turns_fills_the_gap_that_the_last_one_leaves():
    """One task with a straggler: alone it holds the step up, while others of its task would be finished."""
    writing = {"x": Writing(np.array([100] * 9 + [3000]), 0.0)}
    alone = steps(Plan("sync", 4, 0), writing=writing, groups=100, group_size=1)
    ahead = steps(Plan("colocate_async", 4, 0, 1), writing=writing, groups=100, group_size=1)
    assert alone.wait == pytest.approx(30) and ahead.wait < 10
    assert ahead.staleness.max() >= 1


def test_the_same_seed_is_the_same_run():
    writing = {"x": Writing(np.arange(1.0, 400), 0.1)}
    plan = Plan("colocate_async", 3, 0, 0.5)
    assert steps(plan, writing=writing, seed=1).step == steps(plan, writing=writing, seed=1).step
    assert steps(plan, writing=writing, seed=1).step != steps(plan, writing=writing, seed=2).step


# Batches and splits


@pytest.mark.parametrize(("ranks", "masked"), [(8, 0), (24, 0), (80, 0), (32, 16), (96, 48), (64, 16), (128, 80)])
def test_where_ranks_do_not_divide_table_3s_batch_the_mini_batch_is_raised(ranks, masked):
    """To 392 prompts over 32 and 64 ranks, 396 over 96, 400 over 128: 8 x 392 = 3,136 = 32 x 98 = 64 x 49."""
    assert masked_rows(390, 8, ranks) == masked
    assert (3120 + masked) % ranks == 0


def test_padding_costs_what_a_padding_sequence_costs():
    assert training_seconds(COSTS, 390, 8, 8) == 2 + 3120 / 8
    assert training_seconds(COSTS, 390, 8, 32) == 2 + (3120 + 16 * 0.5) / 32


def test_splits_need_no_padding_where_there_is_such_a_one():
    for nodes in (2, 4, 9, 16):
        plans = candidates(nodes, assumed(), 2)
        assert plans and all(plan.gpus == nodes * 8 and not masked_rows(390, 8, plan.trainers) for plan in plans)


def test_rollouts_run_no_further_ahead_than_it_pays():
    def at(step):
        return Outcome(step, 0.0, 0.0, np.zeros(1))

    assert least_ahead({0.5: at(150), 1: at(101), 2: at(100)}) == 1
    assert least_ahead({0.5: at(150), 1: at(103), 2: at(100)}) == 2


def test_the_recipe_for_separate_nodes_is_what_the_simulation_finds():
    config = compose("grpo", "leum_8b_async", [f"sv6d.{key}=somewhere" for key in ("data", "model", "run_dir")])
    trainers, rollouts = config.trainer.nnodes, config.actor_rollout_ref.rollout.nnodes
    results = {plan: outcome(plan, assumed(), 4, 0) for plan in candidates(trainers + rollouts, assumed(), 1)}
    plan = fastest(results, (trainers + rollouts) * 8, "separate_async")
    assert (trainers * 8, rollouts * 8) == (plan.trainers, plan.rollouts)
    assert config.trainer.v1.separate_async.num_warmup_batches == least_ahead(by_ahead(plan, assumed(), 4, 0))


# Costs


def test_a_rate_of_tokens_is_that_of_a_full_engine():
    # 10 sequences, 500 tokens a second: 10 tokens take 0.02 s, 0.01 of them whatever is written
    found = with_rate(costs(slots=10), 500)
    assert found.decode_base + found.decode_each * 10 == pytest.approx(10 / 500)


def test_responses_have_their_median_and_their_stragglers():
    lengths = responses(100, 0.5, 0.1, seed=0, limit=1000)
    assert np.median(lengths[200:]) == pytest.approx(100, rel=0.05)
    assert (lengths[:200] == 1000).all() and lengths.max() == 1000 and lengths.min() >= 1


def run_folder(folder, times, mode="colocate_async"):
    """What a run of eight steps leaves: 2 prompts x 2 responses of 50 tokens, on one GPU; one more that writes, where separate."""
    rollout = {"nnodes": int(mode == "separate_async"), "n_gpus_per_node": 1, "n": 2, "max_num_seqs": 4}
    trainer = {"nnodes": 1, "n_gpus_per_node": 1}
    trainer["v1"] = {"trainer_mode": f"sv6d_{mode}", mode: {"num_warmup_batches": 0.5}}
    config = {"trainer": trainer, "data": {"train_batch_size": 2}, "actor_rollout_ref": {"rollout": rollout}}
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    lines = [{"step": step, "data": {f"timing_s/{name}": t for name, t in times.items()}} for step in range(1, 9)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Recorder(folder) as recorder:
        for step in range(1, 9):
            names = [f"{step}{group}_{i}_0" for group in "ab" for i in (0, 1)]
            rows = [{"uid": name, "task": "x", "group": name.split("_")[0], "score": 0.0} for name in names]
            recorder.write([row | {"response_length": 50} for row in rows], step=step)
    return folder


def test_a_runs_own_times_become_costs_and_come_back_as_its_step(tmp_path):
    times = {"gen": 6.0, "old_log_prob": 1.0, "update_actor": 3.0, "adv": 0.25, "update_weights": 0.5, "step": 11.0}
    measured = measure(run_folder(tmp_path, times))
    found = measured.calibration.costs
    # 4 sequences of 50 tokens in 6 s; 4 s of training for 4 sequences; what else a step has is fixed
    assert (found.decode_each, found.train, found.fixed, found.sync) == pytest.approx((0.03, 1.0, 0.5, 0.5))
    assert (measured.step, measured.wait, measured.plan.ahead) == (11.0, 6.0, 0.5)
    predicted = measured.predict(found, steps=20, seed=0)
    assert (predicted.step, predicted.wait) == pytest.approx((11.0, 6.0), rel=1e-6)


def test_separate_engines_that_nobody_waits_for_do_not_say_how_fast_they_are(tmp_path):
    times = {"gen": 0.1, "old_log_prob": 1.0, "update_actor": 3.0, "update_weights": 0.5, "step": 5.0}
    with pytest.raises(ClickException, match="hardly wait for rollouts"):
        measure(run_folder(tmp_path, times, "separate_async"))


def test_separate_engines_that_are_waited_for_write_all_the_step(tmp_path):
    times = {"gen": 3.0, "old_log_prob": 1.0, "update_actor": 3.0, "update_weights": 0.5, "step": 8.0}
    measured = measure(run_folder(tmp_path, times, "separate_async"))
    assert (measured.plan.trainers, measured.plan.rollouts) == (1, 1)
    assert measured.calibration.costs.decode_each == pytest.approx((8.0 - 0.5) / 200)


def test_a_folder_without_a_run_is_told(tmp_path):
    result = CliRunner().invoke(main, ["--calibrate", str(tmp_path)])
    assert result.exit_code == 1 and str(tmp_path) in result.output


# The command


def test_the_command_says_what_it_assumes_and_where_the_batch_does_not_divide():
    result = CliRunner().invoke(main, ["-n", "1", "-n", "4", "--steps", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "nothing was measured on a GPU" in result.output and "3,120 + 16" in result.output
    assert "verl stops unless actor.ppo_mini_batch_size is set to an eighth of that sum" in " ".join(
        result.output.split()
    )


def test_own_times_take_the_place_of_assumptions():
    given = ["--training-seconds", "390", "--rollout-tokens-per-second", "2000", "--sync-seconds", "7", "--slots", "64"]
    result = CliRunner().invoke(main, ["-n", "1", "--steps", "1", *given, "--responses", "100", "0.1", "0"])
    assert result.exit_code == 0
    assert "train        1" in result.output and "sync         7" in result.output  # 390 s x 8 GPUs / 3,120 sequences
    assert "writes 2,000 tokens/s; responses have 10" in result.output


@pytest.mark.parametrize(
    "wrong",
    [
        "--slots 0",
        "--steps 0",
        "--training-seconds -5",
        "--rollout-tokens-per-second 0",
        "--responses 100 0.5 2",
        "--nodes 0",
    ],
)
def test_numbers_that_cannot_be_are_refused(wrong):
    result = CliRunner().invoke(main, wrong.split())
    assert result.exit_code == 2 and "is not in the range" in result.output
