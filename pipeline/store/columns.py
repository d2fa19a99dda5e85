"""The columns of `data/`: one table that feeds the Arrow schema, the rows, the documentation and the dataset card.

To add a column, add an entry to `COLUMNS`; docs/extending.md shows it. The schema is fixed when OUT is made, so that
a new column appears in new output directories only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.errors import ErrorKind
from pipeline.money import nano_usd, usd
from pipeline.records import Answer, Failure, ImageFacts, ImageRecord, Outcome, Status, Usage
from pipeline.store.accounting import storable


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOrigin:
    """What all rows of one run have in common."""

    endpoint: str
    """The endpoint of outcomes that do not name theirs."""
    run_id: str
    config_hash: str


Value = Callable[[Outcome, RowOrigin], object]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `data/`."""

    name: str
    type: pa.DataType
    value: Value
    """How a row gets its value: None is null, a Decimal is money, a datetime is a time."""
    doc: str
    """One sentence for the documentation and the dataset card."""
    from_leader: bool = False
    """Whether a row that shares another record's answer takes the value of that record's row."""
    is_essential: bool = False
    """Whether a row of a damaged part that lost this value is asked again. Any other value becomes null."""
    by_hook: bool = False
    """Whether a hook may change the value."""
    only_with_choices: bool = False
    """Whether the column exists only where more than one choice is asked for (`n` > 1)."""
    only_with_logprobs: bool = False
    """Whether the column exists only where the probabilities of tokens are asked for."""
    only_with_several: bool = False
    """Whether the column exists only where records have several images."""
    only_with_labels: bool = False
    """Whether the column exists only in labelling runs; its type is that of their schema."""
    only_where_given: bool = False
    """Whether the column exists only where the kind of endpoint gives it, as the adapter says."""


def _of_answer(value: Callable[[Answer], object]) -> Value:
    return lambda outcome, _: value(outcome.result) if isinstance(outcome.result, Answer) else None


def _given(name: str) -> Value:
    return _of_answer(lambda answer: answer.columns.get(name))


def _of_facts(value: Callable[[ImageFacts], object]) -> Value:
    return lambda outcome, _: None if outcome.facts is None else value(outcome.facts)


def _of_usage(tokens: Callable[[Usage], int | None]) -> Value:
    return lambda outcome, _: storable(tokens(outcome.usage))


def error_of(outcome: Outcome) -> tuple[ErrorKind | None, str | None]:
    """The kind and the message of an outcome's error; None where the status is `ok`."""
    result = outcome.result
    if isinstance(result, Failure):
        return result.kind, result.message
    if result.status is Status.OK:
        return None, None
    return result.error_kind, result.error_message


def _error_kind(outcome: Outcome, _: RowOrigin) -> str | None:
    kind = error_of(outcome)[0]
    return None if kind is None else kind.value


def _cost(outcome: Outcome, _: RowOrigin) -> object:
    nano = nano_usd(outcome.cost_usd)
    return None if nano is None else usd(nano)


def _latency(outcome: Outcome, _: RowOrigin) -> float | None:
    return outcome.result.latency_s if isinstance(outcome.result, Answer) and outcome.attempts else None


def image_names(record: ImageRecord, each: Iterable[ImageFacts]) -> list[str]:
    """What names each image that was sent: as the source does, and which frame or page of it (`clip.mp4#t=1.25`)."""
    names, at = [], -1
    for facts in each:
        at += not facts.frame
        name = record.images[at].name
        names.append(f"{name}#{facts.fragment}" if facts.fragment else name)
    return names


def _images(outcome: Outcome, _: RowOrigin) -> list[dict[str, object]]:
    """What was sent of each image; of one that was not prepared its name."""
    record, each = outcome.record, outcome.image_facts
    if not each:
        return [{"image": image.name, **dict.fromkeys(_IMAGE_FIELDS)} for image in record.images]
    return [
        {"image": image, **{name: getattr(facts, name) for name in _IMAGE_FIELDS}}
        for image, facts in zip(image_names(record, each), each, strict=True)
    ]


_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_INT, _SMALL_INT = pa.int64(), pa.int32()
_IMAGE_FIELDS = {
    "sha256": _TEXT, "width": _SMALL_INT, "height": _SMALL_INT,
    "sent_width": _SMALL_INT, "sent_height": _SMALL_INT, "sent_bytes": _SMALL_INT,
}  # fmt: skip
_IMAGES = pa.list_(pa.struct({"image": _TEXT, **_IMAGE_FIELDS}))
_BOX = pa.struct(dict.fromkeys(("x0", "y0", "x1", "y1"), pa.float64()))
_BOXES = pa.list_(pa.struct({"name": _TEXT, "text": _TEXT, "image": _TEXT, "box": _BOX}))
_PAGE = {"index": _SMALL_INT, "markdown": _TEXT, "width": _SMALL_INT, "height": _SMALL_INT, "boxes": _BOXES}
_FEATURE = {"name": _TEXT, "score": pa.float64(), "box": _BOX}
_MONEY, _TIME = pa.decimal128(18, 9), pa.timestamp("us", tz="UTC")

