"""One pass over the rows of OUT: sums, times and a sample. Nothing grows with the number of rows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.commands.report.sample import Sample
from pipeline.commands.report.sums import RowSums
from pipeline.commands.report.timeline import Timeline
from pipeline.records import Status
from pipeline.store.reading import scan, schema_of
from pipeline.store.reviewed import Reviewed
from pipeline.store.reviews import Review, read_reviews

COUNTED: Final = (
    *("prompt_name", "status", "flags", "labels", "model", "prompt_tokens", "cached_tokens", "completion_tokens"),
    *("reasoning_tokens", "predicted_prompt_tokens", "cost_usd", "attempts", "latency_s", "width", "height"),
    *("duplicate_of", "error_kind", "error_message", "answered_at", "id"),
)
SHOWN: Final = (*COUNTED, "image", "caption", "sent_width", "sent_height", "sha256", "run_id")
MOST_TEXT: Final = 4_000
"""Characters of a text that a card shows: a model that repeats itself fills no page."""
_LONG: Final = ("caption", "error_message", "labels")


@dataclass(frozen=True, slots=True)
class Collected:
    """What one pass found."""

    sums: RowSums
    timeline: Timeline
    rows: int
    sample: list[dict[str, Any]]
    reviewed: Reviewed = field(default_factory=lambda: Reviewed({}))
    said: Mapping[str, int] = field(default_factory=dict)
    """Rows that were marked good, marked bad, and corrected."""


def says(review: Review) -> list[str]:
    """What a review says: `corrected`, `good`, `bad`."""
    return [*(["corrected"] if review.caption is not None else []), *([review.mark] if review.mark else [])]


def collect(out: Path, cards: int) -> Collected:
    """Read all rows once. Raises what `scan` raises."""
    schema = schema_of(out)
    names = [name for name in SHOWN if name in schema.names]
    sums, timeline, sample = RowSums(), Timeline(), Sample(cards)
    kind, reviewed, said = main_label(schema), Reviewed(read_reviews(out)), Counter[str]()
    for batch in scan(out, names):
        if batch.num_rows:
            table = pa.Table.from_batches([batch])
            sums.add(table)
            _add_times(timeline, table)
            reviews = {at: says(one) for at, one in reviewed.among(table).items()}
            said.update(word for words in reviews.values() for word in words)
            said_of = [reviews[at][0] if at in reviews else None for at in range(table.num_rows)]
            sample.add(_shortened(table), [*_kinds(table, kind), said_of])
    return Collected(sums, timeline, sample.rows, sample.drawn(), reviewed, said)


def main_label(schema: pa.Schema) -> int | None:
    """The place of the first label that is text or a truth value: the sample shows each of its values."""
    if "labels" not in schema.names or not pa.types.is_struct(kind := schema.field("labels").type):
        return None
    plain = (pa.types.is_string, pa.types.is_boolean)
    return next((at for at in range(kind.num_fields) if any(one(kind.field(at).type) for one in plain)), None)


def _kinds(table: pa.Table, label: int | None) -> list[list[str | None]]:
    """What tells the kinds of rows apart that a sample shows: status, error, prompt, first flag, main label."""
    found = [table[name].to_pylist() for name in ("status", "error_kind", "prompt_name")]
    found.append([flags[0] if flags else None for flags in table["flags"].to_pylist()])
    if label is not None:
        values = pc.struct_field(table["labels"].combine_chunks(), [label])
        found.append(pc.cast(values, pa.string()).to_pylist())
    return found


def _add_times(timeline: Timeline, table: pa.Table) -> None:
    """Rows that share another row's answer have its time too, and say nothing about the pace."""
    own = table.filter(pc.and_(pc.is_null(table["duplicate_of"]), pc.is_valid(table["answered_at"])))
    timeline.add(
        own["answered_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(),
        np.asarray(pc.equal(own["status"], Status.OK.value)),
        own["latency_s"].to_numpy().astype(np.float64),
    )


def _shortened(table: pa.Table) -> pa.Table:
    """Long texts cut, so that a sample of them takes little memory."""
    for name in _LONG:
        if name in table.column_names and pa.types.is_string(table[name].type):
            cut = pc.utf8_slice_codeunits(table[name], 0, MOST_TEXT)
            table = table.set_column(table.column_names.index(name), name, cut)
    return table
