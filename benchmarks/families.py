"""Every family that has a token rule: `estimate` beside what a run on the emulator is billed, on images of mixed sizes.

`python benchmarks/families.py [--images 200]`. The emulator bills by the same published rules, so that this shows
whether what is sent, at which size, is what was estimated. Exit code 1 where a family is off by more than 1 %, or where
one image is sent at another size than predicted, or than its own.
"""

import argparse
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from common import cache_dir
from PIL import Image

import pipeline
from pipeline.catalogue import Family, families, family_of
from pipeline.config.loading import load_config
from pipeline.emulator.child import child_emulator
from pipeline.estimates.job import Candidate
from pipeline.tokens.prompt import PromptShape, Size

TOLERATED = 0.01
ORIENTATION, TURNED = 0x0112, 6
KINDS = (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"))
SHAPES = ((4, 3), (3, 4), (3, 2), (16, 9), (1, 1), (9, 19), (6, 1), (1, 9))
"""Width to height; the last ones are panoramas and strips."""
LONGER_SIDES = (64, 300, 512, 640, 1024, 1200, 1600, 2100)
LARGEST = (2600, 2700, 2800, 6000, 4032)
"""Every tenth image is as large as what a camera makes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One family: the model's name that stands for it, tokens of all prompts, and images sent otherwise."""

    family: str
    model: str
    rule: str
    estimated: int
    billed: int
    other_sizes: int

    @property
    def off(self) -> float:
        return abs(self.billed - self.estimated) / self.estimated

    @property
    def is_right(self) -> bool:
        return self.off <= TOLERATED and not self.other_sizes


def upright(number: int) -> Size:
    """How large the image of this number is: every shape meets every longer side."""
    wide, high = SHAPES[number % len(SHAPES)]
    sides = LARGEST if number % 10 == 9 else LONGER_SIDES
    longer = sides[(number // len(SHAPES) + number) % len(sides)] - number % 7
    return max(1, longer * wide // max(wide, high)), max(1, longer * high // max(wide, high))


def draw(folder: Path, number: int) -> tuple[str, Size]:
    """A file of one colour, like no other; every fourth lies on its side and says so in its EXIF. Its id and size."""
    width, height = upright(number)
    ending, kind = KINDS[number % len(KINDS)]
    name, exif = f"{number:04}.{ending}", Image.Exif()
    stored = (width, height)
    if number % 4 == 1:
        exif[ORIENTATION] = TURNED
        stored = (height, width)
    random = Random(number)
    colour = (random.randrange(256), random.randrange(256), number % 256)
    picture = Image.new("RGB", stored, colour)
    picture.paste((255, 255, 255), (0, 0, number % stored[0] + 1, 1))
    picture.save(folder / name, kind, exif=exif)
    return name, (width, height)


def names() -> Iterator[tuple[Family, str]]:
    """Every family with a rule, and a model's name that belongs to it."""
    for family in families():
        if not family.rules:
            continue
        tried = [re.sub(r"\[(.).*?\]", r"\1", pattern).replace("*", "") for pattern in family.match]
        yield family, next(name for name in tried if family_of(name) is family)


def prompt_shape(model: str) -> PromptShape:
    config = load_config(None, {"request.model": model}, environ={})
    return Candidate(name=model, config=config, anywhere=True).prompt_shape(datetime.now(UTC).date())


def row(family: Family, model: str, estimated: int, sizes: Mapping[str, Size], out: Path) -> Row:
    """What the run of one family left in `out`, beside what was estimated."""
    rows, asked = pipeline.read(out).set_index("id"), prompt_shape(model)
    if set(rows.status) != {"ok"} or len(rows) != len(sizes):
        raise SystemExit(f"{model}: {dict(rows.status.value_counts())} of {len(sizes)} images")
    sent = zip(rows.index, rows.sent_width, rows.sent_height, strict=True)
    # A small file that costs no more as it is, is sent as it is.
    other = sum((width, height) not in {asked.sent(*sizes[name]), sizes[name]} for name, width, height in sent)
    return Row(family.name, model, asked.rule.name, estimated, int(rows.prompt_tokens.sum()), other)


def compared(folder: Path, sizes: Mapping[str, Size]) -> Iterator[Row]:
    """Estimate for all families at once, then a run each."""
    known = list(names())
    found = pipeline.estimate(folder, models=[model for _, model in known]).models
    with child_emulator(["--fast"]) as url, tempfile.TemporaryDirectory() as outs:
        for (family, model), expected in zip(known, found, strict=True):
            out = Path(outs) / family.name
            pipeline.run(folder, out=out, model=model, base_url=url, concurrency=32, quiet=True)
            yield row(family, model, expected.input_tokens.expected, sizes, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    folder = cache_dir(arguments.cache) / f"families-{arguments.images}"
    folder.mkdir(exist_ok=True)
    sizes = dict(draw(folder, number) for number in range(arguments.images))
    print("| family | as | rule | estimated | billed | off by |\n|---|---|---|---|---|---|")
    rows = []
    for one in compared(folder, sizes):
        rows.append(one)
        rule = one.rule.replace(" | ", ", ")
        sent = f", {one.other_sizes} sent otherwise" if one.other_sizes else ""
        print(f"| {one.family} | {one.model} | {rule} | {one.estimated:,} | {one.billed:,} | {one.off:.2%}{sent} |")
    right = sum(one.is_right for one in rows)
    print(f"\n{right} of {len(rows)} families within {TOLERATED:.0%}, {len(sizes)} images each, sizes as predicted")
    sys.exit(int(right < len(rows)))


if __name__ == "__main__":
    main()