COLUMNS: tuple[Column, ...] = (
    Column(
        "id",
        _TEXT,
        lambda outcome, _: outcome.record.id,
        "From the manifest, or the path relative to the source.",
        is_essential=True,
    ),
    Column(
        "prompt_name",
        _TEXT,
        lambda outcome, _: outcome.prompt_name,
        "The name of the prompt; with `id` it is the key of the row.",
        is_essential=True,
    ),
    Column(
        "image", _TEXT, lambda outcome, _: outcome.record.image, "Path or URL of the image, as the source names it."
    ),
    Column(
        "images",
        _IMAGES,
        _images,
        "Each image of the record, in order; the column exists only where records have several.",
        only_with_several=True,
    ),
    Column(
        "status",
        _TEXT,
        lambda outcome, _: outcome.status.value,
        "`ok`, `truncated` (at `max_tokens`), `refused`, `invalid` or `failed`.",
        from_leader=True,
        is_essential=True,
    ),
    Column(
        "caption",
        _TEXT,
        _of_answer(lambda answer: answer.caption),
        "The text of the answer; null where there is none.",
        from_leader=True,
        is_essential=True,
        by_hook=True,
    ),
    Column(
        "captions",
        _TEXTS,
        _of_answer(lambda answer: list(answer.captions) or None),
        "All choices; the column exists only with `n` > 1.",
        from_leader=True,
        is_essential=True,
        by_hook=True,
        only_with_choices=True,
    ),
    Column(
        "confidence",
        pa.float64(),
        _of_answer(lambda answer: answer.confidence),
        "The mean probability of the answer's tokens; the column exists only with `request.logprobs`.",
        from_leader=True,
        only_with_logprobs=True,
    ),
    Column(
        "flags",
        _TEXTS,
        lambda outcome, _: sorted({flag for facts in outcome.image_facts for flag in facts.flags}),
        "What is doubtful about the answer, or about its image (`decoder_warning`, `truncated_image`).",
        from_leader=True,
        by_hook=True,
    ),
    Column(
        "labels",
        pa.struct([]),
        _of_answer(lambda answer: answer.labels),
        "The answer as typed fields, one for each property of the schema; only with `request.labels`.",
        from_leader=True,
        is_essential=True,
        by_hook=True,
        only_with_labels=True,
    ),
    Column(
        "pages",
        pa.list_(pa.struct(_PAGE)),
        _given("pages"),
        "Each page as Markdown, counted from 0; only with the task `ocr`. A box is a share of width and height.",
        from_leader=True,
        is_essential=True,
        only_where_given=True,
    ),
    Column(
        "document_annotation",
        _TEXT,
        _given("document_annotation"),
        "The answer to `document_annotation_format`, as JSON; only with the task `ocr`.",
        from_leader=True,
        only_where_given=True,
    ),
    Column(
        "features",
        pa.list_(pa.struct(_FEATURE)),
        _given("features"),
        "What is seen in the image, with its score; only with the task `ofr`. A box is as one of `pages`.",
        from_leader=True,
        is_essential=True,
        only_where_given=True,
    ),
    Column("model", _TEXT, lambda outcome, _: outcome.result.model, "The model as served.", from_leader=True),
    Column(
        "endpoint",
        _TEXT,
        lambda outcome, origin: outcome.endpoint or origin.endpoint,
        "The endpoint that was asked.",
        from_leader=True,
    ),
    Column(
        "provider",
        _TEXT,
        _of_answer(lambda answer: answer.provider),
        "The provider behind a gateway, where the response names it.",
        from_leader=True,
    ),
    Column(
        "finish_reason",
        _TEXT,
        _of_answer(lambda answer: answer.finish_reason),
        "Why the model stopped, in the provider's word.",
        from_leader=True,
    ),
    Column(
        "request_id",
        _TEXT,
        lambda outcome, _: outcome.result.request_id,
        "The provider's name for the request.",
        from_leader=True,
    ),
    Column(
        "prompt_tokens",
        _INT,
        _of_usage(lambda usage: usage.prompt_tokens),
        "Prompt tokens billed, summed over every attempt that was billed.",
    ),
    Column(
        "cached_tokens",
        _INT,
        _of_usage(lambda usage: usage.cached_tokens),
        "The part of `prompt_tokens` that the provider read from its cache.",
    ),
    Column(
        "completion_tokens",
        _INT,
        _of_usage(lambda usage: usage.completion_tokens),
        "Completion tokens billed, summed in the same way.",
    ),
    Column(
        "reasoning_tokens",
        _INT,
        _of_usage(lambda usage: usage.reasoning_tokens),
        "The part of `completion_tokens` spent on reasoning.",
    ),
    Column(
        "total_tokens",
        _INT,
        _of_usage(lambda usage: usage.total_tokens),
        "The provider's own total of tokens.",
    ),
    Column(
        "predicted_prompt_tokens",
        _INT,
        lambda outcome, _: storable(outcome.predicted_prompt_tokens),
        "Prompt tokens as estimated before the request.",
    ),
    Column("token_rule", _TEXT, lambda outcome, _: outcome.token_rule, "The dated rule that estimated them."),
    Column(
        "cost_usd",
        _MONEY,
        _cost,
        "The provider's figure, else usage times price; null if none.",
    ),
    Column("attempts", _SMALL_INT, lambda outcome, _: outcome.attempts, "Requests sent for this row."),
    Column("latency_s", pa.float64(), _latency, "Seconds that the answered request took."),
    Column(
        "width",
        _SMALL_INT,
        _of_facts(lambda facts: facts.width),
        "Pixels of the image, after EXIF rotation; null of a whole PDF.",
    ),
    Column(
        "height",
        _SMALL_INT,
        _of_facts(lambda facts: facts.height),
        "Pixels of the image, after EXIF rotation; null of a whole PDF.",
    ),
    Column("sent_width", _SMALL_INT, _of_facts(lambda facts: facts.sent_width), "Pixels of the image as sent."),
    Column("sent_height", _SMALL_INT, _of_facts(lambda facts: facts.sent_height), "Pixels of the image as sent."),
    Column("sent_bytes", _SMALL_INT, _of_facts(lambda facts: facts.sent_bytes), "Bytes of the image as sent."),
    Column("sha256", _TEXT, _of_facts(lambda facts: facts.sha256 or None), "Hash of the source's bytes."),
    Column(
        "request_sha256",
        _TEXT,
        lambda outcome, _: outcome.request_sha256,
        "Hash of the image as sent and of the request.",
    ),
    Column("duplicate_of", _TEXT, lambda _, __: None, "The `id` of the record whose answer this row shares."),
    Column(
        "error_kind",
        _TEXT,
        _error_kind,
        "The kind of error; null where the status is `ok`.",
        from_leader=True,
        is_essential=True,
    ),
    Column(
        "error_message",
        _TEXT,
        lambda outcome, _: error_of(outcome)[1],
        "The error in one line; null where the status is `ok`.",
        from_leader=True,
    ),
    Column("run_id", _TEXT, lambda _, origin: origin.run_id, "The run that wrote the row."),
    Column("config_hash", _TEXT, lambda _, origin: origin.config_hash, "The configuration that the run declared."),
    Column("asked_at", _TIME, lambda outcome, _: outcome.asked_at, "When the request was sent.", from_leader=True),
    Column(
        "answered_at",
        _TIME,
        lambda outcome, _: outcome.answered_at,
        "When the answer arrived.",
        from_leader=True,
        is_essential=True,
    ),
    Column(
        "record",
        _TEXT,
        lambda outcome, _: outcome.record.extra,
        "The manifest's other columns, as JSON; an id that is an integer there is one here.",
    ),
)
KEY_NAMES = ("id", "prompt_name")


