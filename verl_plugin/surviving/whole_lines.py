"""Metrics on a full disk: verl's file logger would end the run at the first line that finds no room, or leave it cut short."""

import logging
from io import FileIO

logger = logging.getLogger(__name__)


class WholeLines:
    """The open file of verl's file logger. A line is written whole or not at all; those without room are counted.

    Attributes:
        lost: lines that found no room since the last one that did.
    """

    def __init__(self, file: FileIO):
        self._file, self.lost = file, 0

    def write(self, line: bytes) -> int:
        end = self._file.tell()
        try:
            short = len(line) - self._file.write(line)  # a disk that is nearly full takes a part, and that is no error
            reason = f"{short:,} bytes too many" if short else ""
        except OSError as error:
            reason = str(error)
        if not reason:
            self.lost = 0
            return len(line)
        self.lost += 1
        self._file.seek(end)
        self._file.truncate()
        logger.error("sv6d: a line found no room in %s (%s); training goes on", self._file.name, reason)
        return len(line)

    def close(self) -> None:
        self._file.close()


class LoggedTrainer:
    """Mixin over a V1 trainer."""

    _lines: WholeLines | None = None

    @property
    def logger(self):
        """verl's `Tracking`, which its `fit` makes."""
        return self._tracking

    @logger.setter
    def logger(self, tracking):
        self._tracking = tracking
        if "file" in tracking.logger:
            to_file = tracking.logger["file"]
            to_file.fp = self._lines = WholeLines(to_file.fp)

    def _compute_metrics(self, batch, metrics, timing_raw, global_steps, epoch):
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        if self._lines is not None:
            metrics["sv6d/unlogged_steps"] = self._lines.lost
