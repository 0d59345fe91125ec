"""docs/rewards.md says what the code does: worked examples, the table of hacks, settings with their defaults, bounds, links."""

import json
import re
import runpy
from dataclasses import astuple, fields, is_dataclass
from pathlib import Path

import pytest
from sv6d.rewards import RewardConfig, labels, matching, ocr, score
from sv6d.rewards.judging.config import JudgeConfig
from sv6d.rewards.judging.rules import MAX_LENGTH
from sv6d.schema import Taxonomy, answer, marks, taxonomy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
BY_HAND = dict(re.findall(r"^\d+\. \*(.+?)\.\* (.+?)(?=^\d+\. |^#|\Z)", PAGE.partition("\n## By hand")[2], re.M | re.S))


def segments(*parts):
    """(start, end, {sub-dimension of camera language: tag}) -> the text of an answer."""
    listed = [{"start": start, "end": end, "labels": {"camera_language": tags}} for start, end, tags in parts]
    return json.dumps({"segments": listed})


def says(example, *figures):
    """The page's example prints each figure."""
    for figure in figures:
        assert figure in BY_HAND[example], f"{example}: {figure}"


def test_one_segment():
    truth = segments((0, 5, {"shot_size": "medium shot"}))
    result = score("shot_framing", segments((0, 4, {"shot_size": "medium close-up"})), truth)
    assert result.components["iou"] == pytest.approx(4 / 5)
    assert result.components["label"] == pytest.approx(1 - 1 / 6)
    assert result.value == pytest.approx(0.2 + 0.4 * 0.8 + 0.4 * 5 / 6) == pytest.approx(0.8533, abs=5e-5)
    says("One segment", "IoU = 4/5", "1 - 1/6", "0.8533")


def test_the_first_code_block_runs_and_says_what_it_gives():
    block = re.search(r"```python\n(.+?)```", PAGE, re.S)[1]
    lines = block.splitlines()
    names = {}
    exec("\n".join(line for line in lines if not line.startswith("score(")), names)
    value = eval(next(line for line in lines if line.startswith("score(") and ".value" in line), names)
    assert f"# {value:.4f}" in block
    components = eval(next(line for line in lines if ".components" in line), names)
    assert f"iou {components['iou']:.1f}, label {components['label']:.4f}, format {components['format']:.1f}" in block


def test_one_shot_of_ten():
    ten = [(i, i + 1, {"shot_size": "close-up"}) for i in range(10)]
    one, all_ten = segments(ten[4]), segments(*ten)
    assert score("shot_framing", one, all_ten).value == pytest.approx(0.2 + 0.04 + 0.04)
    printed = {"mode": "table4_matched", "beta": 0.5}
    assert score("shot_framing", one, all_ten, config=printed).value == pytest.approx(0.82)
    assert score("shot_framing", one, all_ten, config=printed | {"beta": 0.0}).value == 1.0
    says("One shot of ten", "0.28", "0.82 at beta = 0.5", "1 at beta = 0")


def test_several_tags():
    def d(a, b):
        return Taxonomy.load().distance("camera_language", "camera_movement", a, b)

    assert (d("roll", "roll"), d("smooth tracking", "push in")) == (0, 1 / 4)
    truth = segments((0, 5, {"camera_movement": ["push in", "roll"]}))
    answer = segments((0, 5, {"camera_movement": ["roll", "smooth tracking"]}))
    assert score("camera_movement", answer, truth).components["label"] == pytest.approx(1 - 1 / 8)
    says("Several tags", "(0 + 1/4) / 2 = 1/8")


def test_form():
    truth = segments((0, 5, {"shot_size": "close-up"}))
    components = score("shot_framing", '{"segments": [{"start": "0", "end": 5}]}', truth).components
    assert (components["r_form"], components["r_comp"], components["r_prof"]) == (0.5, 1.0, 0.0)
    assert components["format"] == pytest.approx(0.5)
    says("Form", "2 of 4 checks", "R_form = 0.5", "(0 + 1 + 0.5) / 3 = 0.5")


