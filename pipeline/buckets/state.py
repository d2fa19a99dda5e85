"""The state directory of an OUT in a bucket: the live ledger and the parts being made, and what of them is uploaded."""

import hashlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline import files
from pipeline.cloud.stores import ObjectAddress
from pipeline.errors import InputError
from pipeline.files import disk_errors
from pipeline.store import parquet
from pipeline.store.layout import DATA_NAME

NAME: Final = "state.json"
_UPLOADED: Final = "uploaded.json"
_ENDPOINTS: Final = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "GOOGLE_BASE_URL", "AZURE_STORAGE_ENDPOINT")
Stamp = tuple[int, int]
"""Size and time of a file."""


def default_folder(address: ObjectAddress) -> Path:
    """In the user's cache, by the address and the endpoint that the environment names."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    where = "\0".join([str(address), *(os.environ.get(name, "") for name in _ENDPOINTS)])
    words = re.sub(r"[^A-Za-z0-9.]+", "-", f"{address.bucket}-{address.key}").strip("-.")[-60:].strip("-.")
    return cache / "vision-batch" / f"{words}-{hashlib.blake2b(where.encode(), digest_size=5).hexdigest()}"


class State:
    """One state directory, of one address."""

    def __init__(self, folder: Path, address: ObjectAddress) -> None:
        """Make it, or open it. Raises InputError where it is something else, or of another address."""
        self.folder, self.address = folder, address
        self.out, self.new, self.links = folder / "out", folder / "out.new", folder / "uploading"
        with disk_errors(folder):
            self.id = self._opened()

    def _opened(self) -> str:
        path = self.folder / NAME
        if not path.is_file():
            if self.folder.is_dir() and any(self.folder.iterdir()):
                raise InputError(
                    f"{self.folder} is not empty, and is no state directory of vision-batch: name another one "
                    "(`state=DIR`)"
                )
            self.folder.mkdir(parents=True, exist_ok=True)
            found = {"address": str(self.address), "id": secrets.token_hex(8)}
            files.write_atomic(path, orjson.dumps(found))
            return found["id"]
        stored = read_json(path)
        if stored.get("address") != str(self.address) or not isinstance(stored.get("id"), str):
            raise InputError(
                f"{self.folder} is the state directory of {stored.get('address')}, not of {self.address}: name another "
                "one (`state=DIR`)"
            )
        return str(stored["id"])

    @property
    def has_out(self) -> bool:
        return self.out.is_dir()

    def put_in_place(self) -> Path | None:
        """Make `out.new` the `out`; where what was there lies now, should there have been anything."""
        aside = None
        if self.has_out:
            aside = self.folder / f"out.aside-{secrets.token_hex(3)}"
            self.out.rename(aside)
        self.new.rename(self.out)
        parquet.sync_folder(self.folder)
        return aside

    def cleared(self, folder: Path) -> Path:
        """The folder, without anything in it."""
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder

    def uploaded(self) -> dict[str, Stamp]:
        """The parts that are in the bucket as they are here: their names and stamps."""
        stored = read_json(self.folder / _UPLOADED)
        return {name: (int(one[0]), int(one[1])) for name, one in stored.items()}

    def note_uploaded(self, parts: dict[str, Stamp]) -> None:
        """Remember them. It is not waited for: a part that is forgotten is uploaded once more."""
        files.write_atomic(self.folder / _UPLOADED, orjson.dumps(parts), durable=False)

    def parts(self) -> dict[str, Stamp]:
        """The parts that there are, by their names in the bucket."""
        return parts_in(self.out)


def parts_in(out: Path) -> dict[str, Stamp]:
    """The complete parts of an output directory, with their stamps, by their names in the bucket."""
    data = out / DATA_NAME
    numbers = parquet.part_numbers(data) if data.is_dir() else []
    names = map(parquet.part_name, numbers)
    return {f"{DATA_NAME}/{name}": stamp_of(data / name) for name in names}


def stamp_of(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def read_json(path: Path) -> dict[str, Any]:
    """The values of a small file; none where it is not there, or damaged."""
    try:
        found = orjson.loads(files.read(path))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
