"""An output directory of any number of rows, made without a run: parts of the real schema, and captions of words.

`python benchmarks/million_rows.py OUT [--rows 1000000]`
"""

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.store import parquet
from pipeline.store.schemas import schema

ROWS_A_PART, ROWS_A_TABLE = 50_000, 5_000
START = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
WORDS = (
    *("a", "an", "the", "of", "with", "on", "at", "in", "beside", "under", "small", "large", "bright", "dark", "old"),
    *("new", "red", "blue", "green", "grey", "wooden", "stone", "quay", "boat", "harbour", "gull", "rope", "crane"),
    *("window", "door", "street", "lamp", "tree", "hill", "river", "bridge", "cloud", "snow", "field", "barn"),
    *("horse", "woman", "man", "child", "dog", "cat", "bicycle", "market", "basket", "apple", "bread", "table"),
)
STATUSES, SHARES = ("ok", "failed", "refused", "truncated"), (0.96, 0.02, 0.01, 0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make(arguments.out, arguments.rows, arguments.seed)


def make(out: Path, rows: int, seed: int = 0) -> None:
    """Write the parts of OUT; the ledger and the small files beside them are left out."""
    folder = out / "data"
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number, start in enumerate(range(0, rows, ROWS_A_PART)):
        count = min(ROWS_A_PART, rows - start)
        parquet.write_tables(folder, number, _tables(start, count, random), schema())


def _tables(start: int, count: int, random: np.random.Generator) -> Iterator[pa.Table]:
    for first in range(start, start + count, ROWS_A_TABLE):
        numbers = range(first, min(first + ROWS_A_TABLE, start + count))
        yield pa.Table.from_pylist([_row(number, random) for number in numbers], schema=schema())


def _row(number: int, random: np.random.Generator) -> dict[str, object]:
    status = STATUSES[int(np.searchsorted(np.cumsum(SHARES), random.random()))]
    has_text = status in {"ok", "truncated"}
    tokens = int(random.integers(100, 1_200))
    asked_at = START + timedelta(milliseconds=20 * number)
    latency_s = float(random.gamma(4, 0.4))
    return {
        "id": f"album-{number // 1000:04d}/photo-{number:07d}.jpg",
        "prompt_name": "caption",
        "image": f"album-{number // 1000:04d}/photo-{number:07d}.jpg",
        "status": status,
        "caption": _caption(random) if has_text else None,
        "flags": ["repetition"] if random.random() < 0.01 else [],
        "model": "gpt-4.1-mini-2026-04-14",
        "endpoint": "https://api.openai.com/v1",
        "finish_reason": "stop" if status == "ok" else "length" if has_text else None,
        "request_id": f"req_{random.bytes(12).hex()}",
        "prompt_tokens": tokens,
        "cached_tokens": 0,
        "completion_tokens": 60,
        "total_tokens": tokens + 60,
        "predicted_prompt_tokens": tokens,
        "token_rule": "openai-patches-2026-04",
        "cost_usd": Decimal(tokens * 400 + 60 * 1_600).scaleb(-9),
        "attempts": 1,
        "latency_s": latency_s,
        "width": 4000,
        "height": 3000,
        "sent_width": 1024,
        "sent_height": 768,
        "sent_bytes": int(random.integers(60_000, 180_000)),
        "sha256": random.bytes(32).hex(),
        "request_sha256": random.bytes(32).hex(),
        "error_kind": "endpoint_error" if status == "failed" else None,
        "error_message": "500: the server had an error" if status == "failed" else None,
        "run_id": "20261121T220000Z-5f0c",
        "config_hash": "1f0c9a7be2d4",
        "asked_at": asked_at,
        "answered_at": asked_at + timedelta(seconds=latency_s),
    }


def _caption(random: np.random.Generator) -> str:
    words = [WORDS[at] for at in random.integers(0, len(WORDS), int(random.integers(20, 70)))]
    return f"{' '.join(words).capitalize()}."


if __name__ == "__main__":
    main()
