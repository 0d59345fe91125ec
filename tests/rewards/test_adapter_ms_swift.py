"""The plug-in in ms-swift itself: `swift rlhf` trains a tiny model on the rewards for two steps.

ms-swift's dependencies do not agree with the rest (it wants trl below 1.0), so its wheel and the few packages that it needs
in other versions are installed beside the environment, for a process of their own.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sv6d.rewards import score

EXAMPLES = Path(__file__).parents[2] / "examples"
WHEELS = ["ms-swift==4.6.0", "trl==0.29.1", "datasets==4.8.4", "peft==0.20.0", "dacite==1.9.2", "json-repair==0.64.5"]
WHEELS += ["modelscope==1.40.2", "modelscope-hub==0.5.1"]
LETTERS = "".join(map(chr, range(32, 127)))


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    network, tokenizer = importlib.import_module("mixture_with_trl").tiny_model()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    for part in (network, tokenizer):
        part.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_ms_swift_trains_on_the_rewards_and_logs_their_components(tmp_path, model):
    """Two rows, one a step: a text, and a task that does not exist, which is flagged and ends nothing."""
    rows = [
        {"messages": [{"role": "user", "content": task}], "task": task, "ground_truth": LETTERS}
        for task in ("ocr_regular", "no_such_task")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "site"]
    subprocess.run([*pip, *WHEELS], check=True, timeout=300)
    options = {
        "rlhf_type": "grpo",
        "model": model,
        "model_type": "llama",
        "template": "dummy",
        "check_model": "false",
        "dataset": tmp_path / "rows.jsonl",
        "external_plugins": EXAMPLES / "ms_swift_plugin.py",
        "use_vllm": "false",
        "use_cpu": "true",
        "torch_dtype": "float32",
        "tuner_type": "full",
        "max_steps": 2,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "max_completion_length": 16,
        "logging_steps": 1,
        "log_completions": "true",
        "report_to": "none",
        "save_strategy": "no",
        "output_dir": tmp_path / "run",
    }
    command = [sys.executable, "-m", "swift.cli.rlhf"]
    command += [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    command += ["--reward_funcs", "sv6d", "sv6d_similarity", "sv6d_failed", "--reward_weights", "1", "0", "0"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]

    (folder,) = (tmp_path / "run").iterdir()
    steps = [json.loads(line) for line in (folder / "logging.jsonl").read_text().splitlines()]
    text, bad = sorted((s for s in steps if "reward" in s), key=lambda step: step["rewards/sv6d_failed/mean"])
    assert text["reward"] == pytest.approx(text["rewards/sv6d_similarity/mean"]) and text["reward"] > 0
    assert (bad["reward"], bad["rewards/sv6d_failed/mean"]) == (0.0, 1.0)
    assert "rewards/sv6d_similarity/mean" not in bad  # it does not apply
    for line in (folder / "completions.jsonl").read_text().splitlines():
        table = json.loads(line)
        if table["sv6d_failed"] == [0.0, 0.0]:
            values = [score("ocr_regular", completion, LETTERS).value for completion in table["completion"]]
            assert table["sv6d"] == pytest.approx(values)
