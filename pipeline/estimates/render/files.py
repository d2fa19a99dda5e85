"""An `Estimate` as files: CSV, Markdown and JSON; HTML is a page of its own."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

from pipeline.errors import InputError, ResourceError
from pipeline.estimates.figures import Estimate, ModelEstimate
from pipeline.estimates.render.text import assumptions, details, facts, sizes, table
from pipeline.estimates.statistics import SampleFacts
from pipeline.formatting import csv_cell, json_text, markdown
from pipeline.tokens.ranges import Range

_SAMPLE_COLUMNS = ("sample_asked", "sample_answered", "sample_seed", "sample_spent_usd", "sample_out")


def as_json(estimate: Estimate) -> str:
    return json_text(estimate.as_dict())


def as_csv(estimate: Estimate) -> str:
    """A row a model; money exact, what is unknown empty."""
    rows = [flat(estimate, model) for model in estimate.models]
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def flat(estimate: Estimate, model: ModelEstimate) -> dict[str, object]:
    """One model in plain columns."""
    row: dict[str, object] = {"model": model.name, "where": model.where, "images": estimate.readable.expected}
    row |= _columns("input_tokens", model.input_tokens) | _columns("output_tokens", model.output_tokens)
    row |= _columns("reasoning_tokens", model.reasoning_tokens) | _columns("cost_usd", model.cost_usd)
    row |= _columns("batch_cost_usd", model.batch_cost_usd) | _columns("seconds", model.seconds)
    row |= _columns("image_tokens", model.mean_tokens) | {"detail": model.detail, "token_rule": model.token_rule}
    row["rule_source"] = " | ".join(f"{one.source}, {one.checked_on}" for one in model.rules)
    row |= _sample_columns(model.sample)
    row["price"] = "" if model.price is None else str(model.price)
    row["price_source"] = "" if model.price is None else model.price.origin
    row["notes"] = " | ".join(model.notes)
    return row


def _sample_columns(sample: SampleFacts | None) -> dict[str, object]:
    """What a paid sample measured; the columns are there without one, and empty."""
    row: dict[str, object] = dict.fromkeys(_SAMPLE_COLUMNS, "")
    if sample is None:
        row |= _columns("images_per_s", None) | _columns("hours", None) | _columns("own_usd", None)
        return row | dict.fromkeys(("own_usd_per_image", "own_usd_per_mtok"), "")
    row = {"sample_asked": sample.asked, "sample_answered": sample.answered, "sample_seed": sample.seed}
    row |= {"sample_spent_usd": _exact(sample.spent_usd), "sample_out": sample.out}
    row |= _columns("images_per_s", sample.images_per_s) | _columns("hours", sample.hours)
    row |= _columns("own_usd", sample.own_usd)
    return row | {
        "own_usd_per_image": _exact(sample.own_usd_per_image), "own_usd_per_mtok": _exact(sample.own_usd_per_mtok)
    }  # fmt: skip


def _exact(amount: Decimal | None) -> str:
    return "" if amount is None else f"{amount:f}"


def _columns(name: str, value: Range[int] | Range[float] | Range[Decimal] | None) -> dict[str, object]:
    ends = ("", "", "") if value is None else (value.expected, value.low, value.high)
    plain = [f"{one:f}" if isinstance(one, Decimal) else "" if one is None else one for one in ends]
    return dict(zip((name, f"{name}_low", f"{name}_high"), plain, strict=True))


def as_markdown(estimate: Estimate) -> str:
    """The same as `text`, with a table that GitHub shows."""
    head, *rows = table(estimate)
    shown = [
        "| " + " | ".join(cell if cell == "---" else markdown(cell) for cell in row) + " |"
        for row in (head, ("---",) * len(head), *rows)
    ]
    parts = [["# Estimate"], shown, _listed(facts(estimate) + assumptions(estimate))]
    parts += [["## Sizes"], ["```", *sizes(estimate), "```"]]
    for model in estimate.models:
        parts += [[f"## {markdown(model.name)}"], _listed(details(model))]
    parts.append(_listed(estimate.notes))
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _listed(lines: Sequence[str]) -> list[str]:
    """Names and messages come from outside."""
    return [f"- {markdown(line.strip())}" for line in lines]


Writers = Mapping[str, Callable[[Estimate], str]]


def check_output(file: Path, writers: Writers) -> None:
    """Before anything is looked at or paid for. Raises InputError, ResourceError where writing is not permitted."""
    if file.suffix.lower() not in writers:
        raise InputError(f"`output={file}`: write to one of {' '.join(writers)}")
    if file.is_dir():
        raise InputError(f"`output={file}`: this is a folder")
    if not file.parent.is_dir():
        raise InputError(f"`output={file}`: there is no folder {file.parent}")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ResourceError(f"`output={file}`: writing there is not permitted")


def write(estimate: Estimate, file: Path, writers: Writers) -> None:
    """Raises ResourceError where the file cannot be written."""
    try:
        file.write_text(writers[file.suffix.lower()](estimate), encoding="utf-8")
    except OSError as error:
        raise ResourceError(f"`output={file}`: {error.strerror or error}") from None
