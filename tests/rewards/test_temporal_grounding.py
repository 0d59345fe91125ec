"""Temporal grounding, worked by hand (readings 1-8). Numbers of the packaged taxonomy used here:

shot_size has seven ranks, neighbours are 1/6 apart; camera_position has five, neighbours are 1/4 apart;
camera_movement is a graph with diameter 4: push in - smooth tracking 1 step, push in - roll 3 steps.
"""

import json
from math import isnan

import pytest
from sv6d.rewards import score
from sv6d.schema import Taxonomy


def segment(start, end, **camera):
    return {"start": start, "end": end, "labels": {"camera_language": camera}}


def shot(start, end, size="medium shot"):
    return segment(start, end, shot_size=size)


def grade(predicted, true, task="shot_framing", **settings):
    answer = predicted if isinstance(predicted, str) else json.dumps({"segments": predicted})
    return score(task, answer, json.dumps({"segments": true}), config=settings).components


def test_the_numbers_used_here():
    d = Taxonomy.load().distance
    assert d("camera_language", "shot_size", "medium shot", "medium close-up") == 1 / 6
    assert d("camera_language", "camera_position", "frontal view", "profile view") == 2 / 4
    assert d("camera_language", "camera_movement", "push in", "smooth tracking") == 1 / 4
    assert d("camera_language", "camera_movement", "push in", "roll") == 3 / 4


def test_one_segment_by_hand():
    # IoU of 0-4 with 0-5: 4/5. Label: one rank off: 1 - 1/6. Format 1.
    c = grade([shot(0, 4, "medium close-up")], [shot(0, 5)])
    assert c["iou"] == pytest.approx(0.8)
    assert c["label"] == pytest.approx(5 / 6)
    assert c["format"] == 1.0
    assert c["score"] == pytest.approx(0.2 + 0.4 * 0.8 + 0.4 * 5 / 6)


def test_reading_1_table_4_is_1_minus_the_weighted_loss():
    c = grade([shot(0, 4, "medium close-up"), shot(6, 9, "nonsense")], [shot(0, 5), shot(5, 9)])
    loss = 0.4 * (1 - c["iou"]) + 0.4 * (1 - c["label"]) + 0.2 * (1 - c["format"])
    assert c["score"] == pytest.approx(1 - loss)


def test_reading_1_literal_eq_5_is_unweighted():
    # L_align = 1 - 4/5, L_struct = 1/6, L_reg = 0: r = 1 - 0.2 - 1/6
    c = grade([shot(0, 4, "medium close-up")], [shot(0, 5)], mode="literal")
    assert c["score"] == pytest.approx(1 - 0.2 - 1 / 6)


TEN = [shot(i, i + 1) for i in range(10)]


def test_reading_2_one_shot_of_ten_pays_028():
    # IoU and Label 1/10 each: 0.2 + 0.4 * 0.1 + 0.4 * 0.1
    assert grade(TEN[:1], TEN)["score"] == pytest.approx(0.28)


def test_reading_2_eq_8_and_9_as_printed_pay_082_and_more():
    # the mean over the one matched pair is perfect; the penalty is beta * 9/10 of IoU
    assert grade(TEN[:1], TEN, mode="table4_matched", beta=0.5)["score"] == pytest.approx(0.2 + 0.4 * 0.55 + 0.4)
    assert grade(TEN[:1], TEN, mode="table4_matched", beta=0.0)["score"] == pytest.approx(1.0)
    assert grade(TEN[:1], TEN, mode="literal", beta=0.5)["score"] == pytest.approx(1 - 0.45)


def test_reading_2_too_many_segments_divide_as_well():
    # ten perfect ones among 20
    extra = [shot(100 + i, 101 + i, "extreme long shot") for i in range(10)]
    assert grade(TEN + extra, TEN)["iou"] == pytest.approx(0.5)


def test_reading_2_overlap_gate():
    # the right label at the wrong time: full Label without the gate, none with it
    assert grade([shot(5, 6)], [shot(0, 1)])["label"] == 1.0
    assert grade([shot(5, 6)], [shot(0, 1)], overlap_gate=True)["label"] == 0.0
    assert grade([shot(0, 1)], [shot(0, 1)], overlap_gate=True)["score"] == 1.0


