"""How large the images of a source are: from a manifest's own columns, else from the headers of files and addresses."""

import asyncio
import random
import signal
import threading
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import monotonic

import anyio

from pipeline.config.images import ImagesConfig
from pipeline.config.run_config import RunConfig
from pipeline.errors import ErrorKind, InterruptedRunError
from pipeline.estimates.histogram import Moments, SizeHistogram, SizeOfSeveral
from pipeline.http.image_hosts import ImageHosts
from pipeline.images.probe import ImageSize, WholeDocument
from pipeline.images.remote_sizes import SizeUnknown, fetch_beginning
from pipeline.images.sampling import Sampling
from pipeline.images.sizes import CHUNK, FIRST_CHUNK, Found, LocalSizes, single_images
from pipeline.locations import ImageUrl
from pipeline.pdf.process import PROCESSES
from pipeline.quiet import quiet_decoders
from pipeline.records import Failure, ImageRecord
from pipeline.sources import Source, SourceLike, open_sources, passed_over
from pipeline.tokens.prompt import Size

FETCHES = 64
"""Addresses that are asked at a time."""
EXAMPLES = 5
_PIXEL_BYTES = 3

Show = Callable[[int, int | None], None]
"""Called with the images looked at so far, and how many there are, where that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyJob:
    """What to look at, and how much of it."""

    sources: Sequence[SourceLike]
    config: RunConfig
    limit: int | None = None
    probe: int | None = None
    """This number at random instead of all."""
    seed: int = 0
    keep_sizes: bool = False
    out: Path | None = None
    """A folder that is passed over, where it lies within a source."""


@dataclass(slots=True)
class Survey:
    """What was seen. `images` are all of the source."""

    images: int = 0
    seen: int = 0
    images_a_record: float = 1.0
    """Of the records looked at."""
    documents: int = 0
    """PDFs that are sent whole, of those looked at: what they take is unknown, and they are no images here."""
    declared: int = 0
    """Sizes taken from the manifest's columns `width` and `height`."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Files of the source that are no images, by kind."""
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
        """Images seen whose size is known, or that are known not to be sent."""
        return self.seen - self.unknown

    def take(
        self, records: Sequence[ImageRecord], found: Sequence[Found], images: ImagesConfig, histogram: SizeHistogram
    ) -> None:
        """Count what was found of these records."""
        sizes: list[SizeOfSeveral] = []
        documents = sum(isinstance(one, WholeDocument) for one in found)
        for record, one in zip(records, found, strict=True):
            size = self._size(record.image, one, images)
            if size is not None:
                sizes.append((*size, one.frames if isinstance(one, ImageSize) else 1))
            if self.sizes is not None:
                self.sizes.append(0 if size is None else size[0] << 32 | size[1])
        self.seen += len(records) - documents
        self.documents += documents
        histogram.add_all(sizes)

    def _size(self, name: str, found: Found, images: ImagesConfig) -> Size | None:
        if isinstance(found, SizeUnknown):
            self.by_reason[found.reason] += 1
            if len(self.unknown_examples) < EXAMPLES:
                self.unknown_examples.append((name, "size unknown", found.reason))
            return None
        if isinstance(found, WholeDocument):
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
    pixels = found.width * found.height
    if pixels > images.max_megapixels * 1_000_000:
        # As the run calls it, which decodes most images to three bytes a pixel.
        is_too_large = pixels * _PIXEL_BYTES > images.max_decoded_mb * 1_000_000
        setting = "max_decoded_mb" if is_too_large else "max_megapixels"
        message = f"{found.width} x {found.height} pixels are more than images.{setting} allows"
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE if is_too_large else ErrorKind.IMAGE_BOMB, message=message)
    if found.file_bytes is not None and found.file_bytes > images.max_file_mb * 1_000_000:
        message = f"{found.file_bytes:,} bytes are more than images.max_file_mb allows"
        return Failure(kind=ErrorKind.IMAGE_TOO_LARGE, message=message)
    return None


async def survey(job: SurveyJob, histogram: SizeHistogram, show: Show, now: Callable[[], float] = monotonic) -> Survey:
    """Look at every image of the sources, or at `job.probe` of them.

    Raises InputError for what is wrong with a source, before any image is looked at; InterruptedRunError for Ctrl-C.
    """
    quiet_decoders()
    found = Survey(sizes=array("q") if job.keep_sizes else None)
    try:
        with _stoppable():
            await _look_at_all(job, found, histogram, show, now)
    finally:
        PROCESSES.end_idle()
    share = found.seen / max(1, found.seen + found.documents)
    found.documents = round(found.images * found.images_a_record * (1 - share)) or found.documents
    found.images = round(found.images * found.images_a_record * share) or found.seen
    return found


async def _look_at_all(
    job: SurveyJob, found: Survey, histogram: SizeHistogram, show: Show, now: Callable[[], float]
) -> None:
    async with AsyncExitStack() as stack:
        reader = stack.enter_context(ThreadPoolExecutor(1, "survey"))
        local = stack.enter_context(LocalSizes(now, Sampling.of(job.config.images)))
        loop = asyncio.get_running_loop()
        hosts: ImageHosts | None = None
        source = open_sources(job.sources, job.config.source, out=job.out)
        records, total = await loop.run_in_executor(reader, _records, job, source, found)
        looked_at = 0
        while chunk := await loop.run_in_executor(reader, _next, records, looked_at):
            looked_at += len(chunk)
            if not job.keep_sizes:  # a sample measures records, and draws them by their first images
                chunk = single_images(chunk)
            sizes = await loop.run_in_executor(reader, local.look, chunk)
            if None in sizes:
                if hosts is None:
                    opened = ImageHosts(job.config.endpoint, job.config.source, FETCHES)
                    hosts = await stack.enter_async_context(opened)
                await _fetch(hosts, chunk, sizes, Sampling.of(job.config.images))
            await loop.run_in_executor(reader, found.take, chunk, sizes, job.config.images, histogram)
            show(found.seen + found.documents, total)
        found.declared = local.declared
        found.images_a_record = (found.seen + found.documents) / max(1, looked_at)
        await loop.run_in_executor(reader, histogram.settle)


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
    found.passed_over = passed_over(source)
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


def _next(records: Iterator[ImageRecord], seen: int) -> Sequence[ImageRecord]:
    return list(islice(records, CHUNK if seen else FIRST_CHUNK))


async def _fetch(hosts: ImageHosts, records: Sequence[ImageRecord], found: list[Found], sampling: Sampling) -> None:
    """Ask for every size that is still missing. Raises InputError for a proxy that is none, before any is asked for."""
    remote = ((at, records[at].images[0]) for at, one in enumerate(found) if one is None)
    listed = [(at, image) for at, image in remote if isinstance(image, ImageUrl)]
    for _, image in listed:
        hosts.proxy_of(image.url)
    missing = iter(listed)

    async def ask() -> None:
        for at, image in missing:
            found[at], _ = await fetch_beginning(hosts, image.url, is_trusted=image.is_trusted, sampling=sampling)

    async with anyio.create_task_group() as group:
        for _ in range(FETCHES):
            group.start_soon(ask)
