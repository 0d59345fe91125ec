"""Rollout and actor see the same video: on a *trained* model their probabilities agree, and without the mend they do not.

A random model hides the bug, because nothing in its answer depends on the clip.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

JOB = Path(__file__).with_name("agreement_job.py")
BOUND = 1e-2  # on a token's probability, in fp32


@pytest.fixture(scope="module")
def agreement(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, str(JOB), str(tmp_path_factory.mktemp("tiny"))], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_the_model_has_learnt_to_read_the_clock(agreement):
    assert agreement["learnt"] > 0.5  # chance is .25


@pytest.mark.slow
def test_vllm_and_the_actor_agree(agreement):
    assert agreement["mended_same_prompt"]
    assert agreement["mended"] < BOUND and agreement["mended_log"] < BOUND


@pytest.mark.slow
def test_without_the_mend_they_do_not(agreement):
    assert not agreement["unmended_same_prompt"]
    assert agreement["unmended"] > 10 * BOUND
