"""A taxonomy of one's own: its tags are scored, and its list of normalisation steps is honoured, also when it is empty."""

import json

import pytest
from sv6d.rewards import score
from sv6d.schema import GroundTruthError, Taxonomy

TASTE = """
normalization: {steps}
dimensions:
  taste:
    index: 1
    sub_dimensions:
      heat:
        metric: ordinal
        labels: [{{name: mild, rank: 0}}, {{name: warm, rank: 1}}, {{name: hot, rank: 2}}]
"""


def bites(tag):
    return json.dumps([{"start": 0, "end": 5, "labels": {"taste": {"heat": tag}}}])


@pytest.fixture
def taxonomy(tmp_path):
    def load(steps):
        path = tmp_path / "taste.yaml"
        path.write_text(TASTE.format(steps=steps))
        return Taxonomy.load(path)

    return load


def test_its_ranks_are_the_distances(taxonomy):
    # warm is one rank of two from hot: Label 1/2; Format and IoU 1
    result = score("temporal_grounding", bites("warm"), bites("hot"), taxonomy=taxonomy([]))
    assert result.value == pytest.approx(0.2 + 0.4 + 0.4 / 2)


def test_with_its_own_steps_a_tag_may_be_written_in_their_ways(taxonomy):
    components = score(
        "temporal_grounding", bites("HOT "), bites("hot"), taxonomy=taxonomy("[lowercase, strip]")
    ).components
    assert (components["label"], components["r_prof"]) == (1.0, 0.0)


@pytest.mark.parametrize("tag", ["Hot", "hot ", "ｈot"])
def test_with_an_empty_list_a_tag_must_be_equal_as_written(taxonomy, tag):
    """Distance 1, and a share of 1 of the tags is no canonical one: Format = 1 - 1/3."""
    exact = taxonomy([])
    components = score("temporal_grounding", bites(tag), bites("hot"), taxonomy=exact).components
    assert (components["label"], components["r_prof"]) == (0.0, 1.0)
    assert components["format"] == pytest.approx(2 / 3)
    with pytest.raises(GroundTruthError, match="no canonical tag"):
        score("temporal_grounding", bites("hot"), bites(tag), taxonomy=exact)


def test_a_tag_of_the_packaged_taxonomy_is_unknown_to_it(taxonomy):
    answer = '[{"start": 0, "end": 5, "labels": {"taste": {"heat": "close-up"}}}]'
    assert score("temporal_grounding", answer, bites("hot"), taxonomy=taxonomy([])).components["r_prof"] == 1.0
