"""The demo's tiny model: where its answers end."""

from sv6d.recipes.demo.model import build_tokenizer, closing_tokens

SEGMENTS = '{"segments":[{"start":0.0,"end":1.5},{"start":1.5,"end":4.0}]}'
THOUGHT = "<think>red then blue</think><answer>B</answer>"


def test_generation_ends_where_a_structured_answer_closes_and_nowhere_before():
    question = [{"role": "user", "content": "What is seen?"}]
    answers = [SEGMENTS, THOUGHT, "SCAN"]
    tokenizer = build_tokenizer((question, answer) for answer in answers)
    closing = closing_tokens(tokenizer, answers)
    assert {tokenizer.decode(token) for token in closing} == {"}]}", "</answer>"}
    for answer in (SEGMENTS, THOUGHT):
        assert [token in closing for token in tokenizer(answer).input_ids].index(True) == len(
            tokenizer(answer).input_ids
        ) - 1
    assert not closing & set(tokenizer("SCAN").input_ids)
