"""Many nights on one output directory, against a plain model of what it must hold, and what it may have cost."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

import pipeline
from pipeline.catalogue.prices import Price
from pipeline.endpoints import pricing
from pipeline.run import prepare
from pipeline.tokens import OpenAITiles
from tests import warm
from tests.emulators import emulator
from tests.support import MakeImage, emulator_get

PROMPTS = ("What is this?", "What is that?")
STEPS = ("rows-built", "before-commit", "committed", "tmp-written", "tmp-synced", "renamed", "folder-synced", "marked")
ROOT = Path(__file__).parents[2]

CRASHING = """
import os, sys
from pathlib import Path
import pipeline
from pipeline.store.dataset import Dataset
step, left = sys.argv[4], int(sys.argv[5])
def failpoint(reached):
    global left
    if reached == step:
        if left == 0:
            os._exit(9)
        left -= 1
original = Dataset.open.__func__
Dataset.open = classmethod(lambda cls, *a, **k: original(cls, *a, **k, failpoint=failpoint))
pipeline.run(sys.argv[1], out=sys.argv[2], base_url=sys.argv[3], model="gpt-4o", prompt=sys.argv[6], quiet=True,
             concurrency=2, overrides={"output.rows_per_part": 3}, **eval(sys.argv[7]))
"""


@dataclass(frozen=True)
class Row:
    """What a row must say: the pixels that were asked about, and by which prompt."""

    width: int
    prompt: str
    answer: int
    """Rows with the same number share one answer, which the first of them to be asked may lend to others."""


NUMBERS = st.integers(0, 7)
CRASHES = st.none() | st.tuples(st.sampled_from(STEPS), st.integers(0, 4))
EVENTS = st.one_of(
    st.tuples(st.just("add"), NUMBERS),
    st.tuples(st.just("copy"), NUMBERS, NUMBERS),
    st.tuples(st.just("remove"), NUMBERS),
    st.tuples(st.just("night"), st.sampled_from(["plain", "changed", "refresh", "keep", "other"]), CRASHES),
)
"""Drawn before anything happens: what a run does decides about no draw."""


class Nights:
    """Files come, change and go; runs of every kind pass, some of them cut off at some step of keeping."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.source, self.out = folder / "photos", folder / "out"
        self.source.mkdir()
        self.files: dict[str, int] = {}
        self.rows: dict[str, Row] = {}
        self.seed = 0
        self.prompt = PROMPTS[0]
        self.sharing = Counter[int]()
        """How many rows have ever shared each answer."""
        self.clock_ns = 10**18
        self.add(0)

    def write(self, name: str, width: int) -> None:
        pixels = np.random.default_rng(width).integers(0, 255, (4, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, 20)).save(self.source / name)
        self.clock_ns += 10**9
        os.utime(self.source / name, ns=(self.clock_ns, self.clock_ns))
        self.files[name] = width

    def add(self, number: int) -> None:
        """A new file, or new pixels in an old one; every width is new, and stands for its pixels."""
        self.seed += 1
        self.write(f"{number}.png", 20 + self.seed)

    def copy(self, number: int, other: int) -> None:
        """A second name for pixels that are there, or a file that is only newer, whose row stays."""
        name = f"{number}.png"
        if others := sorted(set(self.files) - {name}):
            self.write(name, self.files[others[other % len(others)]])

    def remove(self, number: int) -> None:
        if len(self.files) > 1:
            name = sorted(self.files)[number % len(self.files)]
            (self.source / name).unlink()
            del self.files[name]

    def night(self, kind: str, crash: tuple[str, int] | None) -> None:
        """One run, perhaps crashed and resumed; then every row is as the model has it, and paid no more than once."""
        if kind in {"keep", "other"}:
            self.prompt = PROMPTS[1 - PROMPTS.index(self.prompt)]
        kinds: dict[str, dict[str, Any]] = {
            "plain": {},
            "changed": {"refresh_changed": True},
            "refresh": {"refresh": True},
            "keep": {"on_config_change": "keep"},
            "other": {"on_config_change": "refresh"},
        }
        again = kinds[kind]
        wanted = {name for name in self.files if self.is_asked(name, kind)}
        least, most = self.to_pay(wanted, kind)
        before = emulator_get(self.url, "stats")["billed"]
        if crash is None or self.crashed(again, crash):
            assert self.run(again).exit_code == 0
        self.answer(wanted)
        spent = emulator_get(self.url, "stats")["billed"] - before
        assert least <= spent <= most + (0 if crash is None else 2 * 2), (kind, crash)

    def answer(self, wanted: set[str]) -> None:
        """The rows of those that were asked. A follower lends nothing, and which one led is not known here."""
        known = {row.width for row in self.rows.values() if row.prompt == self.prompt}
        answers = {width: len(self.sharing) + number for number, width in enumerate({self.files[n] for n in wanted})}
        self.sharing += Counter(answers[self.files[name]] for name in wanted)
        self.sharing += Counter(answers[width] for width in known & answers.keys())  # a row of before may lead
        self.rows |= {name: Row(self.files[name], self.prompt, answers[self.files[name]]) for name in wanted}

    def is_asked(self, name: str, kind: str) -> bool:
        row = self.rows.get(name)
        if row is None or kind == "refresh":
            return True
        if kind == "changed":
            return row.width != self.files[name]
        return kind == "other" and row.prompt != self.prompt

    def to_pay(self, wanted: set[str], kind: str) -> tuple[int, int]:
        """Different pixels among those asked, less those that another row has an answer to already.

        A row that is itself asked again lends its old answer until it has the new one. An answer is sure to be lent
        where all rows are left that share it.
        """
        widths = {self.files[name] for name in wanted}
        known = {name: row for name, row in self.rows.items() if row.prompt == self.prompt}
        left = Counter(row.answer for name, row in known.items() if name not in wanted)
        lasting = {row.width for row in known.values() if left[row.answer] == self.sharing[row.answer]}
        least = len(widths - {row.width for row in known.values()})
        return (len(widths),) * 2 if kind == "refresh" else (least, len(widths - lasting))

    def run(self, again: dict[str, Any]) -> pipeline.RunSummary:
        return pipeline.run(
            self.source,
            out=self.out,
            base_url=self.url,
            model="gpt-4o",
            prompt=self.prompt,
            quiet=True,
            concurrency=2,
            overrides={"output.rows_per_part": 3},
            **again,
        )

    def crashed(self, again: dict[str, Any], crash: tuple[str, int]) -> bool:
        """A run in another process, which ends itself at that step; False where it never came so far."""
        step, skip = crash
        arguments = [str(self.source), str(self.out), self.url, step, str(skip), self.prompt, repr(again)]
        ended = warm.run(["-c", CRASHING, *arguments], cwd=ROOT)
        assert ended.returncode in {0, 9}, ended.stderr
        return ended.returncode == 9

    def check_rows(self) -> None:
        """The rows are those of the model."""
        if not self.rows:
            return
        frame = pd.read_parquet(self.out / "data").set_index("id")
        assert frame.index.is_unique
        assert frame.width.astype(int).to_dict() == {name: row.width for name, row in self.rows.items()}
        assert set(frame.status) == {"ok"}
        hashes = {row.prompt: str(frame.config_hash[name]) for name, row in self.rows.items()}
        assert frame.config_hash.to_dict() == {name: hashes[row.prompt] for name, row in self.rows.items()}


