"""The values that flow through a run. All are frozen; none does anything."""

import hashlib
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pipeline.errors import ErrorKind
from pipeline.locations import Location


class Status(StrEnum):
    """How a record ended: the column `status`."""

    OK = "ok"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    INVALID = "invalid"
    FAILED = "failed"


EMULATOR = "emulator"
"""The column `endpoint` of a rehearsal."""
PROMPT_NAME = "caption"
"""The column `prompt_name` where no other name is set."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One record to ask about: nearly always one image, or several that one request sends together.

    `id` is printable Unicode (NFC). `extra` holds the manifest's other columns as one JSON object. `line` counts
    from 1 and is None where a source has no lines.
    """

    id: str
    images: tuple[Location, ...]
    extra: str | None = None
    line: int | None = None
    image_texts: tuple[str | None, ...] = ()
    """The text that is sent before each image; empty where no image has one."""

    @property
    def image(self) -> str:
        """The column `image`: the name of the first."""
        return self.images[0].name

    @property
    def held_bytes(self) -> int:
        """Memory that the record takes before any image is read, roughly."""
        return sum(image.held_bytes for image in self.images) + len(self.extra or "")


PDF_TYPE = "application/pdf"
"""The media type of a document that is sent whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What is known of an image once it is prepared: pixels (after EXIF rotation) and bytes, before and after.

    A document that is sent whole has no pixels.
    """

    width: int | None
    height: int | None
    sent_width: int | None
    sent_height: int | None
    sent_bytes: int | None
    """None where the provider fetches it."""
    source_bytes: int
    sha256: str
    """Of the source's bytes, in hexadecimal; empty where only the provider reads them."""
    stamp: int | None = None
    """24 bits that change with the file's size or time; None where it is no file."""
    fragment: str = ""
    """Which part of its file the image is: `t=1.25` (seconds) or `page=2`; empty where it is the whole or the first."""
    frame: int = 0
    """Its place among the images that were taken from one file."""
    is_passed: bool = False
    """Whether the provider fetches it. Then its size may be unknown."""
    pages: int | None = None
    """Of a document that is sent whole, where they could be counted."""
    flags: tuple[str, ...] = ()
    """What is doubtful about the picture, in the words of the column `flags`."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Pixels before it was prepared; None of a document that is sent whole."""
        return None if self.width is None or self.height is None else (self.width, self.height)

    @property
    def sent_size(self) -> tuple[int, int] | None:
        """Pixels as sent."""
        return None if self.sent_width is None or self.sent_height is None else (self.sent_width, self.sent_height)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedImage:
    """An image file as it will be sent, or a PDF as a whole."""

    data: bytes
    media_type: str
    sha256: str
    """Of `data`, in hexadecimal."""
    facts: ImageFacts
    text: str | None = None
    """Sent before it."""
    base64: bytes | None = None
    """Of `data`, where several requests share it."""
    url: str | None = None
    """The address that is sent in place of the bytes (`request.pass_urls`); `data` is empty then."""
    filename: str = ""
    """The name that is sent with a document: without its path, and without secrets."""

    @property
    def is_document(self) -> bool:
        """Whether it is a whole PDF, which goes where an image goes, in a part of its own kind."""
        return self.media_type == PDF_TYPE


