"""Action localization, OCR and chain of thought (Table 4, readings 3, 8-11), worked by hand."""

import json
from math import isnan

import pytest
from sv6d.rewards import score
from sv6d.rewards.chain_of_thought import well_formed
from sv6d.rewards.judging.rules import rule_judge


def spans(*pairs):
    return json.dumps([{"start": a, "end": b} for a, b in pairs])


def localize(predicted, true, **settings):
    return score("temporal_action_localization", predicted, true, config=settings).components


def read_text(answer, truth):
    return score("ocr_regular", answer, truth).value


def reason(response, truth, **kwargs):
    return score("visual_reasoning", response, truth, **kwargs).components


def test_localization_by_hand():
    # 1-3 with 2-4: 1/3; second true span unmatched: (1/3) / 2
    c = localize(spans((1, 3)), spans((2, 4), (6, 7)))
    assert c["iou"] == pytest.approx(1 / 6)
    assert c["score"] == pytest.approx(0.2 + 0.8 / 6)
    assert isnan(c["label"]) and isnan(c["r_prof"])


def test_localization_format_is_1_minus_r_form():
    c = localize('[{"start": "1", "end": 2}]', spans((1, 2)))
    assert (c["format"], c["iou"]) == (0.75, 1.0)
    assert c["score"] == pytest.approx(0.2 * 0.75 + 0.8)


def test_localization_matches_by_iou_alone_and_ignores_labels():
    labelled = '[{"start": 1, "end": 2, "labels": {"camera_language": {"shot_size": 3}}}]'
    assert localize(labelled, spans((1, 2)))["score"] == 1.0


def test_localization_empty_sides():
    assert localize("[]", "[]")["score"] == 1.0
    assert localize("[]", spans((1, 2)))["score"] == pytest.approx(0.2)
    assert localize("nothing there", spans((1, 2)))["score"] == 0.0


def test_localization_literal():
    # L_align = 1 - 1/2 + beta * 1/2, L_reg = 0
    c = localize(spans((1, 2)), spans((1, 3), (6, 7)), mode="literal", beta=0.2)
    assert c["score"] == pytest.approx(1 - 0.5 - 0.1)


def test_ocr_is_edit_similarity():
    assert read_text("kitten", "sitting") == pytest.approx(1 - 3 / 7)  # two replacements, one insertion
    assert read_text("abc", "abc") == 1.0
    assert read_text("", "") == 1.0
    assert read_text("", "abc") == 0.0
    assert read_text("xyz", "abc") == 0.0


def test_ocr_folds_nfc_and_outer_space_only():
    assert read_text("  e\u0301te\u0301 \n", "été") == 1.0
    assert read_text("Abc", "abc") == pytest.approx(2 / 3)
    assert read_text("a  b", "a b") == pytest.approx(3 / 4)


def test_ocr_has_no_threshold():
    assert read_text("axxx", "abcd") == pytest.approx(1 / 4)


def test_ocr_reads_the_answer_only():
    assert read_text("<think>hm</think>abc", "abc") == 1.0
    assert read_text("<think>hm</think>It says <answer>abc</answer>.", "abc") == 1.0
    assert read_text("<think>abc", "abc") == 0.0
    assert read_text("<think>never closed", "") == 0.0, "nothing was answered, not even nothing"


def test_ocr_counts_a_runaway_answer_as_errors():
    # 10 right characters, then a million wrong ones
    assert read_text("0123456789" + "x" * 10**6, "0123456789") == pytest.approx(10 / (10**6 + 10), rel=1e-3)


@pytest.mark.parametrize(
    ("response", "good"),
    [
        ("<think>a</think><answer>b</answer>", True),
        (" <think>a\nb</think>\n\n<answer>c</answer>\n", True),
        ("<think> </think><answer>b</answer>", False),
        ("<think>a</think><answer> </answer>", False),
        ("<think>a</think>so<answer>b</answer>", False),
        ("x<think>a</think><answer>b</answer>", False),
        ("<think>a</think><answer>b</answer>.", False),
        ("<answer>b</answer><think>a</think>", False),
        ("<think>a</think><think>a</think><answer>b</answer>", False),
        ("<think>a</think><answer>b</answer><answer>b</answer>", False),
        ("<think>a<answer>b</answer></think>", False),
        ("b", False),
        ("", False),
    ],
)
def test_reading_10_the_form_of_a_chain_of_thought(response, good):
    assert well_formed(response) == good


def test_chain_of_thought_by_hand():
    assert reason("<think>a</think><answer>B</answer>", "B")["score"] == 1.0
    assert reason("<think>a</think><answer>A</answer>", "B")["score"] == pytest.approx(0.3)
    assert reason("B", "B")["score"] == pytest.approx(0.7)
    assert reason("<think>B", "B")["score"] == 0.0
    assert reason("", "B")["score"] == 0.0


def test_the_judge_sees_the_answer_only():
    seen = []
    reason("<think>secret</think>well, <answer> B </answer>", "B", judge=lambda *said: seen.append(said) or 1.0)
    assert seen == [("B", "B")]


def test_a_blank_answer_is_not_judged():
    assert reason("<think>a</think><answer> </answer>", "B", judge=lambda *_: 1.0)["judge"] == 0.0


def test_a_judge_that_fails_is_flagged_and_replaced_by_the_rule_judge():
    def down(answer, truth):
        raise ConnectionError

    for judge in (down, lambda *_: float("nan"), lambda *_: None):
        c = reason("<think>a</think><answer>B</answer>", "B", judge=judge)
        assert (c["judge"], c["failed"], c["score"]) == (1.0, 1.0, 1.0)


def test_a_verdict_outside_0_1_is_cut():
    assert reason("<think>a</think><answer>B</answer>", "B", judge=lambda *_: 7.0)["judge"] == 1.0


@pytest.mark.parametrize(
    ("answer", "truth", "verdict"),
    [
        ("a red car", "A red car.", 1),
        ("a  red\ncar", "a red car", 1),
        ("a blue car", "a red car", 0),
        ("", "a", 0),
        ("...", "...", 0),
        ("B", "b", 1),
        ("(B)", "B", 1),
        ("B.", "B", 1),
        ("B) a red car", "B", 1),
        ("B: a red car", "(B)", 1),
        ("A cat", "A", 0),  # an article is no choice
        ("A or B", "A", 0),
        ("C. not B.", "B", 0),
        ("B）红色的车", "B", 1),
        ("B、红色的车", "B", 1),
        ("**B) a red car**", "B", 1),
        ("A、或者 B", "B", 0),
        ("红色的车。", "红色的车", 1),
        ("“红色的车”", "红色的车", 1),
        ("《红楼梦》", "红楼梦", 1),
        ("红色的车。不，蓝色的车。", "红色的车", 0),
        ("3", "3.0", 1),
        ("1,200", "1200", 1),
        ("1,20", "120", 0),
        ("3/4", "0.75", 1),
        ("1/0", "1", 0),
        ("50%", "50 %", 1),
        ("50%", "50", 0),
        ("-2", "2", 0),
        ("4", "3", 0),
        ("\\boxed{7}", "7", 1),
        ("\uff17", "7", 1),
        ("7" * 10**6, "7", 0),
        ("Score: 1.0", "yes", 0),
    ],
)
def test_the_rule_judge(answer, truth, verdict):
    assert rule_judge(answer, truth) == verdict
