"""Diagnosis of a run: rules, each with its thresholds, its evidence and what to try."""

from .finding import Finding
from .rules import RULES, diagnose

__all__ = ["RULES", "Finding", "diagnose"]
