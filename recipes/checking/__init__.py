"""The preflight: everything about a GRPO recipe that can be known before a GPU is paid for (`sv6d check`, docs/check.md)."""

from .finding import Finding
from .table import CHECKS, Check, check, line, quick, refuse

__all__ = ["CHECKS", "Check", "Finding", "check", "line", "quick", "refuse"]
