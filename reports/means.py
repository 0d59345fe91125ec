"""The mean of what was measured: None and NaN, which both say "not measured", are left out."""

from __future__ import annotations

import math
from collections.abc import Iterable


def mean(values: Iterable[float | None]) -> float:
    """NaN where nothing was measured."""
    held = [float(value) for value in values if value is not None and not math.isnan(value)]
    return math.fsum(held) / len(held) if held else math.nan
