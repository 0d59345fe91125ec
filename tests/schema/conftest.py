"""Shared by the tests of constrained answers: everything that a schema of ours allows, and what xgrammar makes of a constraint."""

import pytest
from hypothesis import strategies as st


def _answers(schema, root, decimals):
    if "$ref" in schema:
        return _answers(root["$defs"][schema["$ref"].rpartition("/")[2]], root, decimals)
    if "anyOf" in schema:
        return st.one_of([_answers(one, root, decimals) for one in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "number":
        return _numbers(schema["minimum"], schema["maximum"], decimals)
    if schema["type"] == "array":
        rest = st.lists(_answers(schema["items"], root, decimals), max_size=min(3, schema.get("maxItems", 3) - 1))
        if "prefixItems" in schema:
            first = _answers(schema["prefixItems"][0], root, decimals)
            return st.tuples(first, rest).map(lambda parts: [parts[0], *parts[1]])
        return rest.filter(lambda items: len(items) >= schema.get("minItems", 0))
    fields = {name: _answers(value, root, decimals) for name, value in schema["properties"].items()}
    required = {name: fields.pop(name) for name in schema["required"]}
    objects = st.fixed_dictionaries(required, optional=fields).map(
        lambda value: {name: value[name] for name in schema["properties"] if name in value}
    )
    return objects.filter(lambda value: len(value) >= schema.get("minProperties", 0))


def _numbers(low, high, decimals):
    if decimals:
        return st.integers(round(1000 * low), round(1000 * high)).map(
            lambda n: n // 1000 if n % 1000 == 0 else n / 1000
        )
    return st.floats(low, high) | st.integers(0, int(high)).filter(lambda n: n >= low)


@pytest.fixture(scope="session")
def answers():
    """`answers(schema)`: a strategy of what is valid under it; `decimals=True`: times with three decimals at most."""
    return lambda schema, decimals=False: _answers(schema, schema, decimals)


@pytest.fixture(scope="session")
def accepts():
    """`accepts(constraint, text)`: whether the compiled constraint allows the text, from beginning to end."""
    import json

    import xgrammar

    end = 256
    vocabulary = xgrammar.TokenizerInfo([bytes([i]) for i in range(256)] + [b"<end>"], stop_token_ids=[end])
    compiler = xgrammar.GrammarCompiler(vocabulary)

    def accepts(found, text):
        if "json" in found:
            grammar = compiler.compile_json_schema(json.dumps(found["json"]))
        elif "regex" in found:
            grammar = compiler.compile_regex(found["regex"])
        else:
            grammar = compiler.compile_grammar(found["grammar"])
        matcher = xgrammar.GrammarMatcher(grammar)
        return matcher.accept_string(text) and matcher.accept_token(end)

    return accepts
