"""The adapter in a real verifiers environment, whose model is a local HTTP server that answers as told."""

import asyncio
import importlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import isnan
from pathlib import Path
from threading import Thread

import pytest
from openai import AsyncOpenAI
from sv6d.rewards import COMPONENTS
from sv6d.rewards.adapters.verifiers import rubric

EXAMPLES = Path(__file__).parents[2] / "examples"
ANSWERS = {
    "Find the cat.": '[{"start": 2, "end": 3.5}]',
    "Read.": "red bal",
    "Why?": "<think>Because.</think><answer>B</answer>",
    "Nonsense?": "x",
}
ROWS = [
    {
        "question": "Find the cat.",
        "answer": '[{"start": 2, "end": 5}]',
        "info": {"task": "temporal_action_localization"},
    },
    {"question": "Read.", "answer": "red ball", "info": {"task": "ocr_regular"}},
    {"question": "Why?", "answer": "B", "info": {"task": "visual_reasoning"}},
    {"question": "Nonsense?", "answer": "x", "info": {"task": "no_such_task"}},
]


class Model(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = {"role": "assistant", "content": ANSWERS[asked["messages"][-1]["content"]]}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def client():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    Thread(target=server.serve_forever, daemon=True).start()
    yield AsyncOpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
    server.shutdown()


@pytest.fixture
def load_environment(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("verifiers_env").load_environment


def evaluated(environment, client):
    results = environment.evaluate_sync(client, "m", num_examples=-1, rollouts_per_example=2)
    return {output["info"]["task"]: output for output in results["outputs"]}


def test_an_environment_scores_with_every_component_as_a_metric(load_environment, client):
    outputs = evaluated(load_environment(ROWS), client)
    # IoU 1.5 of 3 seconds: 0.2 + 0.8 / 2; one letter of eight is missing
    rewards = {"temporal_action_localization": 0.6, "ocr_regular": 7 / 8, "visual_reasoning": 1.0, "no_such_task": 0.0}
    assert {task: output["reward"] for task, output in outputs.items()} == pytest.approx(rewards)
    assert set(outputs["ocr_regular"]["metrics"]) >= {"sv6d", *COMPONENTS} - {"score"}
    assert outputs["temporal_action_localization"]["metrics"]["iou"] == 0.5
    assert outputs["ocr_regular"]["metrics"]["similarity"] == 7 / 8
    assert {task: output["metrics"]["failed"] for task, output in outputs.items()} == {
        **dict.fromkeys(rewards, 0.0),
        "no_such_task": 1.0,
    }


def test_settings_reach_the_rewards(load_environment, client):
    outputs = evaluated(load_environment(ROWS, localization={"format": 0.0, "iou": 1.0}), client)
    assert outputs["temporal_action_localization"]["reward"] == 0.5


def test_one_rollout_alone_and_the_task_of_a_column():
    """As prime-rl scores: a state at a time; what does not apply is NaN in the state and 0 among the metrics."""
    state = {
        "prompt": "q",
        "completion": "ab",
        "answer": "ab",
        "task": "ocr",
        "info": {},
        "timing": {"scoring_ms": 0.0, "total_ms": 0.0},
    }
    asyncio.run(rubric().score_rollout(state))
    assert state["reward"] == 1.0 and state["metrics"]["iou"] == 0.0 and isnan(state["sv6d"]["iou"])
