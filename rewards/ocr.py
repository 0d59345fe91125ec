"""OCR, regular and handwritten: EditDist of Table 4, read as a similarity: 1 - Levenshtein / length of the longer text.

Over code points, after NFC and stripping; both texts empty is 1; no threshold below which it drops to 0.
"""

from rapidfuzz.distance import Levenshtein

from ..schema import Taxonomy
from ..schema.answer import answer_text
from ..schema.ground_truth import read_true_text
from ..schema.marks import compose
from .config import RewardConfig

MAX_EXCESS = 4096
"""Of an answer, this many characters more than four times the truth are compared; each further one counts as one error,
as nearly all of them would anyway. It bounds the work."""

MAX_CELLS = 500_000_000
"""Of a truth of more than 10,000 characters, an answer's compared length times the truth's stays below this, though twice
the truth is always compared. It bounds the work."""


def reward(response: str, ground_truth: str, taxonomy: Taxonomy, config: RewardConfig) -> dict[str, float]:
    """The components of one response; `score` is the similarity."""
    truth = read_true_text(ground_truth)
    answer = answer_text(response)
    similarity = 0.0 if answer is None else text_similarity(answer, truth)
    return {"score": similarity, "similarity": similarity}


def text_similarity(answer: str, truth: str) -> float:
    """1 - Levenshtein / max length, in [0, 1]."""
    answer, truth, excess = compared_texts(answer, truth)
    longer = max(len(answer), len(truth)) + excess
    return 1.0 - (Levenshtein.distance(answer, truth) + excess) / longer if longer else 1.0


def compared_texts(answer: str, truth: str) -> tuple[str, str, int]:
    """Answer and truth as they are compared, and how many characters of the answer lie beyond what is compared."""
    truth = compose(truth).strip()
    answer = answer.strip()
    limit = min(4 * len(truth) + MAX_EXCESS, max(2 * len(truth), MAX_CELLS // max(1, len(truth))))
    excess = max(0, len(answer) - limit)
    return compose(answer[:limit]), truth, excess
