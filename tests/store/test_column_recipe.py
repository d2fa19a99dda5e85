"""The recipe "A column" of docs/extending.md: one entry in one file, and the column is everywhere."""

import json
import subprocess
import sys
from pathlib import Path

from tests.recipes import blocks, copied

USE = """
import json, runpy, sys
from pathlib import Path
import pyarrow.parquet as pq
import pipeline
from pipeline.store.schemas import schema
from tests.store.test_dataset import answered, open_out

out = Path(sys.argv[1])
with open_out(out) as dataset:
    dataset.commit([answered("a.jpg")])
(part,) = (out / "data").glob("*.parquet")
print(json.dumps({
    "package": pipeline.__file__,
    "schema": str(schema().field("source_bytes").type),
    "parquet": str(pq.read_schema(part).field("source_bytes").type),
    "row": pipeline.read(out, ["id", "source_bytes"], "source_bytes = 99").to_dict("list"),
    "docs": runpy.run_path("docs/write_columns.py")["page"](),
    "card": (out / "README.md").read_text("utf-8"),
}))
"""


def test_a_column_is_one_entry_in_one_file(tmp_path: Path) -> None:
    """Proves that the entry alone puts the column into schema, row, Parquet, documentation and dataset card."""
    tree = copied(tmp_path / "tree", "pipeline", "tests", "docs", "configs")
    (entry,) = blocks("A column", "py")
    table = tree / "pipeline" / "store" / "columns.py"
    text = table.read_text("utf-8")
    end = text.index("\n)\nKEY_NAMES")
    table.write_text(f"{text[:end]}\n{entry.rstrip()},{text[end:]}", "utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path / "out")], cwd=tree, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    seen = json.loads(ended.stdout)
    assert Path(seen["package"]).is_relative_to(tree)
    assert (seen["schema"], seen["parquet"]) == ("int64", "int64")
    assert seen["row"] == {"id": ["a.jpg"], "source_bytes": [99]}
    line = "| `source_bytes` | `int64` | Bytes of the image's file. |"
    assert line in seen["docs"]
    assert line in seen["card"]
