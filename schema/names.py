"""Hints for errors: which known names look like an unknown one."""

from collections.abc import Iterable
from difflib import get_close_matches


def near_names(name: str, known: Iterable[str]) -> str:
    """Up to three known names that look like `name`, for the mend of an error; all of them where they are few."""
    known = [str(k) for k in known]
    close = get_close_matches(str(name), known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
