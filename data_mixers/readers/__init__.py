"""Readers of public annotations: each file format becomes `Example`s, and what cannot is listed with file, line and reason."""

from .found import BadRow, Found, Reader, Source
from .table import READERS

__all__ = ["READERS", "BadRow", "Found", "Reader", "Source"]
