"""How large the images of a source are: from a manifest's own columns, else from the headers of files and addresses."""

import asyncio
import random
import signal
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

import aiohttp
import anyio
import orjson

from pipeline.config import ImagesConfig, RunConfig
from pipeline.edges import storage
from pipeline.edges.headers import ImageSize, SizeUnknown, fetch_size, read_sizes, size_in
from pipeline.edges.sources import Source, open_sources
from pipeline.errors import ErrorKind, InterruptedRunError
from pipeline.policy.tallies import Moments, Size, Tally
from pipeline.quiet import quiet_decoders
from pipeline.records import Failure, ImageRecord
from pipeline.wire import Proxies, open_image_session

FIRST_CHUNK, CHUNK = 64, 2048
FETCHES = 64
"""Addresses that are asked at a time."""
EXAMPLES = 5
THREADS = 16
SLOW, FAST = 2_000, 8_000
"""Files a second. Below the first the disk is waited for, and threads wait together; above the second they would only
fight for the interpreter: with all in the page cache one thread reads 80,000 headers a second, sixteen 13,000."""

Found = ImageSize | SizeUnknown | Failure | None
"""What is known of one record's image; None: it has to be fetched."""
Show = Callable[[int, int | None], None]
"""Called with the images looked at so far, and how many there are, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyJob:
    """What to look at, and how much of it."""

    sources: Sequence[str]
    config: RunConfig
    limit: int | None = None
    probe: int | None = None
    """So many at random instead of all."""
    seed: int = 0
    keep_sizes: bool = False
    out: Path | None = None
    """A folder that is passed over, where it lies within a source."""


@dataclass(slots=True)
class Survey:
    """What was seen. `images` are all of the source."""

    images: int = 0
    seen: int = 0
    declared: int = 0
    """Sizes taken from the manifest's columns `width` and `height`."""
    file_bytes: Moments = field(default_factory=Moments)
    """Of the files seen whose length is known."""
    by_kind: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    by_reason: Counter[str] = field(default_factory=Counter)
    """Of addresses whose size is unknown for now."""
    unknown_examples: list[tuple[str, str, str]] = field(default_factory=list)
    sizes: "array[int] | None" = None
    """With `keep_sizes`: width << 32 | height of each record looked at, in the source's order; 0 where unreadable."""

    @property
    def unreadable(self) -> int:
        return self.by_kind.total()

    @property
    def unknown(self) -> int:
        return self.by_reason.total()

    @property
    def known(self) -> int:
        """Images seen of which is known whether they would be sent, and in which size."""
        return self.seen - self.unknown

    def take(self, records: Sequence[ImageRecord], found: Sequence[Found], images: ImagesConfig, tally: Tally) -> None:
        """Count what was found of these records."""
        sizes: list[Size] = []
        for record, one in zip(records, found, strict=True):
            size = self._size(record.image, one, images)
            if size is not None:
                sizes.append(size)
            if self.sizes is not None:
                self.sizes.append(0 if size is None else size[0] << 32 | size[1])
        self.seen += len(records)
        tally.add_all(sizes)

    def _size(self, name: str, found: Found, images: ImagesConfig) -> Size | None:
        if isinstance(found, SizeUnknown):
            self.by_reason[found.reason] += 1
            if len(self.unknown_examples) < EXAMPLES:
                self.unknown_examples.append((name, "size unknown", found.reason))
            return None
        flaw = flaw_of(found, images) if isinstance(found, ImageSize) else found
        if flaw is not None:
            self.reject(name, flaw)
        if flaw is not None or not isinstance(found, ImageSize):
            return None
        if found.file_bytes is not None:
            self.file_bytes.add(found.file_bytes)
        return found.width, found.height

    def reject(self, name: str, flaw: Failure, times: int = 1) -> None:
        self.by_kind[flaw.kind.value] += times
        if len(self.examples) < EXAMPLES:
            self.examples.append((name, flaw.kind.value, flaw.message))


def flaw_of(found: ImageSize, images: ImagesConfig) -> Failure | None:
    """Why an image of this size would not be sent."""
    if found.width * found.height > images.max_megapixels * 1_000_000:
        message = f"{found.width} x {found.height} pixels are more than images.max_megapixels allows"
        return Failure(kind=ErrorKind.IMAGE_BOMB, message=message)
    if found.file_bytes is not None and found.file_bytes > images.max_file_mb * 1_000_000:
        message = f"{found.file_bytes:,} bytes are more than images.max_file_mb allows"
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=message)
    return None


async def survey(job: SurveyJob, tally: Tally, show: Show, now: Callable[[], float] = monotonic) -> Survey:
    """Look at every image of the sources, or at `job.probe` of them.

    Raises InputError for what is wrong with a source, before any image is looked at; InterruptedRunError for Ctrl-C.
    """
    quiet_decoders()
    found = Survey(sizes=array("q") if job.keep_sizes else None)
    with _stoppable():
        await _look_at_all(job, found, tally, show, now)
    found.images = found.images or found.seen
    return found


