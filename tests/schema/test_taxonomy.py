"""The packaged taxonomy, its distances (section 2.4.2, reading 6) and the errors of a broken file."""

import numpy as np
import pytest
import yaml
from sv6d.schema import Taxonomy, TaxonomyError

PACKAGED = Taxonomy.load()

SMALL = {
    "taxonomy_id": "small",
    "taxonomy_version": "1",
    "normalization": ["lowercase"],
    "dimensions": {
        "look": {
            "index": 1,
            "sub_dimensions": {
                "size": {
                    "metric": "ordinal",
                    "labels": [{"name": "far", "rank": 0}, {"name": "mid", "rank": 1}, {"name": "near", "rank": 2}],
                },
                "move": {
                    "metric": "categorical",
                    "cardinality": "many",
                    "labels": [{"name": n} for n in ("pan", "tilt", "roll", "still")],
                    "edges": [["pan", "tilt"], ["tilt", "roll"]],
                    "isolated": ["still"],
                },
            },
        }
    },
}


def write(tmp_path, change=None):
    """SMALL as a file, after `change` has been applied to a copy."""
    data = yaml.safe_load(yaml.safe_dump(SMALL))
    if change:
        change(data)
    path = tmp_path / "taxonomy.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def labels_in(dimension, *subs):
    dimension = PACKAGED.dimensions[dimension]
    return sum(len(dimension.sub_dimensions[s].labels) for s in subs or dimension.sub_dimensions)


def test_counts_are_the_reports():
    assert labels_in("camera_language") == 38
    assert labels_in("aesthetics") == 41
    assert labels_in("editing", "editing_logic") == 16
    assert labels_in("editing", "editing_effects") == 19
    assert labels_in("editing", "transition_type") == 30
    assert labels_in("editing") == 65
    assert labels_in("subject") == 8
    assert labels_in("dissemination") == 40
    assert [d.index for d in PACKAGED.dimensions.values()] == [1, 2, 3, 4, 5, 6]
    assert len(PACKAGED.dimensions["aesthetics"].sub_dimensions) == 9


def test_ordinal_distance_is_rank_difference_over_n_minus_1():
    def d(a, b):
        return PACKAGED.distance("camera_language", "shot_size", a, b)

    # seven sizes, ranks 0-6
    assert d("medium shot", "medium close-up") == 1 / 6
    assert d("extreme long shot", "extreme close-up") == 1.0
    assert d("close-up", "close-up") == 0.0


def test_graph_distance_is_shortest_path_over_diameter():
    # depth_of_field: rack - shallow - moderate - deep, rack - moderate; the longest shortest path is 2 (shallow-deep)
    def d(a, b):
        return PACKAGED.distance("camera_language", "depth_of_field", a, b)

    assert d("shallow focus", "moderate focus") == 0.5
    assert d("shallow focus", "deep focus") == 1.0
    assert d("rack focus", "deep focus") == 1.0


def test_disconnected_graph_divides_by_longest_plus_1_and_unreachable_is_1(tmp_path):
    # pan - tilt - roll, still alone: the longest path is 2, so D = 3
    small = Taxonomy.load(write(tmp_path))
    assert small.distance("look", "move", "pan", "tilt") == pytest.approx(1 / 3)
    assert small.distance("look", "move", "pan", "roll") == pytest.approx(2 / 3)
    assert small.distance("look", "move", "pan", "still") == 1.0
    assert small.distance("look", "move", "still", "still") == 0.0
    # the packaged one: `other` is isolated, the arc is a ring closed by denouement - exposition with longest path 3: D = 4
    assert PACKAGED.distance("narrative", "segment_function", "exposition", "other") == 1.0
    steps = PACKAGED.dimensions["narrative"].sub_dimensions["segment_function"].steps
    assert steps.max() == 3
    assert PACKAGED.distance("narrative", "segment_function", "exposition", "rising action") == 1 / 4


def test_out_of_vocabulary_is_at_distance_1():
    assert PACKAGED.distance("camera_language", "shot_size", "medium close", "medium close-up") == 1.0
    assert PACKAGED.distance("camera_language", "shot_size", "bogus", "bogus") == 1.0


@pytest.mark.parametrize("dimension", PACKAGED.dimensions.values(), ids=lambda d: d.name)
def test_distances_are_a_bounded_symmetric_measure(dimension):
    for sub in dimension.sub_dimensions.values():
        d = sub.distances
        assert (d >= 0).all() and (d <= 1).all() and d.max() == 1.0
        assert np.array_equal(d, d.T)
        assert np.array_equal(d == 0, np.eye(len(d), dtype=bool))


def test_normalisation_is_the_files_own_list():
    assert PACKAGED.normalize("  D\u00e9nouement\u00a0 \u201cX\u201d ") == 'denouement "x"'
    assert PACKAGED.has("camera_language", "shot_size", " Medium  Close-Up ")
    assert not PACKAGED.has("camera_language", "shot_size", "medium close up"), "hyphens are not normalised"


