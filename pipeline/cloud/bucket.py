"""One prefix of a bucket, read and written: whole objects, which appear at once, some of them on a condition."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

from pipeline.cloud.stores import ObjectAddress, failure_of, is_of_store, open_bucket
from pipeline.errors import BucketError, InputError

BLOCK_BYTES: Final = 5 << 20
"""Of a file that goes up in pieces; a smaller one goes up in one request."""
_PERMANENT: Final = frozenset({400, 401, 403, 404, 405, 411, 413, 501})
_NOT_THERE: Final = frozenset({"FileNotFoundError", "NotFoundError"})
_OTHER: Final = frozenset({"AlreadyExistsError", "PreconditionError"})


@dataclass(frozen=True, slots=True)
class Version:
    """Which version of an object was seen or written."""

    tags: Mapping[str, str]
    size: int = 0

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> "Version":
        """From what the library says of an object, or of a write."""
        tags = {name: str(found[name]) for name in ("e_tag", "version") if found.get(name) is not None}
        return cls(tags, int(found.get("size") or 0))


class Bucket:
    """The objects below one prefix. Raises BucketError; threads may share it."""

    def __init__(self, address: ObjectAddress, *, timeout_s: float = 60.0, store: Any = None) -> None:  # noqa: ANN401 - an obstore store
        """`timeout_s` bounds one request. Raises InputError without the extra, and for settings that are wrong."""
        self.address = address
        self._store = open_bucket(address, timeout_s=timeout_s) if store is None else store
        self._prefix = f"{key}/" if (key := address.key.strip("/")) else ""

    def versions(self, below: str = "") -> dict[str, Version]:
        """The objects whose names begin with the folder `below`."""
        found = {}
        with self._errors(below):
            for chunk in self._store.list((self._prefix + below).rstrip("/") or None):
                for one in chunk:
                    found[str(one["path"]).removeprefix(self._prefix)] = Version.of(one)
        return found

    def read(self, name: str) -> tuple[bytes, Version] | None:
        """All of an object; None where there is none."""
        with self._errors(name) as errors:
            errors.may_lack = True
            got = self._store.get(self._prefix + name)
            return bytes(got.bytes()), Version.of(got.meta)
        return None

    def copy(self, name: str, file: BinaryIO) -> None:
        """Write an object into a file. Raises the disk's OSError too."""
        with self._errors(name):
            got = self._store.get(self._prefix + name)
            file.writelines(bytes(chunk) for chunk in got.stream(min_chunk_size=BLOCK_BYTES))
            if file.tell() != int(got.meta["size"]):
                raise BucketError(f"{self.named(name)}: {file.tell():,} bytes came of {int(got.meta['size']):,}")

    def write(self, name: str, data: bytes) -> Version:
        """Make or replace an object."""
        with self._errors(name):
            return Version.of(self._store.put(self._prefix + name, data))
        raise AssertionError

    def write_file(self, name: str, path: Path, check: Callable[[], None]) -> None:
        """Make or replace an object as a file. `check` may raise, before each piece and before the object appears."""
        with self._errors(name), path.open("rb") as file:
            check()
            if os.fstat(file.fileno()).st_size <= BLOCK_BYTES:
                self._store.put(self._prefix + name, file.read())
                return
            writer = self._open_writer(name)
            while block := file.read(BLOCK_BYTES):
                check()
                writer.write(block)
            check()
            writer.close()

    def create(self, name: str, data: bytes) -> Version | None:
        """Make an object; None where there is one."""
        return self._put_if(name, data, "create")

    def replace(self, name: str, data: bytes, version: Version) -> Version | None:
        """Replace this version of an object; None where it is another by now, or gone."""
        return self._put_if(name, data, dict(version.tags))

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; one that is gone already is no error."""
        for name in names:
            with self._errors(name) as errors:
                errors.may_lack = True
                self._store.delete(self._prefix + name)

    def named(self, name: str) -> str:
        """The address of an object."""
        return f"{self.address.scheme}://{self.address.bucket}/{self._prefix}{name}".rstrip("/")

    def _put_if(self, name: str, data: bytes, mode: object) -> Version | None:
        with self._errors(name) as errors:
            errors.may_differ = True
            return Version.of(self._store.put(self._prefix + name, data, mode=mode))
        return None

    def _open_writer(self, name: str) -> Any:  # noqa: ANN401 - an obstore writer
        import obstore  # noqa: PLC0415 - an extra

        return obstore.open_writer(self._store, self._prefix + name, buffer_size=BLOCK_BYTES)

    def _errors(self, name: str) -> "_Errors":
        return _Errors(self.named(name))


@contextmanager
def at_first() -> Iterator[None]:
    """Before anything is asked: what a store denies is a mistake of the command."""
    try:
        yield
    except BucketError as error:
        if error.is_transient:
            raise
        raise InputError(str(error)) from None


class _Errors:
    """Raises BucketError for an exception of the library, unless it says what was asked."""

    def __init__(self, named: str) -> None:
        self.named, self.may_lack, self.may_differ = named, False, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if not isinstance(error, Exception) or isinstance(error, BucketError | InputError):
            return False
        kinds = {one.__name__ for one in type(error).__mro__}
        if self.may_differ and kinds & _OTHER:
            return True
        failure = failure_of(error)
        if self.may_lack and kinds & _NOT_THERE and failure.message != "no such bucket":
            return True
        if isinstance(error, OSError) and not is_of_store(error):
            return False
        found = BucketError(f"{self.named}: {failure.message}")
        found.is_transient = failure.status not in _PERMANENT and not kinds & {
            "NotSupportedError",
            "NotImplementedError",
        }
        raise found from None
