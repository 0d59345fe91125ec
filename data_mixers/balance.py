"""Balanced sampling over tags and data sets (section 3.2: "to prevent category imbalance"): common ones are thinned, rare ones kept.

Public annotations name no categories of video; the data set that a row comes from stands for its category.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .stats import UNNAMED, row_tags

Row = Mapping[str, Any]
DATASET = "dataset"
"""Counted as if it were a sub-dimension whose tags are the names of data sets."""


def keep_shares(rows: Iterable[Row], cap: float | None = None) -> dict[tuple[str, str], float]:
    """(`dimension.sub_dimension`, tag) or (`dataset`, name) -> the share of its rows to keep, at most 1.

    Args:
        cap: rows of a tag or data set above which it is thinned; default: twice the geometric mean of the counts of its
            sub-dimension, or of the data sets.
    """
    counts = Counter(pair for row in rows for pair in (*row_tags(row["reward_model"]["ground_truth"]), _dataset(row)))
    of: dict[str, list[int]] = {}
    for (name, _), count in counts.items():
        of.setdefault(name, []).append(count)
    limits = {name: cap or 2 * math.exp(sum(map(math.log, found)) / len(found)) for name, found in of.items()}
    return {pair: min(1.0, limits[pair[0]] / count) for pair, count in counts.items()}


def keeps(row: Row, shares: Mapping[tuple[str, str], float], seed: int) -> bool:
    """Whether a row stays. One with a tag that is not too common does, so that no rare tag is lost with a common one or a large
    data set; of others stays the greatest share among their tags, or their data set's where that is less. The same row, shares
    and seed decide alike, whatever the order."""
    tags = [shares.get(pair, 1.0) for pair in row_tags(row["reward_model"]["ground_truth"])]
    share = 1.0 if 1.0 in tags else min(max(tags, default=1.0), shares.get(_dataset(row), 1.0))
    return share >= 1.0 or _lot(row, seed) < share


def _dataset(row: Row) -> tuple[str, str]:
    return DATASET, (row.get("extra_info") or {}).get("dataset") or UNNAMED


def _lot(row: Row, seed: int) -> float:
    info = row.get("extra_info") or {}
    name = repr((seed, row["data_source"], info.get("dataset"), info.get("id"), info.get("index"), row["prompt"]))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