def test_an_empty_normalisation_list_means_exact_equality(tmp_path):
    exact = Taxonomy.load(write(tmp_path, lambda t: t.update(normalization=[])))
    assert exact.has("look", "size", "near")
    assert not exact.has("look", "size", "Near")
    assert not exact.is_canonical("near ")


def test_neighbours_are_near_first_and_fall_back_at_the_ends_of_a_scale():
    assert PACKAGED.neighbors("camera_language", "shot_size", "medium shot") == ("medium long shot", "medium close-up")
    # one neighbour at radius 1 is too few: the fallback radius 2 is used
    assert PACKAGED.neighbors("camera_language", "shot_size", "extreme long shot") == ("long shot", "medium long shot")
    assert PACKAGED.neighbors("camera_language", "shot_size", "extreme long shot", radius=1) == ("long shot",)
    assert PACKAGED.neighbors("narrative", "segment_function", "other") == ()


def test_each_file_is_read_once(tmp_path):
    assert Taxonomy.load() is PACKAGED
    path = write(tmp_path)
    assert Taxonomy.load(path) is Taxonomy.load(str(path))


def sub(name):
    return lambda t: t["dimensions"]["look"]["sub_dimensions"][name]


BROKEN = {
    "unknown normalisation": (lambda t: t["normalization"].append("lowercas"), "normalization[1]", "'lowercase'"),
    "no dimensions": (lambda t: t.pop("dimensions"), "'dimensions'", "has no"),
    "no labels": (lambda t: sub("size")(t).update(labels=[]), "dimensions.look.sub_dimensions.size.labels", "empty"),
    "unknown metric": (lambda t: sub("size")(t).update(metric="rank"), "sub_dimensions.size.metric", "'rank'"),
    "label without name": (lambda t: sub("move")(t)["labels"].append({}), "move.labels[4]", "name"),
    "same label twice": (
        lambda t: sub("size")(t)["labels"].append({"name": "far", "rank": 3}),
        "labels[3].name",
        "twice",
    ),
    "same after normalisation": (
        lambda t: sub("size")(t)["labels"].append({"name": "FAR", "rank": 3}),
        "size.labels[3].name",
        "after normalisation",
    ),
    "blank label": (
        lambda t: sub("size")(t)["labels"].append({"name": " ", "rank": 3}),
        "size.labels[3].name",
        "no answer could say it",
    ),
    "label longer than any tag": (
        lambda t: sub("size")(t)["labels"].append({"name": "far " * 65, "rank": 3}),
        "size.labels[3].name",
        "longer than 256",
    ),
    "missing rank": (lambda t: sub("size")(t)["labels"][1].pop("rank"), "size.labels[1]", "no rank"),
    "rank twice": (lambda t: sub("size")(t)["labels"][1].update(rank=0), "size.labels[1].rank", "0 to 2"),
    "edge to nowhere": (lambda t: sub("move")(t)["edges"].append(["pan", "rol"]), "move.edges[2]", "'roll'"),
    "edge twice": (lambda t: sub("move")(t)["edges"].append(["tilt", "pan"]), "move.edges[2]", "twice"),
    "loop": (lambda t: sub("move")(t)["edges"].append(["pan", "pan"]), "move.edges[2]", "itself"),
    "forgotten label": (lambda t: sub("move")(t).pop("isolated"), "move.edges", "'still' has no edge"),
    "isolated with edges": (lambda t: sub("move")(t)["isolated"].append("pan"), "move.isolated[1]", "has edges"),
    "group of strangers": (lambda t: sub("move")(t).update(groups={"g": ["pam"]}), "move.groups.g[0]", "'pan'"),
    "default skeleton": (lambda t: t.update(skeletons={"default": "arc"}), "skeletons.default", "'arc'"),
}


@pytest.mark.parametrize(("change", "place", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_refused_with_its_place(tmp_path, change, place, said):
    path = write(tmp_path, change)
    with pytest.raises(TaxonomyError) as error:
        Taxonomy.load(path)
    assert str(path) in str(error.value)
    assert place in str(error.value)
    assert said in str(error.value)


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "taxonomy.yaml"
    path.write_text(write(tmp_path).read_text() + "taxonomy_id: again\n", encoding="utf-8")
    with pytest.raises(TaxonomyError, match="'taxonomy_id' is given twice"):
        Taxonomy.load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TaxonomyError, match=r"nowhere\.yaml"):
        Taxonomy.load(tmp_path / "nowhere.yaml")


def test_unknown_names_come_with_near_ones():
    with pytest.raises(TaxonomyError, match="did you mean 'editing'"):
        PACKAGED.distance("editin", "transition_type", "a", "b")
    with pytest.raises(TaxonomyError, match="'transition_type'"):
        PACKAGED.distance("editing", "transition", "a", "b")
    with pytest.raises(TaxonomyError, match="use 'medium close-up'"):
        PACKAGED.canonical("camera_language", "shot_size", "MCU")
