"""How soon a run over a million kept records sends its first new request, and with how much memory.

`python benchmarks/resume.py [--records 1000000]`: makes the output directory by the project's own code in
about a minute, adds a new row to the manifest, and runs the same line again, in a process of its own: twice.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

import pyarrow.compute as pc
import pyarrow.dataset as ds
from common import draw_jpeg, peak_mb
from outcomes import outcome

from pipeline.config.loading import load_config
from pipeline.emulator.child import child_emulator
from pipeline.store.dataset import Dataset

BATCH = 1_000


def prepare(folder: Path, records: int) -> None:
    """An output directory that holds `records` answers, and a manifest with one row more."""
    now = datetime.now(UTC)
    config = load_config("demo", {"request.model": "gpt-4o"}, {})
    with Dataset.open(folder / "out", config=config, run_id="first", now=lambda: now) as dataset:
        for start in range(0, records, BATCH):
            dataset.commit([outcome(number) for number in range(start, min(start + BATCH, records))])
            if start % 50_000 == 0:
                dataset.seal()
        dataset.end_run()
    with (folder / "list.csv").open("w") as manifest:
        manifest.write("image\n")
        manifest.writelines(f"images/{number:07d}.jpg\n" for number in range(records))
    for number in range(2):
        draw_jpeg(folder / f"new{number}.jpg", (320, 240), number, 85)


def child(folder: Path, url: str) -> None:
    import pipeline  # noqa: PLC0415 - its import is part of what is measured

    pipeline.run(
        folder / "list.csv", out=folder / "out", config="demo", model="gpt-4o", base_url=url, quiet=True
    )  # the same question as in `prepare`
    print(json.dumps({"peak_mb": peak_mb()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--child", nargs=2, metavar=("FOLDER", "URL"))
    arguments = parser.parse_args()
    if arguments.child:
        child(Path(arguments.child[0]), arguments.child[1])
        return
    with tempfile.TemporaryDirectory() as scratch, child_emulator(["--fast"]) as url:
        folder = Path(scratch)
        began = time.perf_counter()
        prepare(folder, arguments.records)
        ledger_mb = (folder / "out" / "ledger.sqlite").stat().st_size / 1e6
        print(
            f"{arguments.records:,} answers kept and sealed in {time.perf_counter() - began:.0f} s; {ledger_mb:.0f} MB"
        )
        for number, what in enumerate(("all keys looked up", "from the low-water mark")):
            with (folder / "list.csv").open("a") as manifest:
                manifest.write(f"new{number}.jpg\n")
            resume(folder, url, what)
        status_of_a_running_one(folder)


def resume(folder: Path, url: str, what: str) -> None:
    started = datetime.now(UTC)
    command = [sys.executable, __file__, "--child", str(folder), url]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout)
    asked_at = pc.max(ds.dataset(folder / "out" / "data").to_table(["asked_at"])["asked_at"]).as_py()
    wait_s = (asked_at - started).total_seconds()
    print(f"{what}: first new request after {wait_s:.1f} s; peak memory {told['peak_mb']:.0f} MB")


def in_flight(url: str) -> int:
    with urlopen(f"{url.removesuffix('/v1')}/emulator/stats", timeout=10) as response:  # noqa: S310 - loopback
        return int(json.load(response)["in_flight"])


def status_of_a_running_one(folder: Path) -> None:
    """`vision-batch status` as a process of its own, while a run waits for an answer that does not come."""
    draw_jpeg(folder / "new2.jpg", (320, 240), 2, 85)
    with (folder / "list.csv").open("a") as manifest:
        manifest.write("new2.jpg\n")
    with child_emulator(["--fast", "--latency-ms", "60000"]) as url:
        child = subprocess.Popen([sys.executable, __file__, "--child", str(folder), url], stderr=subprocess.DEVNULL)
        try:
            while not in_flight(url):
                time.sleep(0.1)
            for _ in range(3):
                began = time.perf_counter()
                command = [sys.executable, "-m", "pipeline", "status", str(folder / "out")]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                print(f"status while it runs: {time.perf_counter() - began:.2f} s: {told.splitlines()[-1]}")
        finally:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