async def _look_at_all(job: SurveyJob, found: Survey, tally: Tally, show: Show, now: Callable[[], float]) -> None:
    async with AsyncExitStack() as stack:
        reader = stack.enter_context(ThreadPoolExecutor(1, "survey"))
        local = stack.enter_context(LocalSizes(now))
        loop = asyncio.get_running_loop()
        session: aiohttp.ClientSession | None = None
        proxy_of = Proxies()
        source = open_sources(job.sources, job.config.source, out=job.out)
        records, total = await loop.run_in_executor(reader, _records, job, source, found)
        while chunk := await loop.run_in_executor(reader, _next, records, found.seen):
            sizes = await loop.run_in_executor(reader, local.look, chunk, found)
            if None in sizes:
                if session is None:
                    session = await stack.enter_async_context(open_image_session(job.config.endpoint, FETCHES))
                await _fetch(session, chunk, sizes, proxy_of)
            await loop.run_in_executor(reader, found.take, chunk, sizes, job.config.images, tally)
            show(found.seen, total)
        await loop.run_in_executor(reader, tally.settle)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is awaited here, by InterruptedRunError."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, caught = asyncio.get_running_loop(), list[int]()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with anyio.CancelScope() as scope:

        def stop(number: int) -> None:
            caught.append(number)
            scope.cancel()

        for number in before:
            loop.add_signal_handler(number, stop, number)
        try:
            yield
        finally:
            for number, handler in before.items():
                loop.remove_signal_handler(number)
                signal.signal(number, handler)
    if caught:
        raise InterruptedRunError("interrupted; nothing was sent", caught[0])


def _records(job: SurveyJob, source: Source, found: Survey) -> tuple[Iterator[ImageRecord], int | None]:
    """What to look at, and how many that are, where it is known."""
    total = source.check()
    if total is not None and job.limit is not None:
        total = min(total, job.limit)
    records = islice(source.records(), job.limit)
    if job.probe is None:
        return records, total
    drawn, found.images = drawn_at_random(records, job.probe, random.Random(job.seed))  # noqa: S311 - a sample
    return iter(drawn), len(drawn)


def drawn_at_random(records: Iterator[ImageRecord], wanted: int, rng: random.Random) -> tuple[list[ImageRecord], int]:
    """`wanted` of the records, each set of them as likely as any other, in their order; and how many there were."""
    kept: list[tuple[int, ImageRecord]] = []
    seen = 0
    for seen, record in enumerate(records, 1):
        if len(kept) < wanted:
            kept.append((seen, record))
        elif (at := int(rng.random() * seen)) < wanted:
            kept[at] = (seen, record)
    return [record for _, record in sorted(kept, key=lambda pair: pair[0])], seen


def first_sizes(records: Iterator[ImageRecord], wanted: int = FIRST_CHUNK) -> list[tuple[int, int]]:
    """Upright sizes of the first images, as far as they are here and can be read; nothing is fetched."""
    found = sizes_of(islice(records, wanted))
    return [(one.width, one.height) for one in found if isinstance(one, ImageSize)]


def sizes_of(records: Iterable[ImageRecord]) -> list[Found]:
    """The upright size of each, as far as it is known here; None for each that would have to be fetched."""
    with LocalSizes(monotonic) as local:
        return local.look(list(records), Survey())


def _next(records: Iterator[ImageRecord], seen: int) -> list[ImageRecord]:
    return list(islice(records, CHUNK if seen else FIRST_CHUNK))


class LocalSizes:
    """Reads headers of local files in one thread, or in several while the disk is slow."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._pool: ThreadPoolExecutor | None = None
        self.together = False
        """Whether several threads read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def look(self, records: Sequence[ImageRecord], survey: Survey) -> list[Found]:
        """What can be known of these records here; None for each that has to be fetched."""
        found: list[Found] = [declared_size(record.extra) for record in records]
        survey.declared += len(records) - found.count(None)
        local = []
        for at, record in enumerate(records):
            if found[at] is not None:
                continue
            if record.location.startswith("data:"):
                found[at] = _embedded(record.location)
            elif not storage.is_url(record.location):
                local.append(at)
        for at, one in zip(local, self._read([records[at].location for at in local]), strict=True):
            found[at] = one
        return found

    def _read(self, paths: list[str]) -> list[ImageSize | Failure]:
        if not paths:
            return []
        began = self._now()
        if self.together:
            self._pool = self._pool or ThreadPoolExecutor(THREADS, "headers")
            parts = [paths[at : at + FIRST_CHUNK] for at in range(0, len(paths), FIRST_CHUNK)]
            found = [one for part in self._pool.map(read_sizes, parts) for one in part]
        else:
            found = read_sizes(paths)
        rate = len(paths) / max(1e-9, self._now() - began)
        self.together = rate < (FAST if self.together else SLOW)
        return found


def _embedded(url: str) -> ImageSize | Failure:
    data = storage.decode_data_url(url)
    return data if isinstance(data, Failure) else size_in(data)


def declared_size(extra: str | None) -> ImageSize | None:
    """The columns `width` and `height` of a manifest's row (in any case); None where they hold no pixels."""
    if extra is None or "height" not in extra.lower():
        return None
    columns = {name.lower(): value for name, value in orjson.loads(extra).items()}
    width, height = _pixels(columns.get("width")), _pixels(columns.get("height"))
    return None if width is None or height is None else ImageSize(width, height, None)


def _pixels(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isascii():
        text = value.strip().removesuffix(".0")
        value = int(text) if text.isdecimal() else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


async def _fetch(
    session: aiohttp.ClientSession, records: Sequence[ImageRecord], found: list[Found], proxy_of: Proxies
) -> None:
    """Ask for every size that is still missing. Raises InputError for a proxy that is none, before any is asked for."""
    addresses = {at: records[at].location for at, one in enumerate(found) if one is None}
    missing = iter([(at, address, proxy_of(address)) for at, address in addresses.items()])

    async def ask() -> None:
        for at, address, proxy in missing:
            found[at] = await fetch_size(session, address, proxy)

    async with anyio.create_task_group() as group:
        for _ in range(FETCHES):
            group.start_soon(ask)
