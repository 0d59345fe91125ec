"""No strategy beats an honest answer in the default mode; the strategies are those of `benchmarks/incentives.py`."""

import runpy
from pathlib import Path

import pytest
from sv6d.rewards import RewardConfig

INCENTIVES = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/incentives.py"))
HACKS, HONEST, NOISY, earned = (INCENTIVES[name] for name in ("HACKS", "HONEST", "NOISY", "earned"))
MODES = ("table4", "table4_matched", "literal")


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("name", HACKS)
def test_no_hack_beats_an_honest_answer_with_its_errors(name, gate):
    config = RewardConfig(overlap_gate=gate)
    assert earned(HACKS[name], config, videos=5) < earned(HONEST[NOISY], config, videos=5) - 0.05


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_perfect_answer_is_1_and_nothing_else_is(mode, gate):
    config = RewardConfig(mode=mode, overlap_gate=gate)
    assert earned(HONEST["perfect"], config, videos=3) == 1.0
    assert all(earned(strategy, config, videos=3) < 1.0 for strategy in (*HACKS.values(), HONEST[NOISY]))


def test_as_printed_eq_8_and_9_pay_for_leaving_shots_out():
    # which is why `table4_matched` is not the default
    config = RewardConfig(mode="table4_matched")
    assert earned(HACKS["five perfect shots of ten"], config) > earned(HONEST[NOISY], config)


def test_the_gate_takes_the_pay_from_labels_at_wrong_times():
    with_gate, without = (
        earned(HACKS["right labels at wrong times"], RewardConfig(overlap_gate=gate), videos=3)
        for gate in (True, False)
    )
    assert (with_gate, without) == (pytest.approx(0.2), pytest.approx(0.6)), "Format; and with Label"
