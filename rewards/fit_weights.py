"""Learning the weights w_k of eq. 9 from what people think of parses: "learned weights ... tuned on a held-out validation set".

People score parses, or say which of two they prefer. What the reward measures of a parse, Label with its w_k, IoU and Format,
explains their opinion linearly (scores: least squares) or through a logistic (preferences: Bradley-Terry). The w_k are those
that explain it best, on the logarithm under a standard normal prior, so that little data leaves them uniform.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import spearmanr

from ..schema import Taxonomy
from ..schema.answer import read_segments
from ..schema.ground_truth import TrueSegment, read_true_segments
from . import score
from .config import RewardConfig
from .labels import LabelTable
from .matching import in_order, most_segments, read_truth
from .segments import Times, iou_matrix, match
from .sv6d import cost_matrix

MAX_ROUNDS = 20
"""Matching (eq. 6) depends on the weights and the weights on the matching: they are found in turns, at most so many."""

BOOTSTRAPS = 1000
"""Resamples of the held-out rows behind each standard error."""

COEFFICIENT_SCALE = 20.0
"""Standard deviation of the prior on what Label, IoU and Format weigh in a preference; it only keeps them finite."""

Progress = Callable[[Sequence[int], str], Sequence[int]]


class Parse(NamedTuple):
    """What there is to know of one prediction beside its truth, before any weight."""

    iou: np.ndarray
    """(N_pred, N_true)."""
    distances: np.ndarray
    """d_k, (K, N_pred, N_true); 0 where the true segment does not annotate the dimension."""
    annotated: np.ndarray
    """Whether a true segment annotates a dimension, (K, N_true)."""
    larger: int
    """max(N_pred, N_true)."""
    format: float


class Opinion(NamedTuple):
    """What people think: of one parse a score, of two the share of votes for the first."""

    truth: str
    """Opinions on one ground truth are held out together."""
    first: Parse
    second: Parse | None
    value: float


class Features(NamedTuple):
    """Parses with their pairs matched, flat; `Label` is a function of the weights alone from here on."""

    distances: np.ndarray
    """(pairs, K)."""
    annotated: np.ndarray
    """(pairs, K)."""
    owner: np.ndarray
    """Which parse a pair belongs to: (pairs,)."""
    larger: np.ndarray
    """(parses,)."""
    others: np.ndarray
    """IoU and Format: (parses, 2)."""


class Fit(NamedTuple):
    """Weights, and how well they agree with people on rows that they were not fitted to."""

    weights: dict[str, float]
    """w_k by dimension, sum 1."""
    spread: dict[str, float]
    """Standard deviation of each w_k over the folds."""
    fitted: float
    """Agreement of the fitted weights on held-out rows: share of preferences, or Spearman's rank correlation."""
    fitted_error: float
    uniform: float
    """The same for uniform weights, with everything else fitted as well."""
    uniform_error: float
    gain_error: float
    """Standard error of the difference, over resampled rows."""
    folds: int
    rounds: int
    settled: bool
    """Whether the matching stopped changing."""

    @property
    def gain(self) -> float:
        return self.fitted - self.uniform

    @property
    def better(self) -> bool:
        """Whether the gain is more than two standard errors."""
        return self.gain > 2.0 * self.gain_error


class FitError(ValueError):
    """Opinions from which no weights can be learnt; the message says why, and what would do."""


