"""Balanced sampling over tags and data sets (section 3.2: "to prevent category imbalance"): common ones are thinned, rare ones kept."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .stats import row_tags

Row = Mapping[str, Any]


def keep_shares(rows: Iterable[Row], cap: float | None = None) -> dict[tuple[str, str], float]:
    """(`dimension.sub_dimension`, tag) -> the share of its rows to keep, at most 1.

    Args:
        cap: rows of a tag above which it is thinned; default: twice the geometric mean of its sub-dimension's counts.
    """
    counts = Counter(pair for row in rows for pair in row_tags(row["reward_model"]["ground_truth"]))
    of: dict[str, list[int]] = {}
    for (name, _), count in counts.items():
        of.setdefault(name, []).append(count)
    limits = {name: cap or 2 * math.exp(sum(map(math.log, found)) / len(found)) for name, found in of.items()}
    return {pair: min(1.0, limits[pair[0]] / count) for pair, count in counts.items()}


def keeps(row: Row, shares: Mapping[tuple[str, str], float], seed: int) -> bool:
    """Whether a row stays: with the greatest share among its tags, so that no rare tag is lost with a common one. A row
    without tags stays. The same row, shares and seed decide alike, whatever the order."""
    tags = row_tags(row["reward_model"]["ground_truth"])
    share = max((shares.get(pair, 1.0) for pair in tags), default=1.0)
    return share >= 1.0 or _lot(row, seed) < share


def _lot(row: Row, seed: int) -> float:
    info = row.get("extra_info") or {}
    name = repr((seed, row["data_source"], info.get("dataset"), info.get("id"), info.get("index"), row["prompt"]))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
