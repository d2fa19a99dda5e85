"""Datasets that `datasets.save_to_disk` has written: which Arrow files they consist of."""

import json
from pathlib import Path
from typing import Any, Final

from pipeline.errors import InputError
from pipeline.sources.naming import shown

_STATE: Final = "state.json"
_SPLITS: Final = "dataset_dict.json"


def dataset_files(folder: Path) -> list[str] | None:
    """The Arrow files of a dataset on disk, below its folder; None where the folder is none.

    Raises InputError where one of its descriptions cannot be read.
    """
    if (folder / _SPLITS).is_file():
        splits = _described(folder / _SPLITS, "splits")
        return [f"{split}/{name}" for split in splits for name in dataset_files(folder / split) or ()]
    if not (folder / _STATE).is_file():
        return None
    return [str(one["filename"]) for one in _described(folder / _STATE, "_data_files")]


def _described(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())[key]
        if isinstance(found, list) and found:
            return found
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{shown(str(path))}: describes no dataset that `datasets` has saved; save it again")
