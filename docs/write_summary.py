"""Writes docs/summary.schema.json and docs/summary.md from `RunSummary`: `python docs/write_summary.py`."""

import ast
import inspect
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.engine.stats import RunSummary

HERE = Path(__file__).parent
PAGE, SCHEMA = HERE / "summary.md", HERE / "summary.schema.json"
MADE: dict[str, tuple[dict[str, Any], str]] = {
    "images_per_s": ({"type": "number"}, "Rows of this run per second."),
    "totals": (
        {"type": "object"},
        "Counts, tokens and cost of the run with its resumes, by the ledger; only in `runs/<run_id>.json`.",
    ),
    "earlier": (
        {"type": "array", "items": {"type": "object"}},
        "Of a run that was resumed, some of these fields of each command before; only in `runs/<run_id>.json`.",
    ),
}
"""Fields that are made of others: their schema and their sentence."""
HEAD = """# The summary of a run

Every run leaves `OUT/runs/<run_id>.json`, however it ended, and `--json` prints it on standard
output: `vision-batch run photos -o out --model gpt-4o --json`. Its JSON Schema is
[summary.schema.json](summary.schema.json), made from the code as this table is
(`python docs/write_summary.py`); tests validate the summaries of real runs against it. New fields
may come, none is renamed. Money is text with all its digits, so that sums stay exact; null is
unknown, not zero.

A job reads it with three lines:

```python
import json
from pathlib import Path

newest = max(Path("out/runs").glob("*.json"))
summary = json.loads(newest.read_text())
print(summary["exit_code"], summary["by_status"], summary["cost_usd"])
```

| field | type | what |
|---|---|---|
"""


def schema() -> dict[str, Any]:
    """The JSON Schema of a summary."""
    found = TypeAdapter(RunSummary).json_schema(mode="serialization")
    words = sentences()
    properties = {
        name: {
            **{key: value for key, value in one.items() if key not in {"title", "default"}},
            "description": words[name],
        }
        for name, one in found["properties"].items()
    }
    properties |= {name: {**one, "description": text} for name, (one, text) in MADE.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The summary of a run of vision-batch",
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in {"totals", "earlier"}],
    }


def sentences() -> dict[str, str]:
    """The docstring of each field."""
    (body,) = [node for node in ast.parse(inspect.getsource(RunSummary)).body if isinstance(node, ast.ClassDef)]
    words = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        is_text = isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            words[field.target.id] = " ".join(ast.literal_eval(ast.unparse(text)).split())
    return words


def page() -> str:
    """docs/summary.md"""
    rows = (f"| `{name}` | {_type(one)} | {one['description']} |" for name, one in schema()["properties"].items())
    return HEAD + "\n".join(rows) + "\n"


def _type(one: dict[str, Any]) -> str:
    return " or ".join(each["type"] for each in one.get("anyOf", [one]))


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
