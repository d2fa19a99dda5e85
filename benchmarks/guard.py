"""A guard against slower code: instructions of one record, counted by valgrind, beside the recorded number.

    python benchmarks/guard.py [--records 100] [--update]

Two runs, of N and 5 N small images that are sent as they are, differ by what 4 N records cost; start-up cancels out,
but for some millions of instructions, which are one percent of 400 records.
Seconds depend on the machine and on what else it does, instructions hardly. It fails beyond the tolerance, in both
directions: a gain is recorded by `--update`, so that it cannot be lost again unseen. It catches what a record costs in
the reader, the engine, preparation, HTTP, ledger and parts, once 10 % of a record are added: about a second validation
of the answer, or an exception on each request. It sees neither waiting, nor the cost of decoding large images, nor what
is slow in the kernel.

Without valgrind the CPU time of a record is compared with the bare loop's, within a wider tolerance.
"""

import argparse
import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import HERE, SMALL, SMALL_QUALITY, cache_dir, clean_environment, draw_jpegs, endpoint, run_job

RECORDED = HERE / "guard.json"
TOLERANCE, RATIO_TOLERANCE = 0.10, 0.35
SHARE = 5
"""The second run takes this many times the records of the first."""
TIMEOUT_S = 3600


def instructions(folder: Path, base_url: str, out: Path) -> int:
    """Of a whole run, in user space, over all its threads."""
    counts = out.with_suffix(".callgrind")
    command = [
        *("valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={counts}", sys.executable),
        *(str(HERE / "ours.py"), str(folder), str(out), base_url, "--slots", "16"),
    ]
    environment = {**clean_environment(), "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S, env=environment)
    if done.returncode:
        raise SystemExit(f"valgrind: {(done.stderr or done.stdout).splitlines()[-1]}")
    found = re.search(r"^(?:summary|totals): (\d+)", counts.read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("valgrind counted nothing")
    return int(found[1])


def by_instructions(records: int, cache: Path | None) -> float:
    """Instructions of one record."""
    found = []
    with endpoint(1) as base_url, tempfile.TemporaryDirectory() as scratch:
        for count in (records, SHARE * records):
            folder = draw_jpegs(cache_dir(cache) / f"small-{count}", count, SMALL, SMALL_QUALITY)
            found.append(instructions(folder, base_url, Path(scratch) / str(count)))
            print(f"{count} records: {found[-1]:,} instructions", flush=True)
    return (found[1] - found[0]) / ((SHARE - 1) * records)


def by_ratio(records: int, cache: Path | None) -> float:
    """CPU time of a record, as a multiple of the bare loop's; the median of three."""
    folder = draw_jpegs(cache_dir(cache) / f"small-{records}", records, SMALL, SMALL_QUALITY)
    ratios = []
    with endpoint(1) as base_url, tempfile.TemporaryDirectory() as scratch:
        for turn in range(3):
            ours = run_job("ours.py", folder, Path(scratch) / f"ours-{turn}", base_url)
            bare = run_job("clients/bare.py", folder, Path(scratch) / f"bare-{turn}", base_url, "--no-resize")
            ratios.append(ours.cpu_s / bare.cpu_s)
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--update", action="store_true", help="record what is found")
    parser.add_argument("--ratio", action="store_true", help="compare with the bare loop, valgrind or not")
    parser.add_argument("--recorded", type=Path, default=RECORDED)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    counts = shutil.which("valgrind") is not None and not given.ratio
    version = f"{platform.machine()}, Python {sys.version_info.major}.{sys.version_info.minor}"
    name = f"instructions a record, {version}" if counts else f"CPU of a record, times the bare loop's, {version}"
    measure, records = (by_instructions, given.records) if counts else (by_ratio, 6 * given.records)
    found = measure(records, given.cache)
    recorded: dict[str, float] = json.loads(given.recorded.read_text()) if given.recorded.exists() else {}
    if given.update:
        given.recorded.write_text(json.dumps({**recorded, name: round(found, 2)}, indent=2, sort_keys=True) + "\n")
        print(f"recorded: {name}: {found:,.2f}")
        return
    sys.exit(judged(name, found, recorded.get(name), TOLERANCE if counts else RATIO_TOLERANCE))


def judged(name: str, found: float, recorded: float | None, tolerance: float) -> str | int:
    """The exit code, or why it fails."""
    if recorded is None:
        return f"{name}: {found:,.2f}; nothing is recorded to compare it with: record it with --update"
    change = found / recorded - 1
    print(f"{name}: {found:,.2f}, recorded {recorded:,.2f}: {change:+.1%}, tolerated {tolerance:.0%}")
    if abs(change) <= tolerance:
        return 0
    if change < 0:
        return "fewer than recorded: record the gain with --update, so that it is kept"
    return "more than recorded: find what a record costs now that it did not before (benchmarks/stages.py)"


if __name__ == "__main__":
    main()