def test_reading_3_matching_maximises_the_reward():
    # crossed: by time 0-1 is the close-up, by label it is the long shot.  Pairing by time gives IoU 1 and labels
    # 4/6 apart: 2 + 2 * (1/3); pairing by label gives IoU 0 and labels 1: 2.  The better one is by time.
    true = [shot(0, 1, "long shot"), shot(1, 2, "close-up")]
    c = grade([shot(0, 1, "close-up"), shot(1, 2, "long shot")], true)
    assert (c["iou"], c["label"]) == (1.0, pytest.approx(1 / 3))
    # alpha 0 looks at labels alone
    c = grade([shot(0, 1, "close-up"), shot(1, 2, "long shot")], true, alpha=0.0)
    assert (c["iou"], c["label"]) == (0.0, 1.0)


def test_reading_4_empty_sides():
    both_empty = grade([], [])
    assert both_empty["iou"] == both_empty["label"] == both_empty["score"] == 1.0
    one_empty = grade([], TEN)
    assert (one_empty["iou"], one_empty["label"]) == (0.0, 0.0)
    assert one_empty["score"] == pytest.approx(0.2 * 2 / 3)  # well-formed, but its one dimension is missing
    assert grade(TEN, [])["iou"] == grade(TEN, [])["label"] == 0.0


@pytest.mark.parametrize("answer", ["", "no json", "<think>open", '{"segments": [', "[NaN]"])
def test_reading_4_nothing_readable_is_nothing_earned(answer):
    for true in (TEN, []):
        c = grade(answer, true)
        assert c["score"] == c["format"] == c["iou"] == 0.0
        assert (c["r_prof"], c["r_comp"], c["r_form"]) == (1.0, 1.0, 1.0)


def test_an_answer_without_a_list_is_no_empty_list():
    assert grade("{}", [])["iou"] == 0.0
    assert grade('{"segments": null}', [])["iou"] == 0.0


def test_reading_5_mean_over_the_annotated_sub_dimensions():
    # two annotated: size one rank off (1/6), position missing (1): mean 7/12. The angle is not annotated: ignored.
    true = [segment(0, 1, shot_size="medium shot", camera_position="frontal view")]
    c = grade([segment(0, 1, shot_size="medium close-up", shooting_angle="low angle")], true)
    assert c["label"] == pytest.approx(1 - (1 / 6 + 1) / 2)


def test_reading_5_out_of_vocabulary_costs_1():
    assert grade([shot(0, 1, "medium close")], [shot(0, 1)])["label"] == 0.0


@pytest.mark.parametrize(
    ("predicted", "true", "distance"),
    [
        (["push in"], ["push in"], 0),
        ("push in", ["push in"], 0),
        (["push in", "push in"], ["push in"], 0),  # a set
        (["smooth tracking"], ["push in"], 1 / 4),
        (["push in", "roll"], ["push in"], 1 / 2),  # one unpaired of two
        (["push in"], ["push in", "roll"], 1 / 2),
        (["roll", "smooth tracking"], ["push in", "roll"], (0 + 1 / 4) / 2),  # crossed: roll-roll, tracking-push in
        (["bogus"], ["push in", "roll"], 1),
        (["bogus", "push in"], ["push in"], 1 / 2),
        (["bogus", "junk", "push in"], ["push in", "roll"], 2 / 3),
        ([], ["push in"], 1),
        (["arc", "push in", "roll"], ["roll", "push in", "arc"], 0),
        (["arc", "push in", "roll"], ["smooth tracking"], (1 / 4 + 2) / 3),  # push in is nearest, two unpaired
        (["bogus", "push in"], ["smooth tracking", "roll", "arc"], (1 / 4 + 2) / 3),
    ],
)
def test_reading_5_several_tags_pair_one_to_one(predicted, true, distance):
    c = grade([segment(0, 1, camera_movement=predicted)], [segment(0, 1, camera_movement=true)], "camera_movement")
    assert c["label"] == pytest.approx(1 - distance)


