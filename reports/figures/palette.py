"""The colours of page and printed figures: Okabe and Ito's, safe for colour-blind readers; grey and ink around them."""

PALETTE = {
    "light": {
        "series": ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6FB0"],
        "all": "#1b1f24",
        "last": "#0072B2",
        "first": "#6b7480",
        "bar": "#b6bec8",
        "context": "#b6bec8",
        "dead": "#D55E00",
        "ramp": ["#d3e4f2", "#9cc4e4", "#4e93c8", "#12518a"],
    },
    "dark": {
        "series": ["#56B4E9", "#F0803C", "#2BC79A", "#DE9BC1", "#F2B93B", "#F0E442", "#A79BE0"],
        "all": "#e8eaed",
        "last": "#56B4E9",
        "first": "#9aa4b0",
        "bar": "#4a5461",
        "context": "#59636f",
        "dead": "#F0803C",
        "ramp": ["#27394c", "#2f5f8a", "#4e93c8", "#a5d2f2"],
    },
}
"""`series` tells things apart, `ramp` goes from little to much; a trace names its colour, the page picks light or dark."""

SERIES = len(PALETTE["light"]["series"])


def flat(scheme: str) -> dict[str, str]:
    """Name -> colour, with `series-0`, ..., `ramp-0`, ... for the lists."""
    found = {}
    for name, value in PALETTE[scheme].items():
        found |= {f"{name}-{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
    return found
