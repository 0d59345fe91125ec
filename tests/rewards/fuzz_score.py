"""A coverage-guided search for a response that breaks the rewards: python tests/rewards/fuzz_score.py [SECONDS]

Starts from the gold answers of all 13 tasks and changes them wherever that reaches new lines of sv6d.  It ends with an
error, and the response that caused it, on an exception, another key set, a value out of range, or a slow response.
"""

import json
import os
import sys
import tempfile
import time
from math import isfinite, isnan
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("the fuzz run needs atheris: pip install -e '.[fuzz]'")

with atheris.instrument_imports(include=["sv6d"]):
    from sv6d.rewards import COMPONENTS, score
    from sv6d.schema import TASKS, Taxonomy

SLOW = 0.25
"""Seconds of CPU: 50 ms on a free core, the rest for a crowded one and for the counting of lines."""

MARK = "\x1e"
LONGEST = 1_000_000
"""Characters of a repeated part."""

CONFIGS = [
    {"mode": mode, "overlap_gate": gate, "alpha": alpha, "beta": beta}
    for mode in ("table4", "table4_matched", "literal")
    for gate, alpha, beta in ((False, 0.5, 0.5), (True, 0.0, 3.0), (True, 1.0, 0.0))
]
WORDS = (
    r"\x1e <think> </think> <answer> </answer> ``` ```json\x0a [ ] { } segments start end labels null true NaN Infinity "
    r"1e999 -0 00:01:02.5 \\ud800 \\u0301 \\boxed{ 1/3"
)
"""What responses are made of, in the writing of libFuzzer's dictionaries."""

REPEATED = [
    *('{"segments": [], "x": ~[~', '[~{"start":0,"end":1},~{"start":0,"end":1}]', "a~ ~b", "a~\u0301\u0327~", "~```{~"),
    '[{"start":0,"end":1,"labels":{"camera_language":{"camera_movement":[~"roll",~"arc"]}}}]',
]
"""Seeds of long responses: what stands between two `~` is repeated."""


def rows() -> list[tuple[str, str, str]]:
    """Tasks, each with a ground truth and its gold answer."""
    taxonomy = Taxonomy.load()
    found = []
    for task in TASKS.values():
        if task.family == "ocr":
            found.append((task.id, "Zoë, 3 × 4 = 12 中文", "<answer>Zoe\u0308, 3 × 4 = 12 中文</answer>"))
        elif task.family == "chain_of_thought":
            found += [(task.id, truth, f"<think>so</think><answer>{truth}</answer>") for truth in ("B", "3/4")]
        else:
            truth = json.dumps({"segments": [segment(task, taxonomy, i) for i in range(3)]})
            found += [(task.id, truth, f"```json\n{truth}\n```"), (task.id, "[]", truth)]
    return found


def segment(task, taxonomy: Taxonomy, i: int) -> dict:
    labels: dict[str, dict] = {}
    for dimension, name in task.labels:
        sub = taxonomy.sub_dimension(dimension, name)
        tags = [sub.labels[(i + k) % len(sub.labels)] for k in range(3)]
        labels.setdefault(dimension, {})[name] = tags if sub.cardinality == "many" else tags[0]
    return {"start": 1.5 * i, "end": 1.5 * i + 2, "labels": labels}


ROWS = rows()


def one(data: bytes) -> None:
    """The first byte chooses the row, the second the settings, the third how often what stands between two `MARK`s is
    repeated; the rest is the response.
    """
    if len(data) < 3:
        return
    task, truth, _ = ROWS[data[0] % len(ROWS)]
    config = CONFIGS[data[1] % len(CONFIGS)]
    head, _, rest = data[3:].decode("utf-8", "surrogateescape").partition(MARK)
    unit, _, tail = rest.partition(MARK)
    response = head + unit * min(4 ** (data[2] % 11), LONGEST // max(1, len(unit))) + tail
    began = time.thread_time()
    value, components = score(task, response, truth, config=config)
    taken = time.thread_time() - began
    assert tuple(components) == COMPONENTS, components
    assert value == components["score"] and isfinite(value), components
    for key, component in components.items():
        top = float("inf") if key in ("n_pred", "n_true") else 1.0
        assert isnan(component) or 0.0 <= component <= top, (key, component)
    assert taken < SLOW, f"{taken:.3f} s for {len(response)} characters"


def seeds(folder: Path) -> None:
    """The gold answers under all settings, and the words from which responses are made."""
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, (_, _, gold) in enumerate(ROWS):
        for j in range(len(CONFIGS)):
            (corpus / f"{i}-{j}").write_bytes(bytes([i, j, 0]) + gold.encode())
        for k, part in enumerate(REPEATED):
            (corpus / f"{i}-times-{k}").write_bytes(bytes([i, 0, 8]) + part.replace("~", MARK).encode())
    (folder / "words").write_text("".join('"' + word.replace('"', '\\"') + '"\n' for word in WORDS.split()))


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as folder:
        seeds(Path(folder))
        limits = [f"-max_total_time={seconds}", "-max_len=16384", "-timeout=10", "-rss_limit_mb=4096"]
        found = [f"-artifact_prefix={tempfile.gettempdir()}/", "-print_final_stats=1", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *limits, *found, f"-dict={folder}/words", f"{folder}/corpus"], one)
        if os.fork():  # the fuzzer ends its own process, and the folder is to be tidied away
            sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
