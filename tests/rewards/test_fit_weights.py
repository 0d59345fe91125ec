"""Learning w_k: it recovers weights that people are made to have, says what it gains on held-out rows, and lists bad lines."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from omegaconf import OmegaConf
from sv6d.recipes.cli import main
from sv6d.rewards import RewardConfig, score
from sv6d.rewards.fit_weights import FitError, features, fit, label_scores, read_parse, settings
from sv6d.rewards.fit_weights_cli import read_opinions, read_rows
from sv6d.schema import Taxonomy

TAXONOMY = Taxonomy.load()
SUBS = (("camera_language", "shot_size"), ("editing", "transition_type"), ("subject", "framing_type"))
DIMENSIONS = [dimension for dimension, _ in SUBS]
WEIGHTS = {"camera_language": 0.6, "editing": 0.1, "subject": 0.3}
CONFIG = RewardConfig()


def parse_text(segments):
    """[(start, end, (shot size, transition, framing)), ...] as the text of an answer; None leaves a dimension out."""
    return json.dumps(
        {
            "segments": [
                {
                    "start": start,
                    "end": end,
                    "labels": {d: {s: t} for (d, s), t in zip(SUBS, tags, strict=True) if t is not None},
                }
                for start, end, tags in segments
            ]
        }
    )


def some_truth(rng):
    bounds = np.concatenate([[0.0], np.sort(rng.choice(np.arange(1, 10), 2, replace=False)), [10.0]])
    tags = [[str(rng.choice(TAXONOMY.sub_dimension(*sub).labels)) for sub in SUBS] for _ in range(3)]
    return [(float(a), float(b), tuple(t)) for a, b, t in zip(bounds, bounds[1:], tags, strict=False)]


def some_prediction(rng, truth):
    """The truth with times moved by up to half a second and some tags replaced."""
    predicted = []
    for start, end, tags in truth:
        tags = [
            str(rng.choice(TAXONOMY.sub_dimension(*sub).labels)) if rng.random() < 0.5 else tag
            for tag, sub in zip(tags, SUBS, strict=True)
        ]
        predicted.append((max(0.0, start + rng.uniform(-0.5, 0.5)), end + rng.uniform(-0.2, 0.5), tuple(tags)))
    return parse_text(predicted)


def true_value(prediction, truth, weights):
    components = score("temporal_grounding", prediction, truth, config={"dimension_weights": weights}).components
    return components["label"] + 0.3 * components["iou"]


def people(kind, count, weights=WEIGHTS, seed=0, noise=0.03):
    """Rows of people who value Label under `weights`, and IoU a little."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        truth = some_truth(rng)
        text, predictions = parse_text(truth), [some_prediction(rng, truth) for _ in range(2)]
        values = [true_value(prediction, text, weights) for prediction in predictions]
        if kind == "score":
            rows.append(
                {"ground_truth": text, "prediction": predictions[0], "score": 1 + 4 * values[0] + rng.normal(0, noise)}
            )
        else:
            first = rng.random() < 1 / (1 + np.exp(-(values[0] - values[1]) / noise))
            rows.append(
                {
                    "ground_truth": text,
                    "prediction_a": predictions[0],
                    "prediction_b": predictions[1],
                    "preferred": "a" if first else "b",
                }
            )
    return rows


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def opinions_of(path):
    rows, problems = read_rows(path)
    opinions, dimensions, more = read_opinions(rows, TAXONOMY, CONFIG)
    return opinions, dimensions, [*problems, *more]


@pytest.mark.parametrize(("kind", "tolerance"), [("score", 0.03), ("preference", 0.08)])
def test_it_recovers_the_weights_that_people_have(tmp_path, kind, tolerance):
    opinions, dimensions, problems = opinions_of(write(tmp_path / "people.jsonl", people(kind, 300)))
    assert dimensions == DIMENSIONS and not problems
    found = fit(opinions, dimensions, CONFIG)
    assert sum(found.weights.values()) == pytest.approx(1.0)
    assert found.weights == pytest.approx(WEIGHTS, abs=tolerance)
    assert found.better and found.fitted > found.uniform, "held-out agreement"
    assert found.settled