def test_weights():
    """Camera language is half wrong, editing right."""
    labels = {"camera_language": {"shot_size": "medium shot"}, "editing": {"transition_type": "hard cut"}}
    said = json.loads(json.dumps(labels).replace("medium shot", "extreme close-up"))
    truth, answer = (json.dumps([{"start": 0, "end": 5, "labels": one}]) for one in (labels, said))
    weights = {"dimension_weights": {"camera_language": 3, "editing": 1}}
    assert score("temporal_grounding", answer, truth).components["label"] == pytest.approx(0.75)
    assert score("temporal_grounding", answer, truth, config=weights).components["label"] == pytest.approx(0.625)
    says("Weights", "0.75", "0.625")


def test_transcription():
    """`cat` for `cart`: one letter of four is missing."""
    assert score("ocr_regular", "cat", "cart").value == 0.75
    says("Transcription", "1 - 1/4 = 0.75")


def test_thought():
    assert score("visual_reasoning", "<think>Two wheels.</think><answer>(B)</answer>", "B").value == 1.0
    assert score("visual_reasoning", "(B)", "B").value == pytest.approx(0.7)
    assert score("visual_reasoning", "<think>Two wheels.</think><answer>C</answer>", "B").value == pytest.approx(0.3)
    says("Thought", "0.3 + 0.7 = 1", "0.7", "0.3")


def test_every_example_of_the_page_is_here():
    tested = {"One segment", "One shot of ten", "Several tags", "Form", "Weights", "Transcription", "Thought"}
    assert set(BY_HAND) == tested


def section(title):
    return re.search(rf"^## {title}\n(.+?)(?=^## |\Z)", PAGE, re.M | re.S)[1]


def rows(title):
    """The cells of a section's tables, by the first one, without marks of emphasis and code."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return {first.replace("`", ""): rest for first, *rest in cells}


def test_the_table_of_hacks_is_what_the_benchmark_prints():
    incentives = runpy.run_path(str(ROOT / "benchmarks" / "incentives.py"))
    printed = rows("Hacks and what each earns here")
    for name, strategy in {**incentives["HONEST"], **incentives["HACKS"]}.items():
        for mode, cell in zip(("table4", "table4_matched", "literal"), _row(printed, name), strict=True):
            free, gated = (
                incentives["earned"](strategy, RewardConfig(mode=mode, overlap_gate=gate)) for gate in (False, True)
            )
            assert cell == f"{free:.2f} ({gated:.2f})", (name, mode)


def _row(printed, name):
    return next(cells for first, cells in printed.items() if first.removeprefix("honest and ") == name)


def test_every_setting_stands_there_with_its_default():
    for setting in fields(RewardConfig):
        assert rows("Settings")[setting.name][0].strip("`") == shown(getattr(RewardConfig(), setting.name))


def shown(value):
    if is_dataclass(value):
        shares = astuple(value)
        return "1/3 each" if set(shares) == {1 / 3} else ", ".join(f"{share:g}" for share in shares)
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_of_the_judge_stands_there():
    named = {name.strip(" `") for cell in rows("The judge") for name in cell.split(",")}
    assert {setting.name for setting in fields(JudgeConfig)} <= named


def test_the_bounds_are_those_of_the_code():
    printed = {name: cells[0] for name, cells in rows("Bounds").items()}
    assert printed["JSON length"].startswith(f"4 x the truth's text + {matching.MAX_EXCESS:,} characters")
    assert printed["nesting"] == str(answer.MAX_DEPTH)
    assert printed["segments"].startswith(f"{matching.MAX_SEGMENTS}, or 4 x N_true")
    assert printed["a tag"] == f"{taxonomy.MAX_TAG_LENGTH} characters"
    assert printed["sets of three and more tags"].startswith(f"{labels.MAX_LARGE} different ones")
    assert printed["OCR answer"].startswith(f"4 x the truth + {ocr.MAX_EXCESS:,} characters")
    assert printed["combining marks"].startswith(f"{marks.MAX_RUN} in a row")
    assert printed["rule judge"].startswith(f"{MAX_LENGTH} characters")


def test_every_link_leads_somewhere():
    """GitHub's anchors: lower case, spaces to hyphens, punctuation but hyphens and underscores dropped."""
    titles = re.findall(r"^#+ (.+)$", PAGE, re.M)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert set(re.findall(r"\]\(#(.+?)\)", PAGE)) <= anchors
    for path in re.findall(r"`((?:tests|benchmarks|examples|rewards|schema|docs)/[\w/.]+)`", PAGE):
        assert (ROOT / path).exists(), path