# A failure is shown as it was found: to look for a shorter one takes minutes.
@settings(max_examples=8, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(EVENTS, min_size=10, max_size=10))
def check_nights(url: str, events: list[tuple[Any, ...]]) -> None:
    with TemporaryDirectory() as folder:
        nights = Nights(Path(folder), url)
        for event, *given_with in events:
            getattr(nights, event)(*given_with)
            nights.check_rows()


def test_any_sequence_of_nights(emulator_url: str) -> None:
    """Runs, crashes, resumes, changed files, refreshes and other prompts in any order, against the model above."""
    check_nights(emulator_url)


NEXT_YEARS = "openai-tile/2027-01"
NEW_RULE = OpenAITiles(NEXT_YEARS, 100, 200)
NEW_PRICE = Price(input_usd_per_mtok=Decimal(100), output_usd_per_mtok=Decimal(100))


@contextmanager
def another_price_list(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A catalogue of another day: other tokens an image, other dollars a token."""
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "rule_for", lambda *_: NEW_RULE)
        patch.setattr(pricing, "price_of", lambda *_: NEW_PRICE)
        yield


def test_fourteen_nights(make_image: MakeImage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """New, changed, removed, broken and failing images; from the sixth night on another price and token rule, from
    the tenth another prompt under `keep`: one row a record, each as it was last asked, everything paid once.
    """
    expected: dict[str, tuple[int, str, str]] = {}
    with emulator(["--fault", "500=0.1", "--seed", "5"]) as url:
        for night in range(14):
            prompt, token_rule = PROMPTS[night >= 10], NEXT_YEARS if night >= 6 else "openai-tile-"
            seen = (100 + night, prompt, token_rule)
            _draw_night(make_image, tmp_path / "tonight", night, expected, seen)
            settle = another_price_list(monkeypatch) if night >= 6 else _nothing()
            with settle:
                again: dict[str, Any] = {"refresh_changed": True, "on_config_change": "keep"}
                summary = pipeline.run(
                    tmp_path / "tonight", out="out", model="gpt-4o", base_url=url, prompt=prompt, quiet=True,
                    max_failed=1, **again,
                )  # fmt: skip
            assert (summary.exit_code, summary.by_error) == (0, {"image_unsupported": 1})
        billed = emulator_get(url, "stats")["billed"]
    frame = pd.read_parquet("out/data").set_index("id")
    broken = frame.loc["broken.jpg"]
    assert (broken.status, broken.attempts) == ("failed", 0)
    good = frame.drop("broken.jpg")
    told = {name: (int(row.width), row.config_hash, str(row.token_rule)) for name, row in good.iterrows()}
    hashes = {expected[name][1]: told[name][1] for name in expected}
    assert len(set(hashes.values())) == 2
    assert {name: (w, c) for name, (w, c, _) in told.items()} == {
        name: (width, hashes[prompt]) for name, (width, prompt, _) in expected.items()
    }
    assert all(told[name][2].startswith(token_rule) for name, (_, _, token_rule) in expected.items())
    assert billed == 14 * 3 + 12
    dear = good[good.token_rule == NEXT_YEARS]
    tokens = dear.prompt_tokens + dear.completion_tokens
    assert (dear.cost_usd.astype(float) * 10_000).round(6).tolist() == tokens.astype(float).tolist()
    assert len(list(Path("out/runs").iterdir())) == 14


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _draw_night(
    make_image: Callable[..., Path],
    tonight: Path,
    night: int,
    expected: dict[str, tuple[int, str, str]],
    seen: tuple[int, str, str],
) -> None:
    """Three new images, from the third night on one of yesterday's changed and an older one gone."""
    for number in range(3):
        make_image(f"tonight/{night:02}-{number}.jpg", seen[0], 90, seed=10 * night + number)
        expected[f"{night:02}-{number}.jpg"] = seen
    if night > 1:
        (tonight / f"{night - 2:02}-0.jpg").unlink()
        make_image(f"tonight/{night - 1:02}-1.jpg", seen[0], 77, seed=1000 + night)
        expected[f"{night - 1:02}-1.jpg"] = seen
    (tonight / "broken.jpg").write_bytes(b"no image" * (night + 1))