def test_people_who_weigh_evenly_give_no_gain(tmp_path):
    even = dict.fromkeys(DIMENSIONS, 1.0)
    opinions, dimensions, _ = opinions_of(write(tmp_path / "p.jsonl", people("preference", 120, even, noise=0.1)))
    found = fit(opinions, dimensions, CONFIG)
    assert not found.better
    assert found.weights == pytest.approx(dict.fromkeys(DIMENSIONS, 1 / 3), abs=0.12)


def test_little_data_leaves_them_near_uniform(tmp_path):
    opinions, dimensions, _ = opinions_of(write(tmp_path / "p.jsonl", people("preference", 4)))
    assert fit(opinions, dimensions, CONFIG).weights == pytest.approx(dict.fromkeys(DIMENSIONS, 1 / 3), abs=0.25)


@pytest.mark.parametrize("config", [CONFIG, RewardConfig(overlap_gate=True), RewardConfig(alpha=0.0)])
def test_its_label_is_the_rewards_label(config):
    """Matching, renormalising over the dimensions that a segment has, and dividing are those of the reward."""
    rng = np.random.default_rng(1)
    weights = np.array([WEIGHTS[d] for d in DIMENSIONS])
    texts, expected = [], []
    for _ in range(20):
        truth = some_truth(rng)
        start, end, (size, transition, _) = truth[0]
        truth[0] = (start, end, (size, transition, None))
        prediction = some_prediction(rng, truth[: rng.integers(1, 4)])
        texts.append((prediction, parse_text(truth)))
        settings = {"dimension_weights": WEIGHTS, "alpha": config.alpha, "overlap_gate": config.overlap_gate}
        components = score("temporal_grounding", *texts[-1], config=settings).components
        expected.append([components["label"], components["iou"], components["format"]])
    parses = features([read_parse(*pair, DIMENSIONS, TAXONOMY, config) for pair in texts], weights, config)
    assert label_scores(parses, weights)[0] == pytest.approx([row[0] for row in expected])
    assert parses.others == pytest.approx(np.array([row[1:] for row in expected]))


def test_the_slopes_are_those_of_the_label():
    rng = np.random.default_rng(2)
    truth = some_truth(rng)
    parses = [read_parse(some_prediction(rng, truth), parse_text(truth), DIMENSIONS, TAXONOMY, CONFIG)] * 2
    weights, step = np.array([0.5, 0.2, 0.3]), 1e-6
    flat = features(parses, weights, CONFIG)
    for k in range(3):
        moved = weights + step * np.eye(3)[k]
        slope = (label_scores(flat, moved)[0] - label_scores(flat, weights)[0]) / step
        assert label_scores(flat, weights)[1][:, k] == pytest.approx(slope, abs=1e-5)


def test_unreadable_and_empty_predictions_are_opinions_too():
    truth = parse_text([(0.0, 5.0, ("close-up", "hard cut", "objective"))])
    for prediction in ("no JSON", '{"segments": []}'):
        parse = read_parse(prediction, truth, DIMENSIONS, TAXONOMY, CONFIG)
        flat = features([parse], np.ones(3), CONFIG)
        assert label_scores(flat, np.ones(3))[0].tolist() == [0.0]
        assert flat.others[0, 0] == 0.0


def test_bad_lines_are_listed_with_their_reason(tmp_path):
    good = people("preference", 6)
    one = parse_text([(0.0, 5.0, ("close-up", None, None))])
    bad = {
        "{oops": "is not JSON",
        "[1]": "is no object",
        json.dumps(good[0] | {"preferred": "first"}): "preferred is 'first'",
        json.dumps(good[0] | {"prediction_b": good[0]["prediction_a"]}): "are the same",
        json.dumps(good[0] | {"ground_truth": 3}): "ground_truth is 3",
        '{"ground_truth": "[]", "prediction": "[]", "score": 1' + "0" * 400 + "}": "give a number, in size at most",
        json.dumps(good[0] | {"ground_truth": '{"segments": []}'}): "holds no segment",
        json.dumps(good[0] | {"ground_truth": one.replace("close-up", "closeup")}): "is no canonical tag",
    }
    path = write(tmp_path / "votes.jsonl", [*good, *bad])
    done = CliRunner().invoke(main, ["fit-weights", str(path)])
    assert done.exit_code == 0, done.output
    for number, reason in enumerate(bad.values(), 7):
        assert any(f"line {number}: " in line and reason in line for line in done.stderr.splitlines()), reason
    assert "8 lines left out" in done.stderr