class _HasImages:
    """What requests and outcomes have in common: the facts of their images, in the record's order."""

    __slots__ = ()

    image_facts: tuple[ImageFacts, ...]

    @property
    def facts(self) -> ImageFacts | None:
        """Of the first image, which the columns of a row describe; None where no image was prepared."""
        return self.image_facts[0] if self.image_facts else None

    @property
    def pages(self) -> int | None:
        """An image is one page; None where those of a document could not be counted."""
        each = [1 if facts.width is not None or facts.is_passed else facts.pages for facts in self.image_facts]
        known = [pages for pages in each if pages is not None]
        return sum(known) if len(known) == len(each) else None

    @property
    def stamp(self) -> int | None:
        """24 bits that change with any of the record's files."""
        return combined_stamp(facts.stamp for facts in self.image_facts if not facts.frame)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRequest(_HasImages):
    """A request that only needs sending: a record asked one prompt, with the images in it."""

    record: ImageRecord
    image_facts: tuple[ImageFacts, ...]
    pieces: tuple[bytes, ...]
    """The body, in one piece, or in several where the requests of a record share the images'."""
    request_sha256: str
    prompt_name: str = PROMPT_NAME
    predicted_prompt_tokens: int | None = None
    most_prompt_tokens: int | None = None
    max_answer_tokens: int | None = None
    """As many tokens as the answer may have; None where nothing bounds it."""
    token_rule: str | None = None
    other_usage: "tuple[Usage, Usage] | None" = None
    """What a model takes that reads the images before the one that is asked: to be expected, and at most."""
    asks_labels: bool = False
    corrects: "Answer | None" = None
    """The answer with invalid labels that this request repeats, with what is wrong with them."""

    @property
    def body(self) -> bytes:
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """As billed: tokens, or pages. `cached_tokens` are part of `prompt_tokens`, `reasoning_tokens` of the completion's.

    None means that the endpoint did not say, which is not zero.
    """

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    pages: int | None = None

    @property
    def billed_tokens(self) -> int | None:
        """Prompt and completion together; None unless they are known."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return self.total_tokens
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(**{name: _add(getattr(self, name), getattr(other, name)) for name in Usage.__slots__})


def _add(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return a + b


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """One advertised limit."""

    limit: float
    remaining: float | None = None
    reset_s: float | None = None
    """Seconds until all of it is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitInfo:
    """The limits that response headers advertise."""

    requests: Quota | None = None
    tokens: Quota | None = None
    reset_s: float | None = None
    """Seconds until a used-up quota of unknown length is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one attempt brought home. A refusal is an answer, and was billed; only a hook makes the status FAILED."""

    status: Status
    caption: str | None
    captions: tuple[str, ...] = ()
    """All choices, where more than one was asked for."""
    model: str | None = None
    provider: str | None = None
    finish_reason: str | None = None
    request_id: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    """The provider's own figure where it states one, else usage x price; None where no price is known."""
    latency_s: float = 0.0
    error_kind: ErrorKind | None = None
    error_message: str | None = None
    limits: RateLimitInfo | None = None
    doubts: tuple[str, ...] = ()
    """What it states of usage or cost and is not believed, in words."""
    confidence: float | None = None
    """The mean probability of the answer's tokens, where the response has them."""
    service_tier: str | None = None
    """The tier that served the request, where the response names it."""
    labels: Mapping[str, Any] | str | None = None
    """The column `labels`: fields, or JSON where the schema is recursive or open; None where none are asked for."""
    problems: tuple[str, ...] = ()
    """Why its labels are invalid, a line each."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Values of columns that only this kind of endpoint has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why one attempt, or one image, gave no answer. What follows from it is `policy.retry`'s to say."""

    kind: ErrorKind
    message: str
    """One line, in the provider's own words where there are any."""
    status: int | None = None
    param: str | None = None
    """The field of the request that the endpoint says, by an error code, it does not take."""
    retry_after_s: float | None = None
    """How long the endpoint asked to wait."""
    request_id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    """Tokens billed although there is no answer."""
    cost_usd: Decimal | None = None
    limits: RateLimitInfo | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledAttempt:
    """An attempt that was billed, or may have been, and gave no answer, while its record is still being asked."""

    record: ImageRecord
    at: datetime
    prompt_name: str = PROMPT_NAME
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    unknown_nano_usd: int = 0
    """The most that it can have cost, where its cost is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower(_HasImages):
    """A record whose request another record was answered for: it shares that answer, and costs nothing."""

    record: ImageRecord
    image_facts: tuple[ImageFacts, ...]
    request_sha256: str
    key: bytes
    """Of the record that was asked."""
    status: Status
    prompt_name: str = PROMPT_NAME
    error_kind: ErrorKind | None = None

    @property
    def is_its_own(self) -> bool:
        """Whether the record that was asked is this one: its row stays as it is."""
        return self.key == record_key(self.record.id, self.prompt_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(_HasImages):
    """All that is known of a record asked one prompt, when nothing more will be asked: one row to be."""

    record: ImageRecord
    result: Answer | Failure
    prompt_name: str = PROMPT_NAME
    image_facts: tuple[ImageFacts, ...] = ()
    request_sha256: str | None = None
    predicted_prompt_tokens: int | None = None
    token_rule: str | None = None
    attempts: int = 0
    endpoint: str | None = None
    """Who answered, where a run has several to ask."""
    usage: Usage = field(default_factory=Usage)
    """Summed over every attempt that was billed."""
    cost_usd: Decimal | None = None
    asked_at: datetime | None = None
    answered_at: datetime | None = None
    changes: Mapping[str, object] = field(default_factory=dict)
    """Columns that a hook has changed."""

    @property
    def status(self) -> Status:
        return self.result.status if isinstance(self.result, Answer) else Status.FAILED

    @property
    def error_kind(self) -> ErrorKind | None:
        return self.result.error_kind if isinstance(self.result, Answer) else self.result.kind

    @property
    def error_message(self) -> str | None:
        return self.result.error_message if isinstance(self.result, Answer) else self.result.message


def record_key(record_id: str, prompt_name: str) -> bytes:
    """The 16 bytes that stand for (id, prompt_name) in the ledger."""
    named = f"{record_id}\0{prompt_name}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(named, digest_size=16).digest()


def combined_stamp(stamps: Iterable[int | None]) -> int | None:
    """One stamp for several files; of one file its own. None where no location is a file."""
    each = tuple(stamps)
    if len(each) == 1 or not any(stamp is not None for stamp in each):
        return each[0] if each else None
    return zlib.crc32(repr(each).encode()) & 0xFFFFFF


def has_no_text(status: Status, kind: ErrorKind | None) -> bool:
    """Whether an answer was cut off before any text: only then a truncated row has a kind."""
    return status is Status.TRUNCATED and kind is not None


def is_unanswered(status: Status, kind: ErrorKind | None) -> bool:
    """Whether a row holds no answer: failed, invalid, or truncated before any text. A refusal is an answer."""
    return status in {Status.FAILED, Status.INVALID} or has_no_text(status, kind)


Grow = Callable[[int], Awaitable[None]]
"""Called with the bytes that have arrived of something; it returns as soon as there is room for them."""


@dataclass(frozen=True, slots=True)
class PassedUrl:
    """A remote image that the provider fetches: its address, and its size in pixels where that could be read."""

    url: str
    size: tuple[int, int] | None = None


FetchedImages = tuple[bytes | PassedUrl | None, ...]
"""A record's remote images, in order; None for each image that is read where it is prepared."""
