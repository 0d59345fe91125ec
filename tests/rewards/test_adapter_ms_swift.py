"""The plug-in in ms-swift itself: its loader of plug-in files, its table of rewards, its scoring of a batch.

ms-swift's dependencies do not agree with verl's (it wants trl below 1.0), so its wheel and the few packages that this part
of it imports are installed beside the environment, for a process of their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples/ms_swift_plugin.py"
WHEELS = ["ms-swift==4.6.0", "modelscope==1.40.2", "modelscope-hub==0.5.1", "json-repair==0.64.5", "dacite==1.9.2"]

SCORING = """
import json, sys
import torch
from swift.rl_core.data import GRPOSample
from swift.rl_core.grpo_algorithm import score_completions
from swift.rlhf_trainers.utils import resolve_reward_funcs
from swift.utils.utils import import_external_file

import_external_file(sys.argv[1])
functions, names = resolve_reward_funcs(["sv6d", "sv6d_iou", "sv6d_similarity", "sv6d_failed"])
rows = [
    ("temporal_action_localization", '[{"start": 0, "end": 1}]', '[{"start": 0, "end": 2}]'),
    ("ocr_regular", "abc", "abd"),
    ("no_such_task", "a", "a"),
]
talk = lambda text: [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]
samples = [
    GRPOSample.from_row({"messages": talk(text), "task": task, "ground_truth": truth}) for task, text, truth in rows
]
rewards = score_completions(samples, functions, [None] * 4, use_gym_env=False, device=torch.device("cpu"))
print(json.dumps({"names": names, "rewards": rewards.tolist()}))
"""


@pytest.mark.slow
def test_ms_swift_scores_a_batch_with_the_plug_in(tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path]
    subprocess.run([*pip, *WHEELS], check=True, timeout=300)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", SCORING, PLUGIN], capture_output=True, text=True, timeout=300, env=environment
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout.splitlines()[-1])
    assert said["names"] == ["sv6d", "sv6d_iou", "sv6d_similarity", "sv6d_failed"]
    values = [[None if value != value else round(value, 4) for value in row] for row in said["rewards"]]
    # 0.2 + 0.8 x 1/2; two letters of three; a task that does not exist is flagged, and earns 0
    assert values == [[0.6, 0.5, None, 0.0], [0.6667, None, 0.6667, 0.0], [0.0, None, None, 1.0]]
