"""From a record to its images as they are sent: opened, decoded where they have to be, sized."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Final, NoReturn

from pipeline.catalogue.facts import Family
from pipeline.config.run_config import RunConfig
from pipeline.engine.semaphores import ThreadByteSemaphore
from pipeline.engine.threads import stop_clock
from pipeline.errors import ErrorKind, InputError
from pipeline.images.apart import prepare_apart
from pipeline.images.containers import Format, sniff
from pipeline.images.documents import document_name
from pipeline.images.frames import Prepared, prepare_images
from pipeline.images.locate import opened
from pipeline.images.pages import prepare_page
from pipeline.locations import ConfinedFile, DocumentPage, LocalFile, Location, TarMember
from pipeline.records import Failure, FetchedImages, ImageRecord, PassedUrl, PreparedImage
from pipeline.run.documents import document_flaw, max_request_bytes
from pipeline.run.model import most_images
from pipeline.run.passing import passed_image
from pipeline.store.opening import no_column
from pipeline.store.suspects import Suspects
from pipeline.tokens.presizing import LookedAt

MEGABYTE = 1 << 20
Decode = Callable[[bytes], Prepared]
"""A file -> the images to send of it."""
_UNDECODED_BYTES: Final = MEGABYTE
"""A longer file is seldom sent as it is, and would be read twice."""
_FILES: Final = (LocalFile, ConfinedFile, TarMember)
"""What is cheap to read twice."""


_SENT: Final = frozenset({Format.JPEG, Format.PNG, Format.WEBP})
"""What may be sent as it is, and shows it without being decoded."""


class _NeedsDecoderError(Exception):
    """The image is not sent as it is."""


@dataclass(frozen=True, slots=True)
class ImagePreparer:
    """Prepares the images of records. Called in threads."""

    config: RunConfig
    size: LookedAt
    decode_bytes: ThreadByteSemaphore
    """For decoding."""
    files: ThreadByteSemaphore
    """For what is read from the disk."""
    max_images: int | None = None
    """Images that the endpoint accepts in one request."""
    max_request_bytes: int | None = None
    """The longest body that the endpoint accepts."""
    examples: int = 0
    """Images of `request.messages`, which every request begins with."""
    takes_several: bool = True
    """Whether OUT has the column for records of several images."""
    suspects: Suspects | None = None
    """Of an OUT: records that may crash a decoder."""

    @classmethod
    def build(cls, config: RunConfig, size: LookedAt, family: Family | None) -> "ImagePreparer":
        """Before anything is known of OUT."""
        return cls(
            config=config,
            size=size,
            decode_bytes=ThreadByteSemaphore(config.images.decode_mb * MEGABYTE),
            files=ThreadByteSemaphore(config.images.decode_mb * MEGABYTE),
            max_images=most_images(config, family),
            max_request_bytes=max_request_bytes(config, family),
        )

    def __call__(self, record: ImageRecord, fetched: FetchedImages) -> list[PreparedImage] | Failure:
        """All images of a record, or what is wrong with the first that cannot be sent. In the decoding threads."""
        if self.suspects is None:
            return self._images(record, fetched, self._decoded)
        is_suspect = self.suspects.begin(record.id)
        try:
            return self._images(record, fetched, self._decoded_apart if is_suspect else self._decoded)
        finally:
            self.suspects.end(record.id)

    def undecoded(self, record: ImageRecord, fetched: FetchedImages) -> list[PreparedImage] | Failure | None:
        """The same where no image needs a decoder, which may crash, or much time; None where one does."""
        if self.suspects is not None and self.suspects.has(record.id):
            return None
        try:
            return self._images(record, fetched, self._undecoded, _UNDECODED_BYTES)
        except _NeedsDecoderError:
            return None

    def stuck(self, record: ImageRecord, thread: int) -> None:
        """The thread stands still: what it holds is released, and the record is a suspect."""
        if self.suspects is not None:
            self.suspects.add(record.id)
        self.files.forget(thread)
        self.decode_bytes.forget(thread)

    def _images(
        self, record: ImageRecord, fetched: FetchedImages, decode: Decode, most_bytes: int | None = None
    ) -> list[PreparedImage] | Failure:
        if self.max_images is not None and (count := self.examples + len(record.images)) > self.max_images:
            return _too_many(count, self.max_images)
        images: list[PreparedImage] = []
        for location, data, text in zip(record.images, fetched, record.image_texts or repeat(None), strict=False):
            found = [passed_image(data)] if isinstance(data, PassedUrl) else self.at(location, data, decode, most_bytes)
            if isinstance(found, Failure):
                return _named(found, location, record)
            first, *others = found
            if first.is_document:
                if (flaw := document_flaw(first, self.config, self.max_request_bytes)) is not None:
                    return _named(flaw, location, record)
                first = replace(first, filename=document_name(location.name))
            images += [first if text is None else replace(first, text=text), *others]
        if not self.takes_several and len(images) > 1:
            raise InputError(f"the record {record.id!r} has {len(images):,} images, and {no_column('OUT')}")
        count, most = self.examples + len(images), self.max_images
        return _too_many(count, most) if most is not None and count > most else images

    def at(
        self, location: Location, data: bytes | None, decode: Decode | None = None, most_bytes: int | None = None
    ) -> Sequence[PreparedImage] | Failure:
        """The images to send of one file: nearly always one. `data` is what was fetched; None: it is read here.

        With `most_bytes` only files are read that are no longer.
        """
        decode = self._decoded if decode is None else decode
        if data is not None:
            return decode(data)
        if most_bytes is not None and not isinstance(location, _FILES):
            raise _NeedsDecoderError
        if isinstance(location, DocumentPage):
            page = prepare_page(location, self.size, self.config.images, self.decode_bytes.held)
            return page if isinstance(page, Failure) else (page,)
        most = int(self.config.images.max_file_mb * MEGABYTE)
        with opened(location, most) as source:
            if isinstance(source, Failure):
                return source
            if most_bytes is not None and source.size_bytes > most_bytes:
                raise _NeedsDecoderError
            # Held before `decode_bytes`, never after it: no two threads can wait for each other.
            with self.files.held(min(source.size_bytes, most)):
                read = source.read()
                if isinstance(read, Failure):
                    return read
                found = decode(read)
        if isinstance(found, Failure) or source.stamp is None:
            return found
        return [replace(image, facts=replace(image.facts, stamp=source.stamp)) for image in found]

    def _undecoded(self, data: bytes) -> Prepared:
        images = self.config.images
        if images.frames > 1 or images.verify == "full" or sniff(data) not in _SENT:
            raise _NeedsDecoderError
        return prepare_images(data, self.size, images, _no_decoder)

    def _decoded(self, data: bytes) -> Prepared:
        return prepare_images(data, self.size, self.config.images, self.decode_bytes.held)

    def _decoded_apart(self, data: bytes) -> Prepared:
        stop_clock()
        return prepare_apart(data, self.size, self.config.images)


def _no_decoder(_: int) -> NoReturn:
    raise _NeedsDecoderError


def _named(failure: Failure, location: Location, record: ImageRecord) -> Failure:
    """The failure with the name of its image, where the record has several."""
    if len(record.images) == 1:
        return failure
    return replace(failure, message=f"{location.name}: {failure.message}")


def _too_many(images: int, most: int) -> Failure:
    message = f"{images:,} images in one request are more than the {most:,} that this model or host accepts"
    return Failure(kind=ErrorKind.REQUEST_TOO_LARGE, message=message)
