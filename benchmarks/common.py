"""What the benchmarks share: images in a cache, a job in a process of its own, and the table."""

import argparse
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from harness import PROMPT, Measured, measured, peak_mb
from numpy.typing import NDArray
from PIL import Image

HERE = Path(__file__).parent
SMALL, SMALL_QUALITY = (1024, 768), 45
"""JPEGs that need no resize, of about 75 KB."""
JOB_TIMEOUT_S = 600

__all__ = ["PROMPT", "Measured", "measured", "peak_mb"]


def cache_dir(override: Path | None = None) -> Path:
    """Where drawn images stay between runs: `--cache`, or the user's cache directory."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = override or base / "vision-batch-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def texture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Something like a photograph: soft colours, edges, and grain down to the pixel; (height, width, 3)."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), dtype=np.int16)
    for cells, strength in ((6, 90), (48, 60), (width // 16, 40), (width // 4, 34)):
        rows = max(2, cells * height // width)
        grid = Image.fromarray(rng.integers(0, 256, (rows, cells, 3), dtype=np.uint8))
        layer = np.asarray(grid.resize((width, height), Image.Resampling.BILINEAR))
        total += (layer.astype(np.int16) - 128) * strength // 128
    total += rng.integers(-7, 8, (height, width, 1), dtype=np.int16)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def draw_jpeg(path: Path, size: tuple[int, int], seed: int, quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(texture(*size, seed)).save(buffer, "JPEG", quality=quality)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(buffer.getvalue())
    unfinished.replace(path)


def _is_there(path: Path) -> bool:
    """An image of the same number in the folder of another count (`small-100` for `small-2000`) is the same image."""
    kind, _, _ = path.parent.name.rpartition("-")
    drawn = () if path.exists() or not kind else path.parent.parent.glob(f"{kind}-*/{path.name}")
    for other in drawn:
        path.hardlink_to(other)
        break
    return path.exists()


def draw_jpegs(folder: Path, count: int, size: tuple[int, int], quality: int, processes: int = 4) -> Path:
    """Make sure that `folder` holds exactly `count` different JPEGs; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {folder / f"{number:05d}.jpg": number for number in range(count)}
    missing = [(path, size, number, quality) for path, number in wanted.items() if not _is_there(path)]
    if missing:
        print(f"drawing {len(missing)} images of {size[0]} x {size[1]} in {folder} ...", flush=True)
        with ProcessPoolExecutor(processes) as pool:
            list(pool.map(draw_jpeg, *zip(*missing, strict=True), chunksize=4))
    for extra in set(folder.iterdir()) - wanted.keys():
        extra.unlink()
    return folder


def options(description: str | None, count: int = 2000) -> argparse.ArgumentParser:
    """The options of a benchmark that runs several clients over the same images."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--cache", type=Path)
    return parser


def small_jpegs(wanted: argparse.Namespace) -> Path:
    """A folder with `--count` of them."""
    return draw_jpegs(cache_dir(wanted.cache) / f"small-{wanted.count}", wanted.count, SMALL, SMALL_QUALITY)


def outs(scratch: str) -> Iterator[Path]:
    """An output directory for each run."""
    return (Path(scratch) / f"out-{number}" for number in itertools.count())


def clean_environment() -> dict[str, str]:
    """Of what is measured: bytecode is kept, since a client that compiles its modules at each start is measured wrong.

    The scripts find this folder and the package, whatever is installed beside them.
    """
    dropped = {"PYTHONDONTWRITEBYTECODE", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    path = os.pathsep.join((str(HERE), str(HERE.parent)))
    return {**kept, "OPENAI_API_KEY": "none", "NO_PROXY": "*", "PYTHONPATH": path}


def last_line(script: str, *arguments: str | Path | int) -> Any:  # noqa: ANN401 - JSON
    """Run a script of this folder in a fresh process; its last line, which is JSON."""
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, timeout=JOB_TIMEOUT_S, env=clean_environment()
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_job(script: str, *arguments: str | Path | int) -> Measured:
    """The same for a script that ends with `measured`."""
    return Measured(**last_line(script, *arguments))


def rows_over(folder: Path, rows: int, into: Path, first: int = 0) -> Path:
    """A manifest of that many rows over the images of a folder; each has an id of its own. `first`: they are added."""
    files = sorted(map(str, folder.iterdir()))
    with into.open("a" if first else "w", encoding="utf-8") as file:
        for row in range(first, first + rows):
            file.write(json.dumps({"id": f"{row:08d}", "image": files[row % len(files)]}) + "\n")
    return into


def interleaved(jobs: Mapping[str, Callable[[], Measured]], rounds: int) -> dict[str, list[Measured]]:
    """Every job once a round, so that a busy minute of the machine meets all of them.

    Each round begins with another job: the one that runs first is a few percent faster, whichever it is.
    """
    results: dict[str, list[Measured]] = {name: [] for name in jobs}
    names = list(jobs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            result = jobs[name]()
            results[name].append(result)
            print(f"  round {number + 1}: {name}: {result.images_per_s:.1f} images/s", flush=True)
    return results


def table(results: Mapping[str, Sequence[Measured]], baseline: str) -> str:
    """Medians of every job, and its images/s as a multiple of the baseline's."""
    rate = {name: statistics.median(one.images_per_s for one in rounds) for name, rounds in results.items()}
    lines = [
        "| client | images/s (least to most) | CPU ms an image | peak MB | ratio |",
        "|---|---|---|---|---|",
    ]
    for name, rounds in results.items():
        rates = sorted(one.images_per_s for one in rounds)
        cpu_ms = statistics.median(one.cpu_ms for one in rounds)
        peak = statistics.median(one.peak_mb for one in rounds)
        lines.append(
            f"| {name} | {rate[name]:.1f} ({rates[0]:.1f} to {rates[-1]:.1f}) | {cpu_ms:.2f} | {peak:.0f} "
            f"| {rate[name] / rate[baseline]:.2f} |"
        )
    return "\n".join(lines)


@contextmanager
def endpoint(processes: int, latency_ms: float = 0.0) -> Iterator[str]:
    """`server.py` in processes of its own; gives its base URL."""
    with server("server.py", "--processes", str(processes), "--latency-ms", str(latency_ms)) as said:
        yield said.removeprefix("listening on ")


@contextmanager
def server(script: str, *arguments: str) -> Iterator[str]:
    """A script of this folder in a process of its own, which ends with its standard input; gives its first line."""
    command = [sys.executable, str(HERE / script), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("the server has no pipes")
        try:
            yield child.stdout.readline().strip()
        finally:
            child.stdin.close()


def compare(
    jobs: Mapping[str, Callable[[], Measured]],
    wanted: argparse.Namespace,
    baseline: str,
    size: tuple[int, int] = SMALL,
) -> None:
    """Every job, `--rounds` times, and the table."""
    results = interleaved(jobs, wanted.rounds)
    check_all_answered(results, wanted.count)
    images = f"{wanted.count} JPEGs of {size[0]} x {size[1]}"
    print(f"\n{images}, {wanted.slots} slots, medians of {wanted.rounds} rounds\n")
    print(table(results, baseline))


def check_all_answered(results: Mapping[str, Sequence[Measured]], count: int) -> None:
    """A fast client that answers less is no fast client."""
    for name, rounds in results.items():
        answered: list[Any] = [one.images for one in rounds]
        if answered != [count] * len(rounds):
            raise SystemExit(f"{name} answered {answered} of {count} images")
