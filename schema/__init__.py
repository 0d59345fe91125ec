"""What a parse is: the taxonomy, the 13 task types, segments and documents, and reading them from text (section 2)."""

from .ground_truth import GroundTruthError, validate_ground_truth
from .tasks import FAMILIES, TASKS, Task, TaskError, find_task, load_tasks
from .taxonomy import Taxonomy, TaxonomyError

__all__ = [
    "FAMILIES",
    "TASKS",
    "GroundTruthError",
    "Task",
    "TaskError",
    "Taxonomy",
    "TaxonomyError",
    "find_task",
    "load_tasks",
    "validate_ground_truth",
]
