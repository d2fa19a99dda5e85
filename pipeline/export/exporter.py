"""What an export format is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa


class Exporter(Protocol):
    """Writes rows in one format."""

    def __call__(self, batches: Iterator[pa.RecordBatch], dest: Path, /) -> int:
        """Write all rows to `dest`, whole or not at all. Returns their number.

        `batches` are bounded, and read while they are written: an exporter holds one batch at a time in memory.
        Raises OSError where the disk does not allow it.
        """
