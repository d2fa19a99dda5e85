"""From a row of an output directory back to the bytes of its image, from any working directory.

Bytes are given only where their SHA-256 is that of the row: what the run has read, and nothing else that may lie under
the name today. Nothing is fetched; of an image behind an address the address is given.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from threading import Lock

from pipeline.errors import InputError
from pipeline.images.locate import read_image
from pipeline.locations import ImageUrl, LocalFile, Location, Origin
from pipeline.originals.containers import Containers, in_tar
from pipeline.originals.spelling import spellings
from pipeline.records import Failure
from pipeline.sources.naming import local_path, location_of, scheme_of
from pipeline.sources.places import below_address
from pipeline.store.opening import last_config
from pipeline.store.origins import read_origins

__all__ = ["Original", "Originals", "State"]

_MEGABYTE = 1 << 20


class State(StrEnum):
    """What became of an original."""

    FOUND = "found"
    MISSING = "missing"
    """Nothing lies where the run read it."""
    CHANGED = "changed"
    """Other bytes lie there."""
    REMOTE = "remote"
    """It is behind an address."""
    UNREAD = "unread"
    """The run read no bytes of it: the row has no `sha256`."""


@dataclass(frozen=True, slots=True)
class Original:
    """The image of one row."""

    state: State
    data: bytes | None = None
    """Its bytes, where it was found."""
    path: str | None = None
    """Where it was found, if it is a file of its own."""
    address: str | None = None
    """Where it is remote."""


class Originals:
    """The images of one output directory. Threads may share it; making several is cheap, too."""

    def __init__(self, out: Path) -> None:
        """Reads what runs have noted of their sources; rows of earlier versions are looked for from here."""
        here = Origin("", (os.getcwd(),))  # noqa: PTH109 - text, as all paths here
        self._origins = [(here, frozenset[str]()), *read_origins(out)][::-1]
        try:
            config = last_config(out)
        except InputError:
            config = None
        self._max_bytes = int((256 if config is None else config.images.max_file_mb) * _MEGABYTE)
        self._containers = Containers(None if config is None else config.source)
        self._of_run: dict[str, tuple[list[Origin], str | None]] = {}
        self._lock = Lock()

    def open(self, row: Mapping[str, object]) -> Original:
        """The image of a row with `image`, `sha256` and `run_id`: its first, where it has several.

        An entry of `images`, with the row's `run_id`, is such a row too.
        Raises ResourceError where this process has no file handle or memory left.
        """
        name, digest = row.get("image"), row.get("sha256")
        if not isinstance(name, str) or not name:
            return Original(State.UNREAD)
        if scheme_of(name) not in {None, "file", "data"}:
            return Original(State.REMOTE, address=name)
        origins, base = self._origins_of(row.get("run_id"))
        found = self._read(name, str(digest), origins) if digest else Original(State.UNREAD)
        if found.state is State.FOUND or base is None:
            return found
        where = None if name.startswith("/") else below_address(base)(name)
        return Original(State.REMOTE, address=where.url) if isinstance(where, ImageUrl) else found

    def locate(self, row: Mapping[str, object]) -> Original:
        """The same without reading the image, where only one file can be meant: what lies beside it is wanted."""
        name = row.get("image")
        if isinstance(name, str) and name and row.get("sha256"):
            origins, _ = self._origins_of(row.get("run_id"))
            candidates = (local_path(location) for location in self._files(name, origins))
            there = [path for path in candidates if path is not None and os.path.isfile(path)]  # noqa: PTH113 - as above
            if len(there) == 1:
                return Original(State.FOUND, path=there[0])
        return replace(self.open(row), data=None)

    def in_shard(self, row: Mapping[str, object]) -> tuple[str, str] | None:
        """The tar that holds a row's image, and the name of the member; None where no tar of this machine does."""
        name = row.get("image")
        if not isinstance(name, str):
            return None
        for location in self._files(name, self._origins_of(row.get("run_id"))[0]):
            found = in_tar(location.path)
            if found is not None and os.path.isfile(found[0]):  # noqa: PTH113 - as above
                return found
        return None

    def _read(self, name: str, digest: str, origins: list[Origin]) -> Original:
        is_changed = False
        for location in self._candidates(name, origins):
            data = read_image(location, self._max_bytes)
            if isinstance(data, Failure):
                continue
            if hashlib.sha256(data).hexdigest() == digest:
                return Original(State.FOUND, data, local_path(location))
            is_changed = True
        return Original(State.CHANGED if is_changed else State.MISSING)

    def _origins_of(self, run_id: object) -> tuple[list[Origin], str | None]:
        """Those of the row's own run first, then the others, the latest first; and its manifest's address."""
        key = run_id if isinstance(run_id, str) else ""
        with self._lock:
            if key not in self._of_run:
                ordered = sorted(self._origins, key=lambda one: key not in one[1])
                base = next((origin.address for origin, runs in ordered if key in runs and origin.address), None)
                self._of_run[key] = [origin for origin, _ in ordered], base
            return self._of_run[key]

    def _candidates(self, name: str, origins: list[Origin]) -> Iterator[Location]:
        for location in self._files(name, origins):
            yield location
            yield from self._containers.in_tar(location.path)
        for spelt in spellings(name):
            for table in dict.fromkeys(file for origin in origins for file in origin.files):
                yield from self._containers.in_table(table, spelt)

    def _files(self, name: str, origins: list[Origin]) -> Iterator[LocalFile]:
        """The files that may be meant, whether they are there or not."""
        seen: set[str] = set()
        for spelt in spellings(name):
            where = location_of(spelt, "")
            folders = [""] if isinstance(where, LocalFile) and scheme_of(spelt) == "file" else _folders(origins)
            for folder in folders:
                path = os.path.join(folder, where.path if isinstance(where, LocalFile) else spelt)  # noqa: PTH118 - it may be no UTF-8
                if path not in seen:
                    seen.add(path)
                    yield LocalFile(name, path)


def _folders(origins: list[Origin]) -> list[str]:
    return list(dict.fromkeys(folder for origin in origins for folder in origin.folders))
