"""From a row of an output directory back to the bytes of its image, from any working directory.

Bytes are given only where their SHA-256 is that of the row: what the run has read, and nothing else that may lie under
the name today. Nothing is fetched; of an image behind an address the address is given.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
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

    def __init__(self, out: str | Path) -> None:
        """Reads what runs have noted of their sources; rows of earlier versions are looked for from here."""
        out = Path(out)
        here = Origin("", (os.getcwd(),))  # noqa: PTH109 - text, as all paths here
        self._origins = [(here, frozenset[str]()), *read_origins(out)][::-1]
        try:
            config = last_config(out)
        except InputError:
            config = None
        self._max_bytes = int((256 if config is None else config.images.max_file_mb) * _MEGABYTE)
        self._containers = Containers(None if config is None else config.source)
        self._of_run: dict[str, _Places] = {}
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
        places = self._places_of(row.get("run_id"))
        found = self._read(name, digest, places) if isinstance(digest, str) and digest else Original(State.UNREAD)
        if found.state is State.FOUND or places.address is None:
            return found
        where = None if name.startswith("/") else below_address(places.address)(name)
        return Original(State.REMOTE, address=where.url) if isinstance(where, ImageUrl) else found

    def locate(self, row: Mapping[str, object]) -> Original:
        """The same without reading the image, where only one file can be meant: what lies beside it is wanted."""
        name = row.get("image")
        if isinstance(name, str) and name and isinstance(row.get("sha256"), str):
            places = self._places_of(row.get("run_id"))
            there = [one.path for one in _files(name, places.own) if os.path.isfile(one.path)]  # noqa: PTH113 - as above
            if len(there) == 1:
                return Original(State.FOUND, path=there[0])
        return replace(self.open(row), data=None)

    def in_shard(self, row: Mapping[str, object]) -> tuple[str, str] | None:
        """The tar that holds a row's image, and the name of the member; None where no tar of this machine does."""
        name = row.get("image")
        if not isinstance(name, str):
            return None
        for location in _files(name, self._places_of(row.get("run_id")).folders):
            found = in_tar(location.path)
            if found is not None and os.path.isfile(found[0]):  # noqa: PTH113 - as above
                return found
        return None

    def _read(self, name: str, digest: str, places: "_Places") -> Original:
        is_changed = False
        for location in self._candidates(name, places):
            data = read_image(location, self._max_bytes)
            if isinstance(data, Failure):
                continue
            if hashlib.sha256(data).hexdigest() == digest:
                return Original(State.FOUND, data, local_path(location))
            is_changed = True
        return Original(State.CHANGED if is_changed else State.MISSING)

    def _places_of(self, run_id: object) -> "_Places":
        key = run_id if isinstance(run_id, str) else ""
        with self._lock:
            if key not in self._of_run:
                self._of_run[key] = _Places.of(key, self._origins)
            return self._of_run[key]

    def _candidates(self, name: str, places: "_Places") -> Iterator[Location]:
        for location in _files(name, places.folders):
            yield location
            yield from self._containers.in_tar(location.path)
        for spelt in spellings(name):
            yield from self._containers.in_tables(places.tables, spelt)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the images of one run may be."""

    own: tuple[str, ...]
    """Folders of the run's own sources; of all, where they were not noted."""
    folders: tuple[str, ...]
    """These first, then those of the other runs, the latest first."""
    tables: tuple[str, ...]
    address: str | None
    """Of the run's own manifest, where it came from elsewhere."""

    @classmethod
    def of(cls, run_id: str, origins: list[tuple[Origin, frozenset[str]]]) -> "_Places":
        ordered = sorted(origins, key=lambda one: run_id not in one[1])
        own = [origin for origin, runs in ordered if run_id in runs]
        folders = tuple(dict.fromkeys(folder for origin, _ in ordered for folder in origin.folders))
        return cls(
            own=tuple(dict.fromkeys(folder for origin in own for folder in origin.folders)) or folders,
            folders=folders,
            tables=tuple(dict.fromkeys(file for origin, _ in ordered for file in origin.files)),
            address=next((origin.address for origin in own if origin.address), None),
        )


def _files(name: str, folders: Iterable[str]) -> Iterator[LocalFile]:
    """The files that may be meant, whether they are there or not."""
    seen: set[str] = set()
    for spelt in spellings(name):
        is_address = scheme_of(spelt) == "file"
        where = location_of(spelt, "") if is_address else None
        for folder in ("",) if is_address else folders:
            path = where.path if isinstance(where, LocalFile) else os.path.join(folder, spelt)  # noqa: PTH118 - it may be no UTF-8
            if path not in seen:
                seen.add(path)
                yield LocalFile(name, path)
