"""The rule judge on mathematics: equal in another notation, and nothing that hostile or cunning text can gain."""

import asyncio

import pytest
from sv6d.rewards import limits
from sv6d.rewards.judging import maths
from sv6d.rewards.judging.rules import quick_verdict, rule_judge, rule_judge_async
from sv6d.schema.answer import says_something


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("\\frac{1}{2}", "0.5"),
        ("$\\boxed{\\frac{3}{4}}$", "3/4"),
        ("x^2 + 2x + 1", "(x+1)^2"),
        ("x = 2", "2"),
        ("\\sqrt{4}", "2"),
        ("5 > x", "x < 5"),
        ("2\\pi.", "\\pi \\cdot 2"),
        ("\\{2, 1\\}", "\\{1, 2\\}"),
    ],
)
def test_the_same_in_another_notation(answer, truth):
    assert quick_verdict(answer, truth) is None and rule_judge(answer, truth) == 1.0


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("\\frac{1}{3}", "0.5"),
        ("x > 5", "x < 5"),
        ("[0, 1)", "[0, 1]"),
        ("(2, 1)", "(1, 2)"),
        ("1, 2", "2"),  # several answers are none
        ("2\\cdot", "\\frac{2}{"),
    ],
)
def test_different_mathematics(answer, truth):
    assert rule_judge(answer, truth) == 0.0


@pytest.mark.parametrize(
    ("answer", "truth"),
    [
        ("2 = 3", "3"),  # math-verify takes these
        ("1 or 2", "2"),
        ("1 \\lor 2", "2"),
        ("1 2", "3"),
        ("5 cm", "5"),
        ("the answer is \\frac{1}{2}", "0.5"),
        ("50%", "50"),
        ("4", "3"),  # two numbers need no mathematics
        ("a blue car", "a red car"),
        ("A", "B"),
        ("x" * 10**6, "x^2"),
        ("(" * 200 + "1" + ")" * 200, "x^2"),
    ],
)
def test_what_the_cheap_rules_decide_never_starts_a_process(answer, truth, monkeypatch):
    monkeypatch.setattr(limits, "run", None)
    assert rule_judge(answer, truth) == 0.0


@pytest.mark.parametrize("answer", ["(x+1)^{5000}", "\\sin(10^{10^{8}})"])
def test_an_expression_that_takes_too_long_is_ended_and_wrong(answer, monkeypatch):
    monkeypatch.setattr(maths, "SECONDS", 0.3)
    assert quick_verdict(answer, "(x+2)^{5000}") is None
    assert rule_judge(answer, "(x+2)^{5000}") == 0.0
    assert rule_judge("\\frac{1}{2}", "0.5") in (0.0, 1.0)  # a fresh process may need longer than this test's limit


def test_awaited_it_says_the_same():
    assert asyncio.run(rule_judge_async("\\frac{1}{2}", "0.5")) == 1.0
    assert asyncio.run(rule_judge_async("B", "b")) == 1.0


def test_without_the_library_mathematics_is_compared_as_text(monkeypatch):
    monkeypatch.setattr(maths, "_installed", lambda: False)
    assert rule_judge("\\frac{1}{2}", "0.5") == 0.0 and rule_judge("\\frac{1}{2}", "\\frac{1}{2}") == 1.0


@pytest.mark.parametrize(
    ("text", "says"),
    [("∞", True), ("→", True), ("7", True), ("好", True), ("...", False), ("$ $", False), ("、。", False)],
)
def test_punctuation_says_nothing(text, says):
    assert says_something(text) == says
