"""Rows as a run would write them, for benchmarks of what is kept."""

import hashlib
import json

from pipeline.locations import LocalFile
from pipeline.records import Answer, ImageFacts, ImageRecord, Outcome, Status, Usage

USAGE = Usage(prompt_tokens=765, completion_tokens=20, total_tokens=785)


def outcome(number: int, text: str | None = None) -> Outcome:
    """The answer of one record; `text` makes its row longer."""
    name = f"images/{number:07d}.jpg"
    digest = hashlib.sha256(f"{name}{text}".encode()).hexdigest()
    columns = () if text is None else (json.dumps({"text": text}),)
    return Outcome(
        record=ImageRecord(name, (LocalFile(name, name),), *columns),
        result=Answer(status=Status.OK, caption=f"Picture number {number}.", model="gpt-4o", usage=USAGE),
        image_facts=(
            ImageFacts(
                width=640,
                height=480,
                sent_width=640,
                sent_height=480,
                sent_bytes=9,
                source_bytes=9,
                sha256=digest,
                stamp=number,
            ),
        ),
        request_sha256=digest,
        attempts=1,
        usage=USAGE,
    )
