"""How callers name files."""

from pathlib import Path

PathLike = str | Path
