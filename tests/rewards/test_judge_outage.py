"""A judge that goes away in the middle of a run and comes back: nothing ends, every sample has a score, and each failure is counted.

The endpoint is a real HTTP server that is closed and opened again at the same port; the judge is asked as reward workers ask it.
"""

from contextlib import contextmanager

import pytest
from judge_server import grades, serve
from sv6d.rewards import score
from sv6d.rewards.judging import EndpointJudge, JudgeConfig

PATIENCE = {"attempts": 2, "backoff_seconds": 0.01, "request_seconds": 5, "total_seconds": 10}


@contextmanager
def judge_at(url, **settings):
    judge = EndpointJudge(JudgeConfig(url=url, model="m", **PATIENCE, **settings))
    try:
        yield judge
    finally:
        judge.close()


def rewards(judge, number):
    """Scores and flags of a step's rollouts: a true answer in the right form each, with thoughts of its own."""
    found = [
        score(
            "visual_reasoning",
            f"<think>{number} {i}</think><answer>a red car {number} {i}</answer>",
            "a car",
            judge=judge,
        )
        for i in range(6)
    ]
    return [result.value for result in found], [result.components["failed"] for result in found]


@pytest.mark.parametrize(("fallback", "worth"), [("zero", 0.0), ("exact", 0.0), ("mask", None)])
def test_it_is_missed_by_its_fallback_counted_and_asked_again_when_it_is_back(fallback, worth):
    """Format is worth 0.3 and the judge 0.7 (Table 4). The rule judge, which `exact` asks, knows no car 1 of 6."""
    with serve(grades(1.0)) as server:
        port, url = server.server_port, server.url
        with judge_at(url, fallback=fallback, max_failure_rate=0.5) as judge:
            assert rewards(judge, 1) == ([pytest.approx(1.0)] * 6, [0.0] * 6)
            server.shutdown()
            server.server_close()
            away = rewards(judge, 2)
            assert away == ([pytest.approx(0.3 if worth is not None else 0.0)] * 6, [1.0] * 6)
            with serve(grades(1.0), port=port):
                assert rewards(judge, 3) == ([pytest.approx(1.0)] * 6, [0.0] * 6)
            assert judge.health.counts == (18, 6, None)  # asked, failed, and no reason to stop
