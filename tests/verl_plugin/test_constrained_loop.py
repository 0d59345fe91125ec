"""The agent loop of constrained rollouts: which constraint a row gets, and that an interrupted answer begins anew."""

import asyncio
import json

import pytest
from omegaconf import OmegaConf
from sv6d.schema.answer_schema import LimitError
from sv6d.verl_plugin.rollouts.constrained import ConstrainedAgentLoop, WholeAnswers, read_settings, row_constraint
from verl.experimental.agent_loop import agent_loop, single_turn_agent_loop
from verl.workers.rollout.llm_server import FullyAsyncLLMServerClient, LLMServerClient
from verl.workers.rollout.replica import TokenOutput


def configuration(name="vllm", reward_kwargs=None, **answers):
    rollout = {"name": name, "custom": {"answers": answers} if answers else None}
    return OmegaConf.create({"actor_rollout_ref": {"rollout": rollout}, "reward": {"reward_kwargs": reward_kwargs}})


def accepts(found, text):
    import xgrammar

    vocabulary = xgrammar.TokenizerInfo([bytes([i]) for i in range(256)] + [b"<end>"], stop_token_ids=[256])
    compiler = xgrammar.GrammarCompiler(vocabulary)
    grammar = (
        compiler.compile_grammar(found["grammar"]) if "grammar" in found else compiler.compile_regex(found["regex"])
    )
    matcher = xgrammar.GrammarMatcher(grammar)
    return matcher.accept_string(text) and matcher.accept_token(256)


def shots(*times, size="close-up", separators=(",", ":")):
    labels = {"camera_language": {"shot_size": size}}
    segments = [{"start": start, "end": end, "labels": labels} for start, end in times]
    return json.dumps({"segments": segments}, separators=separators)


def test_verl_finds_the_loop_by_its_name():
    assert agent_loop._agent_loop_registry["sv6d_constrained"] == {
        "_target_": "sv6d.verl_plugin.rollouts.constrained.ConstrainedAgentLoop"
    }


def test_json_is_written_as_the_prompt_shows_it():
    found = row_constraint(configuration(max_segments=2), "shot_framing")
    assert accepts(found, shots((0.0, 1.5), (1.5, 2.0)))
    assert not accepts(found, shots((0.0, 1.5), separators=(", ", ": "))), "no white space"
    assert not accepts(found, shots((0, 1), (1, 2), (2, 3))), "more segments than the limit"
    assert not accepts(found, shots((0.0, 1.5), size="a close shot")), "no tag of the taxonomy"


def test_a_step_takes_the_duration_of_the_row():
    config = configuration(step=0.5)
    found = row_constraint(config, "shot_framing", {"duration": 12.0})
    assert accepts(found, shots((0.2, 12.0))) and accepts(found, shots((3.0, 20.0))), "12 s is rounded up to 20 s"
    assert not accepts(found, shots((3.0, 1.0))) and not accepts(found, shots((3.0, 20.5)))
    for unknown in (None, float("nan")):
        found = row_constraint(config, "shot_framing", {"duration": unknown})
        assert accepts(found, shots((3.0, 1.0))), "a row without a duration has no cells"


def test_thoughts_have_their_form_and_transcriptions_are_free():
    assert accepts(row_constraint(configuration(), "visual_reasoning"), "<think>a</think><answer>B</answer>")
    assert row_constraint(configuration(), "ocr_regular") == {}


def test_a_task_of_another_package_is_not_constrained_and_that_is_said(caplog):
    assert row_constraint(configuration(), "counting_sheep") == {}
    assert "'counting_sheep' is none of our tasks" in caplog.text


def test_the_taxonomy_is_that_of_the_rewards(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text(
        "dimensions: {camera_language: {index: 1, sub_dimensions: {camera_movement: {metric: ordinal,"
        " labels: [{name: still, rank: 0}, {name: moving, rank: 1}]}}}}\n"
    )
    found = row_constraint(configuration(reward_kwargs={"taxonomy": str(path)}), "camera_movement")
    assert "moving" in found["grammar"]
    assert "crane" not in found["grammar"]
    elsewhere = configuration()
    elsewhere.reward.custom_reward_function = {"reward_kwargs": {"taxonomy": str(path)}}
    assert row_constraint(elsewhere, "camera_movement") == found


def test_a_wrong_setting_says_so():
    with pytest.raises(LimitError, match="did you mean 'max_segments'"):
        read_settings(configuration(max_segment=3))
    with pytest.raises(LimitError, match="use vllm"):
        read_settings(configuration(name="sglang"))


def test_the_turn_is_verls_own_with_one_more_sampling_parameter(monkeypatch):
    seen = []

    async def turn(self, sampling_params, **kwargs):
        seen.append((sampling_params, kwargs))

    monkeypatch.setattr(single_turn_agent_loop.SingleTurnAgentLoop, "run", turn)
    loop = object.__new__(ConstrainedAgentLoop)
    loop.config = configuration()
    shared = {"temperature": 1.0}
    for task in ("shot_framing", "ocr_regular"):
        asyncio.run(loop.run(shared, data_source=task, extra_info={}, raw_prompt=[]))
    (grounding, row), (free, _) = seen
    assert grounding["structured_outputs"].grammar.startswith("root ::=") and grounding["temperature"] == 1.0
    assert row == {"data_source": "shot_framing", "extra_info": {}, "raw_prompt": []}
    assert free == shared == {"temperature": 1.0}, "the other rollouts' parameters are left alone"


class Interrupted:
    """A server that is interrupted once, after two tokens."""

    def __init__(self):
        self.asked = []

    async def generate(self, request_id, *, prompt_ids, sampling_params, **kwargs):
        self.asked.append((list(prompt_ids), dict(sampling_params)))
        if len(self.asked) == 1:
            return TokenOutput(token_ids=[7, 8], stop_reason="aborted", extra_fields={"global_steps": 0})
        return TokenOutput(token_ids=[7, 8, 9], stop_reason="completed", extra_fields={"global_steps": 1})


def interrupted_client(monkeypatch):
    server = Interrupted()

    async def generate(self, request_id, **kwargs):
        return await server.generate(request_id, **kwargs)

    async def no_wait(seconds):
        return None

    monkeypatch.setattr(LLMServerClient, "generate", generate)
    monkeypatch.setattr("sv6d.verl_plugin.rollouts.constrained.asyncio.sleep", no_wait)
    client = object.__new__(FullyAsyncLLMServerClient)
    client.config = OmegaConf.create({})
    return server, WholeAnswers(client)


def test_an_interrupted_constrained_answer_begins_anew(monkeypatch):
    """verl would ask for the rest with the prompt 1, 2, 7, 8, and its grammar would start over there."""
    server, client = interrupted_client(monkeypatch)
    params = {"structured_outputs": "a grammar", "max_tokens": 5}
    output = asyncio.run(client.generate("r", prompt_ids=[1, 2], sampling_params=params))
    assert [asked[0] for asked in server.asked] == [[1, 2], [1, 2]]
    assert [asked[1]["max_tokens"] for asked in server.asked] == [5, 5]
    assert output.token_ids == [7, 8, 9]


def test_a_free_answer_is_continued_as_verl_does(monkeypatch):
    server, client = interrupted_client(monkeypatch)
    asyncio.run(client.generate("r", prompt_ids=[1, 2], sampling_params={"max_tokens": 5}))
    assert [asked[0] for asked in server.asked] == [[1, 2], [1, 2, 7, 8]]
