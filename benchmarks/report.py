"""How long the report of a million rows takes, with how much memory, and how large it is.

`python benchmarks/report.py [--rows 1000000] [--out OUT] [--photos FOLDER]`: makes the output directory by the
project's own code in some minutes (`--out` keeps it, and uses one that is there), then reports on it in a process of
its own. The rows have every status, several kinds of error, two models, labels, flags, and times over two nights.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from common import draw_jpeg, peak_mb

from pipeline.config.loading import load_config
from pipeline.errors import ErrorKind
from pipeline.locations import LocalFile, Origin
from pipeline.records import Answer, Failure, ImageFacts, ImageRecord, Outcome, Status, Usage
from pipeline.store.dataset import Dataset

BATCH = 2_000
PHOTOS = 24
BEGAN = datetime(2026, 11, 20, 22, tzinfo=UTC)
NIGHT = timedelta(hours=24)
ROWS_A_SECOND = 40.0
SCENES = ("indoor", "outdoor", "portrait", "document")
SCHEMA = {
    "type": "object",
    "properties": {
        "scene": {"type": "string", "enum": list(SCENES)},
        "people": {"type": "integer", "minimum": 0, "maximum": 99},
        "is_sharp": {"type": "boolean"},
    },
    "required": ["scene", "people", "is_sharp"],
    "additionalProperties": False,
}
SIZES = ((640, 480), (1600, 1200), (4032, 3024), (3024, 4032), (6000, 4000), (900, 1400))
FAILURES = (
    (ErrorKind.IMAGE_MISSING, "no such file"),
    (ErrorKind.IMAGE_TRUNCATED, "the file ends after 41,772 of its bytes"),
    (ErrorKind.TIMEOUT, "no answer within 120 s"),
    (ErrorKind.SERVER_ERROR, "HTTP 503: <img src=x onerror=alert(1)> upstream is away"),
)
TEXT = "a quiet street after rain two children with a kite an old harbour at dusk bread on a wooden table"
WORDS = TEXT.split()


def answer(number: int, dice: random.Random) -> Answer | Failure:
    roll = dice.random()
    if roll < 0.012:
        kind, message = FAILURES[number % len(FAILURES)]
        return Failure(kind=kind, message=message)
    usage = Usage(prompt_tokens=765 + dice.randrange(-9, 9), completion_tokens=dice.randrange(12, 90))
    labels = {
        "scene": SCENES[min(3, int(dice.expovariate(0.9)))],
        "people": min(99, int(dice.expovariate(0.5))),
        "is_sharp": dice.random() < 0.93,
    }
    status = Status.OK if roll < 0.985 else Status.TRUNCATED if roll < 0.994 else Status.REFUSED
    text = " ".join(dice.choice(WORDS) for _ in range(dice.randrange(8, 40)))
    return Answer(
        status=status,
        caption=text if status is not Status.REFUSED else None,
        model="gpt-4o-2024-11-20" if number % 5 else "gpt-4o-mini-2024-07-18",
        usage=replace(usage, total_tokens=(usage.prompt_tokens or 0) + (usage.completion_tokens or 0)),
        latency_s=0.4 + dice.gammavariate(2, 0.5),
        labels=labels if status is Status.OK else None,
        error_kind=ErrorKind.REFUSED if status is Status.REFUSED else None,
        error_message="the model declined" if status is Status.REFUSED else None,
    )


def outcome(number: int, rows: int, digests: list[str]) -> Outcome:
    dice = random.Random(number)
    name, photo = f"albums/{number // 1000:04d}/picture {number:07d}.jpg", number % len(digests)
    result, (width, height) = answer(number, dice), SIZES[number % len(SIZES)]
    usage = result.usage or Usage()
    night, second = divmod(2 * number, rows)
    at = BEGAN + night * NIGHT + timedelta(seconds=second / 2 / ROWS_A_SECOND)
    facts = ImageFacts(
        width=width, height=height, sent_width=min(width, 1024), sent_height=min(height, 768), sent_bytes=90_000,
        source_bytes=350_000, sha256=digests[photo], stamp=number,
        flags=("decoder_warning",) if dice.random() < 0.002 else (),
    )  # fmt: skip
    path = f"{photo:02d}.jpg"
    is_answered = isinstance(result, Answer)
    return Outcome(
        record=ImageRecord(name, (LocalFile(path, path),)),
        result=result,
        image_facts=(facts,),
        request_sha256=hashlib.sha256(name.encode()).hexdigest(),
        predicted_prompt_tokens=765,
        token_rule="openai-tile",  # noqa: S106 - no password
        attempts=int(is_answered),
        usage=usage,
        cost_usd=Decimal(f"{0.0025 + dice.random() / 500:.9f}") if is_answered else None,
        asked_at=at - timedelta(seconds=2),
        answered_at=at,
    )


def prepare(out: Path, rows: int, photos: Path | None) -> None:
    """An output directory that holds `rows` rows; their originals lie beside it, in `photos`."""
    out.mkdir(parents=True)
    folder = out.parent / "photos"
    folder.mkdir(exist_ok=True)
    found = sorted(photos.glob("*.jpg"))[:PHOTOS] if photos else []
    for number in range(len(found) or PHOTOS):
        path = folder / f"{number:02d}.jpg"
        if found:
            path.write_bytes(found[number].read_bytes())
        else:
            draw_jpeg(path, SIZES[number % len(SIZES)], number, 85)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.jpg"))]
    (out.parent / "labels.json").write_text(json.dumps(SCHEMA))
    settings = {"request.model": "gpt-4o", "request.labels": str(out.parent / "labels.json")}
    config = load_config(None, settings, {})
    with Dataset.open(out, config=config, run_id="20261120-220000-000000", now=lambda: BEGAN) as dataset:
        dataset.note_origins([Origin("photos", (str(folder.absolute()),))])
        for start in range(0, rows, BATCH):
            dataset.commit([outcome(number, rows, digests) for number in range(start, min(start + BATCH, rows))])
            if start % 50_000 == 0:
                dataset.seal()
        dataset.end_run()


def child(out: Path) -> None:
    import pipeline  # noqa: PLC0415 - its import is part of what is measured

    began = time.perf_counter()
    path = pipeline.report(out)
    seconds = time.perf_counter() - began
    used = {"seconds": seconds, "cpu_s": time.process_time()}
    print(json.dumps({**used, "peak_mb": peak_mb(), "size_mb": path.stat().st_size / 1e6}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--child", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch) / "out"
        if not out.exists():
            began = time.perf_counter()
            prepare(out, arguments.rows, arguments.photos)
            print(f"{arguments.rows:,} rows made in {time.perf_counter() - began:.0f} s")
        command = [sys.executable, __file__, "--child", str(out)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, env={**os.environ})
        told = json.loads(done.stdout)
        took = f"{told['seconds']:.1f} s ({told['cpu_s']:.1f} s of processor time)"
        print(f"report: {took}, {told['size_mb']:.1f} MB; peak memory {told['peak_mb']:.0f} MB")


if __name__ == "__main__":
    main()
