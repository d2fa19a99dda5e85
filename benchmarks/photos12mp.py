"""Draws 12-megapixel JPEGs of 2 to 4 MB, each different, into the cache.

`python benchmarks/photos12mp.py --count 100`
"""

import argparse
from pathlib import Path

from common import cache_dir, draw_jpegs

SIZE = (4032, 3024)
QUALITY = 85


def photos(count: int, cache: Path | None = None) -> Path:
    """The folder of `count` photographs, drawn where they are missing (about 0.6 s each on one core)."""
    return draw_jpegs(cache_dir(cache) / f"photos12mp-{count}", count, SIZE, QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    folder = photos(arguments.count, arguments.cache)
    sizes = [file.stat().st_size for file in folder.iterdir()]
    print(f"{len(sizes)} photographs of {min(sizes) / 1e6:.1f} to {max(sizes) / 1e6:.1f} MB in {folder}")


if __name__ == "__main__":
    main()