def read_parse(
    prediction: str, ground_truth: str, dimensions: Sequence[str], taxonomy: Taxonomy, config: RewardConfig
) -> Parse:
    """The distances of a prediction from its truth, dimension by dimension.

    Raises:
        GroundTruthError: names the field, the value and the mend.
        FitError: the ground truth is empty.
    """
    true = read_true_segments(ground_truth, taxonomy, labelled=True)
    if not true:
        raise FitError("the ground truth holds no segment; leave the row out")
    whole = read_truth(ground_truth, taxonomy, True)
    answer = read_segments(prediction, whole.labels.common_dimensions, whole.max_length)
    said = in_order(answer.segments) if answer.count <= most_segments(whole) else []
    iou = iou_matrix(Times.of(said), Times.of(true))
    components = score("temporal_grounding", prediction, ground_truth, taxonomy=taxonomy, config=config).components
    distances = np.zeros((len(dimensions), *iou.shape))
    annotated = np.array([[any(d == k for d, _ in s.labels) for s in true] for k in dimensions]).reshape(-1, len(true))
    for k, dimension in enumerate(dimensions):
        if said and annotated[k].any():
            table = LabelTable([_only(segment, dimension) for segment in true], taxonomy, {})
            columns = table.columns(said)
            distances[k] = table.distances(table.states(columns), columns) * annotated[k]
    return Parse(iou, distances, annotated, max(answer.count, len(true)), components["format"])


def several_dimensions(parse: Parse) -> bool:
    """Whether any true segment annotates two dimensions or more; else no weight has any effect (they are renormalised)."""
    return bool((parse.annotated.sum(axis=0) > 1).any())


def features(parses: Sequence[Parse], weights: np.ndarray, config: RewardConfig) -> Features:
    """The parses with their segments matched under the weights (eq. 6, 7)."""
    distances, annotated, owner, iou = [], [], [], np.zeros(len(parses))
    for i, parse in enumerate(parses):
        if not parse.iou.size:
            continue
        total = weights @ parse.annotated
        delta = np.einsum("k,kpt->pt", weights, parse.distances) / np.where(total > 0.0, total, 1.0)
        if config.overlap_gate:
            delta[parse.iou <= 0.0] = 1.0
        rows, columns = match(cost_matrix(parse.iou, delta, config.alpha))
        pairs = parse.distances[:, rows, columns].T
        if config.overlap_gate:
            pairs = np.where((parse.iou[rows, columns] > 0.0)[:, None], pairs, 1.0)
        distances.append(pairs)
        annotated.append(parse.annotated[:, columns].T)
        owner.append(np.full(len(rows), i))
        iou[i] = parse.iou[rows, columns].sum()
    larger = np.array([parse.larger for parse in parses], dtype=float)
    none = np.zeros((0, len(weights)))
    return Features(
        np.concatenate([none, *distances]),
        np.concatenate([none, *annotated]),
        np.concatenate([np.zeros(0, int), *owner]),
        larger,
        np.column_stack([iou / larger, [parse.format for parse in parses]]),
    )


