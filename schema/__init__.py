"""What a parse is: the taxonomy, the 13 task types, segments and documents, and reading them from text (section 2)."""

from .document import Document, DocumentError, Shot, SkeletonSegment, check_document, merge_shots, read_document
from .ground_truth import GroundTruthError, validate_ground_truth
from .tasks import FAMILIES, TASKS, Task, TaskError, find_task, load_tasks
from .taxonomy import Taxonomy, TaxonomyError

__all__ = [
    "FAMILIES",
    "TASKS",
    "Document",
    "DocumentError",
    "GroundTruthError",
    "Shot",
    "SkeletonSegment",
    "Task",
    "TaskError",
    "Taxonomy",
    "TaxonomyError",
    "check_document",
    "find_task",
    "load_tasks",
    "merge_shots",
    "read_document",
    "validate_ground_truth",
]
