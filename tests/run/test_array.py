"""A run of one shard: what it says, what it may use, and the output directory that belongs to it."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

import pipeline
from pipeline.config.keywords import resolve
from pipeline.config.shards import SourceShard
from pipeline.errors import BudgetReachedError, InputError
from pipeline.run.sharding import shared_budget
from tests.builders import ask
from tests.containers import SMALL, tar_of
from tests.support import Command, MakeImage, emulator_get

NAMES = [f"{number:02}.jpg" for number in range(18)]


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number, name in enumerate(NAMES):
        make_image(f"photos/{name}", 32, 24, seed=number)
    return Path("photos")


def run(command: Command, source: str, endpoint: str, *more: str) -> tuple[int, str]:
    code, _, said = command("run", source, "--base-url", endpoint, "--model", "gpt-4o", *more)
    return code, said


def test_what_a_shard_says(command: Command, photos: Path, endpoint: str) -> None:
    """Its part of the source, its share of limits and budgets in one line, and how to keep them whole."""
    limits = ("--rpm", "600000", "--max-requests", "601", "--concurrency", "8")
    code, said = run(command, "photos", endpoint, "-o", "s0", "--shard", "0/3", *limits)
    assert code == 0
    assert re.search(r"shard 0/3: \d+ images; by the hash of the id", said)
    assert "divided by 3" in said
    assert "200,000 of 600,000 requests a minute, 3 of 8 in flight, 201 of 601 requests (--no-divide-limits" in said
    summary = json.loads(next(Path("s0/runs").iterdir()).read_text())
    assert "-0of3-" in summary["run_id"]
    assert command("status", "s0")[1].startswith("s0, shard 0/3 of its source: ")
    assert json.loads(command("status", "s0", "--json")[1])["shard"] == "0/3"
    code, said = run(command, "photos", endpoint, "-o", "s1", "--shard", "1/3", "--no-divide-limits", *limits)
    assert "limits and budgets are whole" in said
    assert "each needs one request in flight" in run(command, "photos", endpoint, "-o", "s2", "--shard", "2/3",
                                                      "--concurrency", "2")[1]  # fmt: skip


def test_an_output_directory_belongs_to_one_shard(command: Command, photos: Path, endpoint: str) -> None:
    """Another shard, another N, or the whole source on the same OUT sends nothing; the same shard goes on."""
    assert run(command, "photos", endpoint, "-o", "out", "--shard", "0/3", "--limit", "2")[0] == 0
    before = emulator_get(endpoint, "stats")["requests"]
    for more in (["--shard", "1/3"], ["--shard", "0/4"], []):
        code, said = run(command, "photos", endpoint, "-o", "out", *more)
        assert code == 2
        assert "out is for shard 0/3 of its source" in said
    assert emulator_get(endpoint, "stats")["requests"] == before == 2
    Path("out/ledger.sqlite").unlink()
    assert command("rebuild", "out")[0] == 0
    assert run(command, "photos", endpoint, "-o", "out", "--shard", "1/3")[0] == 2
    assert run(command, "photos", endpoint, "-o", "out", "--shard", "0/3")[0] == 0
    assert ask("photos", endpoint, out="whole", limit=1).asked == 1
    assert "is for all of its source" in run(command, "photos", endpoint, "-o", "whole", "--shard", "0/3")[1]
    assert run(command, "photos", endpoint, "-o", "whole", "--shard", "0/1")[0] == 0


def test_a_shard_of_nothing_ends_well(command: Command, endpoint: str) -> None:
    """In one line, with 0 and an OUT that `merge` takes."""
    Path("tars").mkdir()
    Path("tars/0.tar").write_bytes(tar_of([("a.jpg", SMALL)]))
    said = {index: run(command, "tars/*.tar", endpoint, "-o", f"s{index}", "--shard", f"{index}/3") for index in "012"}
    assert [code for code, _ in said.values()] == [0, 0, 0]
    empty = [words for _, words in said.values() if "0 of 1 file, by the hash of the name: nothing to ask" in words]
    assert len(empty) == 2
    assert all(len(words.splitlines()) == 1 for words in empty)
    assert pipeline.merge(["s0", "s1", "s2"], out="all").records == 1


def test_what_chooses_records_chooses_within_a_shard(photos: Path, endpoint: str) -> None:
    """`--only` may name what other shards have; a sample, a limit, marks and equal images work as without shards."""
    Path("ids.txt").write_text("\n".join(NAMES[:9]))
    asked = [ask("photos", endpoint, out=f"only-{index}", shard=f"{index}/2", only="ids.txt").asked for index in (0, 1)]
    assert sum(asked) == 9
    assert ask("photos", endpoint, out="sampled", shard="0/2", sample=2).asked == 2
    Path("list.txt").write_text("".join(f"photos/{name}\n" for name in NAMES))
    first = ask("list.txt", endpoint, out="listed", shard="0/2")
    assert first.asked == len(pipeline.read("listed"))
    Path("list.txt").write_text("".join(f"photos/{name}\n" for name in [*NAMES, *NAMES[:1]]))
    index = next(index for index in (0, 1) if SourceShard(index, 2).holds(f"photos/{NAMES[0]}"))
    with pytest.raises(InputError, match="on lines 1 and 19"):
        ask("list.txt", endpoint, out="twice", shard=f"{index}/2")


def test_the_budget_of_a_shard(photos: Path, endpoint: str) -> None:
    """Each stops at its share, and together they never send more than was set."""
    sent = 0
    for index in range(2):
        with pytest.raises(BudgetReachedError) as stopped:
            ask("photos", endpoint, out=f"s{index}", shard=f"{index}/2", max_requests=5)
        summary = stopped.value.summary
        assert isinstance(summary, pipeline.RunSummary)
        sent += summary.requests
    assert sent == emulator_get(endpoint, "stats")["requests"] == 5


def test_shares_of_money() -> None:
    """Also of the sum above which a run asks for confirmation: eight cheap shards may be one dear run."""
    own = shared_budget(resolve(None, {"shard": "2/3", "max_cost": "10", "max_cost_total": "0.000000002"}))
    assert (own.max_cost_usd, own.max_cost_total_usd) == (Decimal("3.333333333"), Decimal(0))
    assert own.confirm_usd == Decimal("3.333333333")
    whole = resolve(None, {"shard": "2/3", "max_cost": "10", "divide_limits": False})
    assert shared_budget(whole) == whole.budget


def test_an_estimate_of_one_shard(command: Command, photos: Path) -> None:
    """Its images, the share of the rate, and a note that says so."""
    found = [pipeline.estimate("photos", model="gpt-4o", shard=f"{index}/3", rpm=60) for index in range(3)]
    assert sum(one.images for one in found) == len(NAMES)
    code, said, _ = command("estimate", "photos", "--model", "gpt-4o", "--shard", "0/3", "--rpm", "60")
    assert code == 0
    assert "20 requests a minute" in said
    assert "of shard 0/3 alone" in said
    assert command("estimate", "--count", "9", "--size", "9x9", "--shard", "0/3")[0] == 2