def of_schema(names: Iterable[str]) -> tuple[Column, ...]:
    """The entries of the table with these names. Raises KeyError for a name that is not in it."""
    known = {column.name: column for column in COLUMNS}
    return tuple(known[name] for name in names)


def row_of(outcome: Outcome, origin: RowOrigin, columns: Sequence[Column] = COLUMNS) -> dict[str, object]:
    """One plain value for each column, null included. `cost_usd` is a Decimal with nine places.

    Numbers that no column can hold become null, so that every committed row can be sealed.
    """
    row = {column.name: column.value(outcome, origin) for column in columns}
    return {**row, **outcome.changes} if outcome.changes else row


def with_leader(row: Mapping[str, object], leader: Mapping[str, object]) -> dict[str, object]:
    """The row of a follower with the answer that stands in its leader's row."""
    taken = {column.name: leader[column.name] for column in COLUMNS if column.from_leader and column.name in leader}
    return {**row, **taken, "duplicate_of": leader["id"]}


def markdown_lines(names: Iterable[str] | None = None) -> list[str]:
    """The table of columns as Markdown: of all columns, or of those with these names."""
    columns = COLUMNS if names is None else of_schema(names)
    rows = (f"| `{column.name}` | `{_type_name(column)}` | {column.doc} |" for column in columns)
    return ["| column | type | what |", "|---|---|---|", *rows]


def _type_name(column: Column) -> str:
    return "struct" if column.only_with_labels else str(column.type)
