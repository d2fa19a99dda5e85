"""Requests as OpenAI's Batch API and vLLM's run-batch take them: one a line, with a `custom_id`.

A request is made again from its image and OUT's own configuration, as a run makes it. What was sent is known by its
`request_sha256`.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline import files
from pipeline.config.base_urls import below
from pipeline.endpoints.adapter import adapter_of
from pipeline.errors import InputError
from pipeline.export.placing import reason_of
from pipeline.export.report import Reason
from pipeline.export.rows import Rows
from pipeline.locations import DocumentPage, InMemoryImage, Location
from pipeline.originals import Originals
from pipeline.records import Failure, ImageRecord
from pipeline.run.prepare import Preparer
from pipeline.sources.naming import names_document
from pipeline.sources.several import texts_of
from pipeline.store.opening import last_config

MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""Of one file. Source: OpenAI, "Batch API", 2026: 50,000 requests and 200 MB."""
_COLUMNS: Final = (
    *("id", "prompt_name", "image", "images", "sha256", "run_id", "config_hash", "request_sha256", "record"),
)
_PAGE: Final = re.compile(r"#page=(\d+)$")
_MOMENT: Final = re.compile(r"#(?:t=[\d.]+|page=\d+)$")


def export_batch(rows: Rows, dest: Path) -> int:
    """Write `dest`, and further files behind it where one would be longer than a batch may be."""
    requests = _Requests(rows)
    lines = requests.lines()
    first, number, before = next(lines, b""), 1, 0
    while first or number == 1:
        path = dest if number == 1 else dest.with_name(f"{dest.stem}-{number}{dest.suffix}")
        if number > 1 and path.is_dir():
            raise InputError(f"{path} is a folder; the requests go on in a file of this name")
        with files.replaced(path) as file:
            written = size = 0
            while first and written < MOST_REQUESTS and size + len(first) <= max(MOST_BYTES, len(first)):
                file.write(first)
                written, size, first = written + 1, size + len(first), next(lines, b"")
        before, number = before + written, number + 1
    if number > 2:  # noqa: PLR2004 - there is a second file
        rows.counts.notes.append(f"{number - 1:,} files: a batch has at most {MOST_REQUESTS:,} requests and 200 MB")
    requests.say_differences()
    return before


class _Requests:
    """Makes the requests of rows again."""

    def __init__(self, rows: Rows) -> None:
        """Raises InputError where OUT's configuration cannot be read, or sends no chat requests."""
        self._rows, self._originals = rows, Originals(rows.out)
        config = last_config(rows.out)
        self._config_hash = config.config_hash()
        if config.request.stream:  # a batch answers in files
            config = config.model_copy(update={"request": config.request.model_copy(update={"stream": False})})
        self._prepare = Preparer.build(config, datetime.now(UTC).date())
        self._url = below("/v1", adapter_of(config).path)
        self._has_several_prompts = len(rows.prompt_names()) > 1
        self._differing = 0

    def lines(self) -> Iterator[bytes]:
        """A line for each row whose request can be made."""
        for row in self._rows.dicts(_COLUMNS):
            made = self._request(row)
            if isinstance(made, Reason):
                self._rows.counts.leave_out(made, row["id"])
            else:
                yield made

    def _request(self, row: dict[str, Any]) -> bytes | Reason:
        if row["config_hash"] != self._config_hash or row["prompt_name"] not in self._prepare.prompts:
            return Reason.OTHER_CONFIGURATION
        record = self._record(row)
        if isinstance(record, Reason):
            return record
        try:
            made = self._prepare(record, (None,) * len(record.images), (row["prompt_name"],))
        except InputError:
            return Reason.NOT_REMADE
        if isinstance(made, Failure):
            return Reason.NOT_REMADE
        (request,) = made
        is_same = row["request_sha256"] in {None, request.request_sha256}
        if not is_same and len(record.images) > 1:
            return Reason.NOT_REMADE  # texts between the images may be missing
        self._differing += not is_same
        return self._line(row, request.body)

    def _line(self, row: dict[str, Any], body: bytes) -> bytes:
        name = f"{row['prompt_name']}/{row['id']}" if self._has_several_prompts else row["id"]
        head = orjson.dumps({"custom_id": name, "method": "POST", "url": self._url})[:-1]
        return head + b',"body":' + (body if b"\n" not in body else orjson.dumps(orjson.loads(body))) + b"}\n"

    def _record(self, row: dict[str, Any]) -> ImageRecord | Reason:
        """The record with its images as they were read, or why one of them is not there."""
        places: list[Location] = []
        for image in _images_of(row):
            found = self._originals.open({**image, "run_id": row["run_id"]})
            if found.data is None:
                return reason_of(found.state) or Reason.IMAGE_MISSING
            places.append(_location(image["image"], found.data))
        listed = [(place.name, None) for place in places]
        texts = texts_of(listed, row["record"]) if len(listed) > 1 else ()
        return ImageRecord(row["id"], tuple(places), row["record"], None, texts)

    def say_differences(self) -> None:
        """Note the requests that are not byte for byte what was sent."""
        if self._differing:
            self._rows.counts.notes.append(
                f"{self._differing:,} requests differ from what was sent (`request_sha256`): the versions of the "
                "libraries that encode images, or settings that change no answer"
            )


def _images_of(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Each image file of a row once, in order: several frames of one file are read from it again."""
    if not row.get("images"):
        return [row]
    found: dict[tuple[str, str | None], dict[str, Any]] = {}
    for at, image in enumerate(row["images"]):
        name = _MOMENT.sub("", image["image"])
        is_frame = name != image["image"]
        found.setdefault((name, image["sha256"] if is_frame else str(at)), {**image, "image": name})
    return list(found.values())


def _location(name: str, data: bytes) -> Location:
    page = _PAGE.search(name)
    read: Callable[[], bytes] = lambda: data  # noqa: E731 - its type is what matters
    document = InMemoryImage(name, read, len(data), is_pdf=page is not None or names_document(name))
    return document if page is None else DocumentPage(name, document, int(page[1]))
