"""Files below a DEST: folders made as they are needed, each file there whole or not at all."""

import os
import tempfile
from pathlib import Path

from pipeline import files
from pipeline.errors import InputError


class Tree:
    """A folder that an export fills. No link inside it leads the export anywhere else."""

    def __init__(self, root: Path) -> None:
        """Makes the folder. Raises OSError, and InputError where there is a file of its name."""
        if root.exists() and not root.is_dir():
            raise InputError(f"{root} is a file; this format writes a folder: name another one")
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self._real = os.path.realpath(root)
        self._folders: set[str] = set()

    def path(self, name: str) -> Path:
        """Where a file of this name belongs; its folder is there then. Raises OSError and InputError."""
        folder = name.rpartition("/")[0]
        if folder not in self._folders:
            made = self.root / folder
            real = os.path.realpath(made)
            if real != self._real and not real.startswith(os.path.join(self._real, "")):  # noqa: PTH118 - of texts
                raise InputError(f"{made} is a link that leads out of {self.root}; move it away, or name another DEST")
            made.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
        return self.root / name

    def write(self, name: str, data: bytes) -> None:
        """Replace one file."""
        files.write_atomic(self.path(name), data, durable=False)


def folds_names(folder: Path) -> bool:
    """Whether names that differ in case are one file there, as on most Macs."""
    with tempfile.NamedTemporaryFile(prefix=".vision-batch-a", dir=folder) as file:
        return Path(file.name.replace(".vision-batch-a", ".vision-batch-A")).exists()
