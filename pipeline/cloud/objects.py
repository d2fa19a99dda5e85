"""Objects of buckets: listed below a prefix, copied into a file, or fetched by a run a few at a time."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, BinaryIO, Final

import anyio

from pipeline.cloud.stores import ObjectAddress, failure_of, is_of_store, odd_key, open_bucket
from pipeline.errors import ErrorKind, InputError
from pipeline.records import Failure

_CHUNK_KEYS: Final = 1000
"""As many as one answer of a store lists."""
_CHUNK_BYTES: Final = 8 << 20

Wait = Callable[[Awaitable[None]], Awaitable[None]]
"""Awaits what is no fault of the store, and does not count it against its time."""
TooLarge = Callable[[int], Failure]


def keys_below(address: ObjectAddress) -> Iterator[str]:
    """The keys of all objects below a prefix, in the store's order, a thousand at a time. Raises InputError."""
    store = open_bucket(address)
    try:
        for chunk in store.list(address.key.rstrip("/") or None, chunk_size=_CHUNK_KEYS):
            for one in chunk:
                yield str(one["path"])
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - obstore has several
        if (key := odd_key(error)) is not None:
            raise InputError(
                f"{address}: cannot be listed, because of the object with the key {key!r}: no part of a key may be "
                "empty, '.' or '..', or hold a control character; rename the object, or name the other images in a "
                "manifest"
            ) from None
        raise InputError(f"{address}: cannot be listed: {failure_of(error).message}") from None


def copy_object(address: ObjectAddress, file: BinaryIO, most_bytes: int) -> int:
    """Write an object of at most `most_bytes` into a file; its size. Raises InputError, and the disk's OSError."""
    store = open_bucket(address)
    try:
        found = store.get(address.key)
        size = int(found.meta["size"])
        if size <= most_bytes:
            file.writelines(bytes(chunk) for chunk in found.stream(min_chunk_size=_CHUNK_BYTES))
    except Exception as error:
        if isinstance(error, OSError) and not is_of_store(error):
            raise
        raise InputError(f"{address}: {failure_of(error).message}") from None
    return size


class ObjectStores:
    """Fetches objects. Each bucket is opened once."""

    def __init__(self, timeout_s: float, connect_timeout_s: float, at_once: int) -> None:
        self._times = {"timeout_s": timeout_s, "connect_timeout_s": connect_timeout_s}
        self._permits = anyio.Semaphore(at_once)
        self._open: dict[tuple[str, str], Any] = {}

    async def fetch(
        self, url: str, max_bytes: int, grow: Callable[[int], Awaitable[None]], too_large: TooLarge, wait: Wait
    ) -> bytes | Failure:
        """The whole object. Its size is known before a byte of it is read, and `grow` is called with it."""
        address = ObjectAddress.of(url)
        if address is None or not address.names_object:
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="not a valid address of an object")
        await wait(self._permits.acquire())
        try:
            found = await self._bucket(address).get_async(address.key)
            size = int(found.meta["size"])
            if size > max_bytes:
                return too_large(size)
            await wait(grow(size))
            data = bytes(await found.bytes_async())
        except InputError as error:
            return _not_opened(error)
        except Exception as error:  # noqa: BLE001 - obstore has several
            return failure_of(error)
        finally:
            self._permits.release()
        if len(data) != size:
            return Failure(kind=ErrorKind.FETCH_FAILED, message=f"{len(data):,} bytes came of {size:,}")
        return data or Failure(kind=ErrorKind.IMAGE_EMPTY, message="the object is empty")

    async def head(self, url: str, wanted: int) -> tuple[bytes, int | None] | Failure:
        """The first `wanted` bytes of an object, and its size."""
        address = ObjectAddress.of(url)
        if address is None or not address.names_object:
            return Failure(kind=ErrorKind.IMAGE_UNSUPPORTED, message="not a valid address of an object")
        try:
            async with self._permits:
                found = await self._bucket(address).get_async(address.key, options={"range": (0, wanted)})
                return bytes(await found.bytes_async()), int(found.meta["size"])
        except InputError as error:
            return _not_opened(error)
        except Exception as error:  # noqa: BLE001 - obstore has several
            failure = failure_of(error)
            return (b"", 0) if failure.status == _NO_SUCH_RANGE else failure

    def _bucket(self, address: ObjectAddress) -> Any:  # noqa: ANN401 - an obstore store
        key = (address.scheme, address.bucket)
        if key not in self._open:
            self._open[key] = open_bucket(address, **self._times)
        return self._open[key]


def _not_opened(error: InputError) -> Failure:
    """Of a bucket whose settings cannot be used: the next run asks again, this one does not."""
    return Failure(kind=ErrorKind.FETCH_FAILED, message=str(error), status=_NOT_AUTHENTICATED)


_NOT_AUTHENTICATED: Final = 401
_NO_SUCH_RANGE: Final = 416
"""Of an object without a byte."""
