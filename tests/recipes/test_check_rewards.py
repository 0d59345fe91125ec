"""Reward settings, gold answers, and a judge behind a real HTTP server."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from preflight import example, findings, only, subject, write_task
from sv6d import schema
from sv6d.recipes.checking.rewards import gold_answers, judge, settings


def of(folder="D", *more, **options):
    return subject("cpu_demo", f"sv6d.data={folder}", *more, **options)


@pytest.fixture
def data(tmp_path):
    write_task(tmp_path, [example() for _ in range(4)])
    write_task(tmp_path, [example("ocr_regular", "a.png", text) for text in ("Exit", "")])
    write_task(tmp_path, [example("visual_reasoning", "a.png", "B", query="Which?")])
    return tmp_path


def test_gold_answers_of_every_family_earn_one(data):
    assert only(gold_answers, of(data)) == ("note", "the true answers of 7 sampled rows earn 1.0")


def test_a_true_answer_that_the_rewards_taxonomy_does_not_know_is_an_error(data, tmp_path):
    """The rows were checked against one taxonomy (data.mixture.taxonomy), and are paid by another."""
    packaged = Path(schema.__file__).with_name("taxonomy.yaml").read_text()
    (tmp_path / "other.yaml").write_text(packaged.replace("medium shot", "middling shot"))
    level, text = only(gold_answers, of(data, f"reward.reward_kwargs.taxonomy={tmp_path / 'other.yaml'}"))
    assert level == "error" and "in 4 of 4 sampled rows of shot_framing" in text
    assert "cannot be scored" in text and "'medium shot' is no canonical tag" in text


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("reward.reward_kwargs.alhpa=0.5", "unknown setting 'alhpa'"),
        ("reward.reward_kwargs.grounding={format: 0.5, iou: 0.4, label: 0.4}", "they must sum to 1"),
        ("reward.reward_kwargs.judge.url=ftp://x", "begin with http"),
        ("reward.reward_kwargs.taxonomy=nowhere", "neither a file nor the name of a plug-in"),
    ],
)
def test_settings_that_the_manager_would_refuse_are_errors(setting, said):
    level, text = only(settings, of("D", setting))
    assert level == "error" and text.startswith("reward.reward_kwargs: ") and said in text


def test_a_judge_that_verl_serves_and_would_not_ask_is_an_error():
    level, text = only(settings, of("D", "reward.reward_model.enable=true"))
    assert level == "error" and "reward.custom_reward_function.path=pkg://sv6d.rewards.verl_manager" in text


def test_masking_takes_our_trainers():
    level, text = only(settings, of("D", "reward.reward_kwargs.judge.fallback=mask", "trainer.v1.trainer_mode=sync"))
    assert level == "error" and "set it to sv6d_sync, or judge.fallback=exact" in text


def test_good_settings_are_silent_and_another_manager_is_not_judged():
    assert findings(settings, of("D", "reward.reward_kwargs.alpha=0.7")) == []
    assert only(settings, of("D", "reward.reward_manager.name=naive"))[0] == "note"


def completion(content: str) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


@contextmanager
def endpoint(models=("judge-7b",), content='{"score": 1.0}', status=200):
    """An OpenAI-compatible endpoint that lists `models` and answers every question with `content`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply({"data": [{"id": model} for model in models]})

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(completion(content))

        def reply(self, body):
            body = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def judged(data, url, model="judge-7b"):
    return only(judge, of(data, f"reward.reward_kwargs.judge.url={url}", f"reward.reward_kwargs.judge.model={model}"))


def test_a_judge_that_serves_the_model_and_grades_a_true_answer_best(data):
    with endpoint() as url:
        assert judged(data, url) == ("note", f"the judge judge-7b at {url} gives a true answer the best grade")


def test_a_judge_that_serves_another_model_is_named_with_what_it_serves(data):
    with endpoint(models=("judge-70b", "other")) as url:
        level, text = judged(data, url)
    assert level == "error" and "serves judge-70b, other, and not 'judge-7b'" in text


def test_a_judge_that_is_not_there_is_an_error(data):
    with endpoint() as url:
        pass  # closed again: nobody listens at this port
    level, text = judged(data, url)
    assert level == "error" and f"cannot be reached at {url}/models" in text and "refused" in text


def test_a_judge_that_refuses_the_key_names_its_variable(data):
    with endpoint(status=401) as url:
        level, text = judged(data, url)
    assert level == "error" and "refuses the key in OPENAI_API_KEY (401)" in text


def test_a_judge_that_gives_no_verdict_is_an_error_with_its_fault(data):
    with endpoint(content="I would say it is fine.") as url:
        level, text = judged(data, url)
    assert level == "error" and "gave no verdict: VerdictError" in text


def test_a_judge_that_grades_a_true_answer_low_is_a_warning(data):
    with endpoint(content='{"score": 0.25}') as url:
        level, text = judged(data, url)
    assert level == "warning" and "gives the true answer 'B' a grade of 0.25 of 1" in text


def test_rules_need_no_endpoint_and_a_judge_without_an_address_is_an_error():
    assert only(judge, of()) == ("note", "reasoning is judged by rules: no model is asked")
    level, text = only(judge, of("D", "reward.reward_kwargs.judge.model=m"))
    assert level == "error" and "has no url" in text
