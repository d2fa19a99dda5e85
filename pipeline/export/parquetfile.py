"""One flat Parquet file: labels as columns of their own, to merge into a warehouse by `id` and `prompt_name`."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import files
from pipeline.export.rows import Rows

_GROUP_ROWS, _GROUP_BYTES = 65_536, 32 << 20


def export_parquet(rows: Rows, dest: Path) -> int:
    """Write `dest` as one file, which is renamed into place when it is complete; also where no row is new."""
    written, held, held_bytes = 0, list[pa.RecordBatch](), 0
    schema = rows.flat_schema
    with (
        files.replaced(dest) as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for batch in rows:
            held.append(batch)
            held_bytes += batch.nbytes
            written += batch.num_rows
            if held_bytes >= _GROUP_BYTES or sum(one.num_rows for one in held) >= _GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(held, schema))
                held, held_bytes = [], 0
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))
    return written