def label_scores(parses: Features, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label of every parse (Table 4, in [0, 1]) and its derivative by each w_k: (parses,), (parses, K)."""
    total = parses.annotated @ weights
    asked = total > 0.0
    total = np.where(asked, total, 1.0)
    delta = (parses.distances * parses.annotated) @ weights / total
    slope = parses.annotated * (parses.distances - delta[:, None]) / total[:, None]
    count = len(parses.larger)
    labels = np.bincount(parses.owner, 1.0 - delta, count) / parses.larger
    slopes = np.column_stack([np.bincount(parses.owner, -column, count) / parses.larger for column in slope.T])
    return labels, slopes


def fit(
    opinions: Sequence[Opinion],
    dimensions: Sequence[str],
    config: RewardConfig,
    folds: int = 5,
    seed: int = 0,
    progress: Progress = lambda items, what: items,
) -> Fit:
    """The weights of `dimensions`, and their agreement with people on held-out rows beside that of uniform weights.

    Args:
        opinions: all scores, or all preferences.
        folds: in how many parts the ground truths are held out in turn.
        progress: wraps a loop over folds.

    Raises:
        FitError: too few ground truths, nothing to choose between, or no parse in which a weight has any effect.
    """
    truths = sorted({opinion.truth for opinion in opinions})
    if len(truths) < 2:
        raise FitError(f"{len(truths)} ground truths: some must be held out while others are fitted; give at least 2")
    if opinions[0].second is None and len({opinion.value for opinion in opinions}) == 1:
        raise FitError(f"every score is {opinions[0].value:g}; give rows that people scored differently")
    if opinions[0].second is not None and all(opinion.value == 0.5 for opinion in opinions):
        raise FitError("no pair has a majority; give pairs of which people prefer one")
    if not any(several_dimensions(parse) for o in opinions for parse in (o.first, o.second) if parse):
        raise FitError(
            "no true segment has labels of two dimensions, and a weight is relative to the others; give ground truths "
            "that are labelled in several dimensions"
        )
    folds = min(folds, len(truths))
    fold_of = dict(zip(np.random.default_rng(seed).permutation(truths).tolist(), _cycle(folds), strict=False))
    places = np.array([fold_of[opinion.truth] for opinion in opinions])
    fitted, uniform, spread = np.zeros(len(opinions)), np.zeros(len(opinions)), []
    for fold in progress(range(folds), "holding out"):
        train = [o for o, place in zip(opinions, places, strict=True) if place != fold]
        held_out = [o for o, place in zip(opinions, places, strict=True) if place == fold]
        model, _, _ = _fit_in_turns(train, len(dimensions), config)
        even = _fit_once(train, np.ones(len(dimensions)), config, learn=False)
        fitted[places == fold] = _predict(held_out, model, config)
        uniform[places == fold] = _predict(held_out, even, config)
        spread.append(model.weights)
    model, rounds, settled = _fit_in_turns(opinions, len(dimensions), config)
    return Fit(
        dict(zip(dimensions, model.weights.tolist(), strict=True)),
        dict(zip(dimensions, np.std(spread, axis=0).tolist(), strict=True)),
        *_compare(opinions, fitted, uniform, seed),
        folds,
        rounds,
        settled,
    )


class _Model(NamedTuple):
    weights: np.ndarray
    """Sum 1."""
    coefficients: np.ndarray
    """Of Label, IoU and Format, each 0 or more."""
    constant: float


def _fit_in_turns(opinions: Sequence[Opinion], count: int, config: RewardConfig) -> tuple[_Model, int, bool]:
    """Match, fit, match again under the new weights, until no pair changes; the last model, rounds, and whether it settled."""
    weights, before = np.full(count, 1.0 / count), None
    for turn in range(1, MAX_ROUNDS + 1):
        model = _fit_once(opinions, weights, config)
        pairs = features(_parses(opinions), model.weights, config).distances
        if before is not None and np.array_equal(pairs, before):
            return model, turn, True
        before, weights = pairs, model.weights
    return model, MAX_ROUNDS, False


def _fit_once(opinions: Sequence[Opinion], matched_by: np.ndarray, config: RewardConfig, learn: bool = True) -> _Model:
    """The model under a fixed matching; with `learn` off, the weights stay uniform."""
    count = len(matched_by)
    parses = features(_parses(opinions), matched_by, config)
    values = np.array([opinion.value for opinion in opinions])
    preference = opinions[0].second is not None

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logs, coefficients, constant = parameters[:count], parameters[count : count + 3], parameters[-1]
        weights = np.exp(logs) / np.exp(logs).sum()
        labels, by_weight = label_scores(parses, weights)
        told = np.column_stack([labels, parses.others])
        by_log = (by_weight - (by_weight @ weights)[:, None]) * weights
        if preference:
            told, by_log = _differences(told), _differences(by_log)
        said = told @ coefficients + (0.0 if preference else constant)
        if preference:
            value = float(np.logaddexp(0.0, said).sum() - values @ said)
            by_said = expit(said) - values
        else:
            error = said - values
            squares = float(error @ error) + 1e-9
            value, by_said = 0.5 * len(values) * np.log(squares / len(values)), len(values) * error / squares
        value += 0.5 * float(logs @ logs) + 0.5 * float(coefficients @ coefficients) / COEFFICIENT_SCALE**2
        slope = np.concatenate(
            [
                coefficients[0] * (by_said @ by_log) * learn + logs,
                by_said @ told + coefficients / COEFFICIENT_SCALE**2,
                [0.0 if preference else by_said.sum()],
            ]
        )
        return value, slope

    start = np.concatenate([np.zeros(count), np.ones(3), [values.mean() - 1.0]])
    bounds = [(-5.0, 5.0) if learn else (0.0, 0.0)] * count + [(0.0, None)] * 3 + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}).x
    weights = np.exp(found[:count])
    return _Model(weights / weights.sum(), found[count : count + 3], float(found[-1]))


def _predict(opinions: Sequence[Opinion], model: _Model, config: RewardConfig) -> np.ndarray:
    """The expected score, or the log-odds of the first parse."""
    parses = features(_parses(opinions), model.weights, config)
    told = np.column_stack([label_scores(parses, model.weights)[0], parses.others])
    if opinions[0].second is not None:
        return _differences(told) @ model.coefficients
    return told @ model.coefficients + model.constant


def _compare(
    opinions: Sequence[Opinion], fitted: np.ndarray, uniform: np.ndarray, seed: int
) -> tuple[float, float, float, float, float]:
    """Agreement and standard error of both, and the standard error of their difference."""
    values = np.array([opinion.value for opinion in opinions])
    agree = _accuracy if opinions[0].second is not None else _rank_correlation
    rng = np.random.default_rng(seed)
    truths = {truth: i for i, truth in enumerate(dict.fromkeys(opinion.truth for opinion in opinions))}
    place = np.array([truths[opinion.truth] for opinion in opinions])
    rows = np.split(np.argsort(place, kind="stable"), np.cumsum(np.bincount(place))[:-1])
    samples = []
    for _ in range(BOOTSTRAPS):  # of ground truths, as opinions on one of them are not independent
        chosen = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        samples.append((agree(fitted[chosen], values[chosen]), agree(uniform[chosen], values[chosen])))
    by_fitted, by_uniform = np.array(samples).T
    errors = [float(np.nanstd(s)) for s in (by_fitted, by_uniform, by_fitted - by_uniform)]
    return agree(fitted, values), errors[0], agree(uniform, values), errors[1], errors[2]


def _accuracy(odds: np.ndarray, share: np.ndarray) -> float:
    """Share of the preferences that the odds foresee; a tie among people is left out, a tie of the odds is half right."""
    decided = share != 0.5
    right = np.where(odds == 0.0, 0.5, (odds > 0.0) == (share > 0.5))
    return float(right[decided].mean()) if decided.any() else float("nan")


def _rank_correlation(expected: np.ndarray, values: np.ndarray) -> float:
    if np.ptp(expected) == 0.0 or np.ptp(values) == 0.0:
        return 0.0
    return float(spearmanr(expected, values).statistic)


def _parses(opinions: Sequence[Opinion]) -> list[Parse]:
    """All first parses, then, for preferences, all second ones."""
    seconds = [opinion.second for opinion in opinions if opinion.second is not None]
    return [*(opinion.first for opinion in opinions), *seconds]


def _differences(rows: np.ndarray) -> np.ndarray:
    half = len(rows) // 2
    return rows[:half] - rows[half:]


def _only(segment: TrueSegment, dimension: str) -> TrueSegment:
    return segment._replace(labels={pair: tags for pair, tags in segment.labels.items() if pair[0] == dimension})


def _cycle(folds: int):
    while True:
        yield from range(folds)


def settings(weights: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The weights as `RewardConfig.read` takes them, scaled to mean 1: a dimension that is not named weighs 1."""
    scale = len(weights) / sum(weights.values())
    return {"dimension_weights": {name: round(weight * scale, 6) for name, weight in weights.items()}}