def both(size, configuration):
    return {
        "start": 0,
        "end": 1,
        "labels": {"camera_language": {"shot_size": size}, "subject": {"configuration": configuration}},
    }


def test_reading_7_dimension_weights():
    # size right, configuration three ranks of three off: distances 0 and 1
    predicted, true = [both("medium shot", "none")], [both("medium shot", "group")]
    task = "temporal_grounding"
    assert grade(predicted, true, task)["label"] == pytest.approx(0.5)
    assert grade(predicted, true, task, dimension_weights={"subject": 3})["label"] == pytest.approx(0.25)
    # a weight for a dimension that the truth lacks changes nothing
    assert grade(predicted, true, task, dimension_weights={"editing": 9})["label"] == pytest.approx(0.5)


def test_reading_8_r_prof_counts_tags_that_no_dimension_knows():
    # "group" is a tag of another dimension: canonical, though wrong here. Only "medium close" is unknown: 1 of 4
    labels = {"shot_size": "medium close", "camera_position": "group", "camera_movement": ["roll", "ARC"]}
    c = grade([segment(0, 1, **labels)], [shot(0, 1)])
    assert c["r_prof"] == 1 / 4
    assert c["format"] == pytest.approx(1 - (1 / 4) / 3)


def test_reading_8_r_comp_is_the_share_of_dimensions_without_a_tag():
    labelled = {"start": 0, "end": 1, "labels": {"camera_language": {"shot_size": "medium shot"}, "subject": {}}}
    c = grade([labelled], [both("medium shot", "group")], "temporal_grounding")
    assert (c["r_comp"], c["r_form"]) == (1 / 2, 0.0)


def test_reading_8_r_form_is_the_share_of_failed_checks():
    # a time in a text (types) and no labels (fields): 2 of 4; no tag at all: R_comp 1
    c = grade([{"start": "0", "end": 1}], [shot(0, 1)])
    assert (c["r_form"], c["r_comp"], c["iou"]) == (0.5, 1.0, 1.0)


def test_reading_8_lambdas():
    c = grade([{"start": "0", "end": 1}], [shot(0, 1)], lambdas={"prof": 0.5, "comp": 0.25, "form": 0.25})
    assert c["format"] == pytest.approx(1 - (0.25 * 1.0 + 0.25 * 0.5))


def test_a_dimension_key_is_asked_only_where_every_true_segment_has_it():
    # the first shot has no transition: the gold answer must not fail for lacking the key there
    true = [{"start": 0, "end": 1}, {"start": 1, "end": 2, "labels": {"editing": {"transition_type": "hard cut"}}}]
    gold = [{"start": 0, "end": 1, "labels": {}}, true[1]]
    assert grade(gold, true, "cut_point_detection")["score"] == 1.0


def test_reading_11_an_invalid_segment_counts_in_n_pred_with_value_0():
    c = grade([shot(0, 1), shot(3, 2)], [shot(0, 1), shot(2, 3)])
    assert (c["n_pred"], c["n_true"], c["iou"], c["label"]) == (2, 2, 0.5, 0.5)
    assert c["r_form"] == 1 / 4


def test_a_truth_without_labels_moves_their_weight_to_iou():
    # gradual cuts in public data carry no labels: 0.2 Format + 0.8 IoU
    bare = [{"start": 0, "end": 4}]
    c = grade([{"start": 0, "end": 2, "labels": {}}], bare, "cut_point_detection")
    assert isnan(c["label"])
    assert c["score"] == pytest.approx(0.2 + 0.8 * 0.5)


def test_normalisation_applies_to_predicted_tags():
    assert grade([shot(0, 1, " MEDIUM  Shot ")], [shot(0, 1)])["score"] == 1.0


def test_thousands_of_segments_are_counted_but_not_matched():
    # 257 > max(256, 4 * 10): the content is 0; among 256 the ten right ones are still found
    filler = [shot(100 + i, 101 + i, "extreme long shot") for i in range(247)]
    assert grade(TEN + filler[:246], TEN)["iou"] == pytest.approx(10 / 256)
    assert grade(TEN + filler, TEN)["iou"] == 0.0
    assert grade(TEN + filler, TEN)["n_pred"] == 257
