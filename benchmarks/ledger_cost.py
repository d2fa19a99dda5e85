"""What keeping costs: images/s with the ledger and the parts, and with a keeper that keeps nothing, side by side.

`python benchmarks/ledger_cost.py [--count 2000] [--rounds 3] [--slots 64]`
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from common import endpoint, options, small_jpegs

import pipeline
from pipeline.store.dataset import Dataset


def speed(folder: Path, out: Path, base_url: str, slots: int, *, keeps: bool) -> float:
    settings = {"model": "gpt-4o", "base_url": base_url, "concurrency": slots, "quiet": True}
    if keeps:
        return pipeline.run(folder, out=out, **settings).images_per_s  # type: ignore[arg-type] # settings by name

    def forget(*_: Sequence[object]) -> None: ...

    with patch.object(Dataset, "commit", forget), patch.object(Dataset, "seal", forget):
        return pipeline.run(folder, out=out, **settings).images_per_s  # type: ignore[arg-type] # settings by name


def main() -> None:
    arguments = options(__doc__).parse_args()
    folder = small_jpegs(arguments)
    found: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as scratch, endpoint(1, 0.0) as base_url:
        for number in range(2 * arguments.rounds):
            keeps = number % 2 == 0
            out = Path(scratch) / str(number)
            found[keeps].append(speed(folder, out, base_url, arguments.slots, keeps=keeps))
    kept, forgotten = statistics.median(found[True]), statistics.median(found[False])
    print(f"with ledger and parts {kept:.0f} images/s, without {forgotten:.0f}: {kept / forgotten:.2f}")


if __name__ == "__main__":
    main()
