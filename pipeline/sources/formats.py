"""The registry of manifest formats: which reader reads a file, by how its name ends."""

from dataclasses import dataclass
from typing import Final

from pipeline.sources.arrowfile import read_arrow
from pipeline.sources.blocks import BlockReader, csv_blocks, tsv_blocks
from pipeline.sources.delimited import read_csv, read_tsv
from pipeline.sources.jsonblocks import jsonl_blocks
from pipeline.sources.jsonlines import read_jsonl
from pipeline.sources.manifest import Reader
from pipeline.sources.parquetfile import read_parquet
from pipeline.sources.textlist import read_text


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of manifest."""

    reader: Reader
    unit: str = "line"
    """What the reader counts, for messages."""
    blocks: BlockReader | None = None
    """A faster reader of many rows at once, for files about which nothing is odd."""
    may_be_packed: bool = True
    """Whether a name may end in `.gz` besides; the reader gets the unpacked bytes."""


FORMATS: Final[dict[str, Format]] = {
    ".csv": Format(read_csv, blocks=csv_blocks),
    ".tsv": Format(read_tsv, blocks=tsv_blocks),
    ".jsonl": Format(read_jsonl, blocks=jsonl_blocks),
    ".ndjson": Format(read_jsonl, blocks=jsonl_blocks),
    ".txt": Format(read_text),
    ".parquet": Format(read_parquet, unit="row", may_be_packed=False),
    ".arrow": Format(read_arrow, unit="row", may_be_packed=False),
}
"""By suffix, in lower case."""


def format_of(path: str) -> Format | None:
    """The format of a file of this name; None where it is no manifest."""
    name = path.lower()
    plain = name.removesuffix(".gz")
    found = next((known for suffix, known in FORMATS.items() if plain.endswith(suffix)), None)
    return found if found is None or plain == name or found.may_be_packed else None
