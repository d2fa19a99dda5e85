"""`estimate` over 20,000 local files (JPEG, PNG, WebP), beside a plain loop of `Image.open(file).size`.

`python benchmarks/estimate.py [--count 20000] [--rounds 5]`. Files are read once before, so that all are in memory.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from common import cache_dir, check_all_answered, interleaved, measured, run_job, table
from PIL import Image

import pipeline

PICTURES = 120
MODELS = "gpt-4.1-mini,claude-haiku-4-5,gemini-2.5-flash"
ORIENTATION, MAKER_NOTE = 0x0112, 0x927C


def draw(number: int) -> tuple[str, bytes]:
    """A picture of some size, as (suffix, file); every second JPEG tells its size behind the EXIF of a camera."""
    rng = np.random.default_rng(number)
    width, height = (int(side) for side in rng.integers(300, 2400, 2))
    picture = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    suffix, name = ((".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP"))[number % 3]
    exif = Image.Exif()
    if number % 2 and name == "JPEG":
        exif[ORIENTATION] = 6
        exif[MAKER_NOTE] = bytes(rng.integers(0, 256, 20_000, dtype=np.uint8))
    file = io.BytesIO()
    picture.save(file, name, exif=exif)
    return suffix, file.getvalue()


def files_in(folder: Path, count: int) -> Path:
    """Make sure that `folder` holds `count` files, a thousand to a folder."""
    done = folder / "complete"
    if not done.exists():
        print(f"drawing {count} files in {folder} ...", flush=True)
        pictures = [draw(number) for number in range(PICTURES)]
        for number in range(count):
            suffix, data = pictures[number % PICTURES]
            file = folder / f"{number // 1000:03d}" / f"{number:06d}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        done.touch()
    return folder


def plain(folder: Path) -> int:
    """What a user would write."""
    sizes = []
    for file in folder.rglob("*.*"):
        with Image.open(file) as image:
            sizes.append(image.size)
    return len(sizes)


def ours(folder: Path) -> int:
    return pipeline.estimate(folder, models=MODELS).readable.expected


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--job", choices=["ours", "plain"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = files_in(cache_dir(arguments.cache) / f"headers-{arguments.count}", arguments.count)
    if arguments.job:
        measured(lambda: ours(folder) if arguments.job == "ours" else plain(folder))
        return
    name = Path(__file__).name
    jobs = {
        job: (lambda job=job: run_job(name, "--count", arguments.count, "--cache", folder.parent, "--job", job))
        for job in ("ours", "plain")
    }
    jobs["plain"]()  # everything is in memory from here on
    results = interleaved(jobs, arguments.rounds)
    check_all_answered(results, arguments.count)
    print(table(results, "plain"))


if __name__ == "__main__":
    main()