def test_votes_on_one_pair_are_pooled(tmp_path):
    """The same pair three times, once the other way round: two votes for one prediction, one for the other."""
    rows = people("preference", 5)
    pair = rows[0] | {"preferred": "a"}
    swapped = pair | {"prediction_a": pair["prediction_b"], "prediction_b": pair["prediction_a"], "preferred": "a"}
    opinions, _, _ = opinions_of(write(tmp_path / "v.jsonl", [pair, pair, swapped, *rows[1:]]))
    assert len(opinions) == 5
    first = min(pair["prediction_a"], pair["prediction_b"])
    assert opinions[0].value == pytest.approx(2 / 3 if first == pair["prediction_a"] else 1 / 3)


def test_a_contradiction_counts_for_neither(tmp_path):
    rows = people("preference", 30)
    undone = rows[0] | {"preferred": "b" if rows[0]["preferred"] == "a" else "a"}
    done = CliRunner().invoke(main, ["fit-weights", str(write(tmp_path / "v.jsonl", [*rows, undone]))])
    assert "pooled from 31 lines" in done.stdout and "not in the agreement: 1" in done.stdout


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (lambda: people("score", 1), "at least 2"),
        (lambda: [row | {"score": 3} for row in people("score", 5)], "every score is 3"),
        (lambda: [*people("score", 3), *people("preference", 3)], "line 1 and line 4 are of two kinds"),
        (lambda: [row | {"preferred": None} for row in people("preference", 5)], "no pair has a majority"),
        (lambda: ["{}"], "no usable line"),
        (
            lambda: [
                {
                    "ground_truth": parse_text([(0.0, end, ("close-up", None, None))]),
                    "prediction": parse_text([(0.0, 5.0, ("close-up", None, None))]),
                    "score": end,
                }
                for end in (4.0, 5.0, 6.0)
            ],
            "no true segment has labels of two dimensions",
        ),
    ],
)
def test_what_cannot_be_fitted_is_said(tmp_path, rows, said):
    done = CliRunner().invoke(main, ["fit-weights", str(write(tmp_path / "rows.jsonl", rows()))])
    assert done.exit_code == 1 and said in done.stderr


def test_the_command_writes_settings_that_the_rewards_read(tmp_path):
    path = write(tmp_path / "scores.jsonl", people("score", 80))
    done = CliRunner().invoke(main, ["fit-weights", str(path), "-o", str(tmp_path / "weights.yaml")])
    assert done.exit_code == 0, done.output
    assert "rank correlation with scores, 80 opinions on 80 ground truths, 5 held-out parts" in done.stdout
    weights = RewardConfig.read(OmegaConf.load(tmp_path / "weights.yaml")).dimension_weights
    assert set(weights) == set(DIMENSIONS)
    assert sum(weights.values()) == pytest.approx(3.0, abs=1e-4), "mean 1"
    assert weights["camera_language"] > weights["subject"] > weights["editing"]
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


def test_without_a_gain_nothing_is_written_unless_asked(tmp_path):
    even = dict.fromkeys(DIMENSIONS, 1.0)
    path, out = write(tmp_path / "v.jsonl", people("preference", 40, even, noise=0.3)), tmp_path / "weights.yaml"
    done = CliRunner().invoke(main, ["fit-weights", str(path), "-o", str(out)])
    assert done.exit_code == 0 and "No gain" in done.stdout and not out.exists()
    nowhere = CliRunner().invoke(main, ["fit-weights", str(path), "-o", str(tmp_path / "new" / "weights.yaml")])
    assert "there is no folder" in nowhere.output
    CliRunner().invoke(main, ["fit-weights", str(path), "-o", str(out), "--anyway"])
    assert RewardConfig.read(OmegaConf.load(out)).dimension_weights


def test_settings_have_mean_1():
    assert settings({"a": 0.75, "b": 0.25}) == {"dimension_weights": {"a": 1.5, "b": 0.5}}


def test_opinions_are_needed():
    with pytest.raises(FitError, match="at least 2"):
        fit([], DIMENSIONS, CONFIG)
