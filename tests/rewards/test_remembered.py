"""What is remembered between calls is bounded and belongs to one taxonomy and one set of weights."""

import json

from sv6d.rewards import score
from sv6d.rewards.matching import _read_truth
from sv6d.rewards.tag_sets import MAX_REMEMBERED, tag_states, true_set
from sv6d.schema import Taxonomy

SHOT_SIZE = ("camera_language", "shot_size")


def shots(*sizes):
    return json.dumps(
        [{"start": i, "end": i + 1, "labels": {SHOT_SIZE[0]: {SHOT_SIZE[1]: s}}} for i, s in enumerate(sizes)]
    )


def reordered(folder):
    """The packaged taxonomy with `long shot` and `close-up` in each other's place."""
    text = Taxonomy.load().path.read_text()
    text = text.replace("{name: long shot,", "{name: #,").replace("{name: close-up,", "{name: long shot,")
    path = folder / "reordered.yaml"
    path.write_text(text.replace("{name: #,", "{name: close-up,"))
    return Taxonomy.load(path)


def test_two_taxonomies_do_not_mix(tmp_path):
    # long shot is rank 1 and medium shot rank 3 of 0 to 6; in the other taxonomy long shot has rank 5
    other = reordered(tmp_path)
    for _ in range(2):
        for taxonomy, rank in ((None, 1), (other, 5), (None, 1)):
            found = score("shot_framing", shots("long shot"), shots("extreme long shot"), taxonomy=taxonomy)
            assert found.components["label"] == 1 - rank / 6


def test_two_sets_of_weights_do_not_mix():
    both = {"camera_language": {"shot_size": "long shot"}, "subject": {"configuration": "group"}}
    wrong = {"camera_language": {"shot_size": "bogus"}, "subject": {"configuration": "group"}}
    answer, truth = (json.dumps([{"start": 0, "end": 1, "labels": labels}]) for labels in (wrong, both))
    for _ in range(2):
        for weights, label in (({}, 0.5), ({"subject": 3}, 0.75), ({"camera_language": 3}, 0.25)):
            found = score("temporal_grounding", answer, truth, config={"dimension_weights": weights})
            assert found.components["label"] == label


def test_texts_that_mean_a_tag_are_remembered_up_to_a_number():
    states = tag_states(Taxonomy.load(), SHOT_SIZE)
    for i in range(MAX_REMEMBERED + 100):
        assert states[" " * (i % 100) + "long shot" + " " * (i // 100)] == states["long shot"]
    assert len(states) == MAX_REMEMBERED
    assert states["LONG SHOT"] == states["long shot"], "beyond that it is read anew"


def test_made_up_tags_and_responses_are_not_remembered():
    states = tag_states(Taxonomy.load(), ("camera_language", "camera_position"))
    known = len(states)
    for i in range(100):
        score("camera_movement", json.dumps([{"start": 0, "end": 1, "labels": {"x": {"y": f"made up {i}"}}}]), "[]")
        assert states[f"made up {i}"] < 0 and states[(f"made up {i}", "frontal view")] < 0
    assert len(states) == known


def test_ground_truths_are_remembered_up_to_a_number():
    for cache in (_read_truth, true_set, tag_states):
        assert cache.cache_info().maxsize
