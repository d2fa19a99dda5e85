"""Odd inputs of commands, manifests and output directories: each is an answer or one clear line."""

import io
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import InputError, ResourceError
from pipeline.cli.output import confirm
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig, SourceConfig
from pipeline.endpoints.usage import believed
from pipeline.http.agent import version
from pipeline.http.session import open_session
from pipeline.run.endpoints import endpoint_of, max_concurrency
from pipeline.run.job import exceeds
from pipeline.sources import open_sources
from pipeline.store.ledger.sqlite import SqliteLedger
from tests import warm
from tests.builders import ask
from tests.clients import ChatClient
from tests.support import MakeImage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(3):
        make_image(f"photos/{number}.png", 20 + number, 16, seed=number)
    return Path("photos").resolve()


def vision_batch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return warm.run(["-m", "pipeline", *arguments], timeout=60)


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("allowed", ["-1", "-1%", "nan%", "inf%", "nan", "1e3", "9" * 400])
def test_a_tolerance_that_is_none(photos: Path, endpoint: str, allowed: str) -> None:
    """A number of failed rows that cannot be meant is exit code 2, before anything is sent or made."""
    with pytest.raises(InputError, match="`max_failed=`"):
        ask(photos, endpoint, max_failed=allowed)
    assert not Path("out").exists()


def test_a_tolerance() -> None:
    """At most a number, or a share of those asked; the share may be a fraction."""
    assert [exceeds("2", bad, 10) for bad in (2, 3)] == [False, True]
    assert [exceeds("2.5%", bad, 1000) for bad in (25, 26)] == [False, True]


async def test_concurrency_is_bounded_by_file_handles() -> None:
    """`--concurrency 100000`: half of the handles of this process, shared among the endpoints."""
    one = EndpointConfig(base_url="http://127.0.0.1:9")
    async with open_session(one) as session:
        for endpoints in (1, 2):
            config = RunConfig(endpoints=(one,) * endpoints)
            config = config.model_copy(update={"limits": config.limits.model_copy(update={"concurrency": 10**8})})
            client = ChatClient(session, one).client
            assert endpoint_of(config, one, client, "x").concurrency == max_concurrency(endpoints) < 10**8
    assert max_concurrency(2) == max_concurrency() // 2


def test_version() -> None:
    """`vision-batch --version` says what is installed."""
    done = vision_batch("--version")
    assert (done.returncode, done.stdout) == (0, f"vision-batch {version()}\n")


def test_rebuild_as_json(photos: Path, endpoint: str) -> None:
    """`rebuild --json` prints the report and nothing else."""
    ask(photos, endpoint)
    report = json.loads(vision_batch("rebuild", "out", "--json").stdout)
    assert (report["parts"], report["records"], report["unreadable"]) == (1, 3, [])


def test_dry_run_as_json(photos: Path) -> None:
    """`run --dry-run --json`: how many requests, where to, the image's sizes, and the body without its base64."""
    done = vision_batch("run", "photos", "--dry-run", "--json", "-c", "openai")
    told = json.loads(done.stdout)
    assert (told["requests"], told["address"]) == (3, "https://api.openai.com/v1/chat/completions")
    assert (told["predicted_prompt_tokens"] > 0, told["max_answer_tokens"], Decimal(told["most_usd"]) > 0) == (
        True,
        300,
        True,
    )
    assert (told["image"], told["facts"]["width"]) == ("photos/0.png", 20)
    assert "characters>" in told["body"]["messages"][0]["content"][1]["image_url"]["url"]


def test_no_person_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input ends where a dear run asks whether to go on: that is no."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert not confirm("this run is expected to cost $11.00 and has no budget. Go on?")


# ---------------------------------------------------------------- manifests and answers


def test_whole_numbers_that_pandas_made_fractions() -> None:
    """An id column of whole numbers that Parquet holds as floats gives whole ids; a true fraction is no id."""
    pd.DataFrame({"id": [1.0, 20.0, 2.0**53], "image": list("abc")}).to_parquet("ids.parquet")
    records = open_sources(["ids.parquet"], SourceConfig(), out=Path("out")).records()
    assert [record.id for record in records] == ["1", "20", str(2**53)]
    pd.DataFrame({"id": [1.0, 1.5], "image": list("ab")}).to_parquet("ids.parquet")
    with pytest.raises(InputError, match=r"row 2: the id is a fraction"):
        open_sources(["ids.parquet"], SourceConfig(), out=Path("out")).check()


def test_blanks_at_the_end_of_a_line(photos: Path) -> None:
    """An editor leaves them in a list of paths; no name ends with them."""
    Path("list.txt").write_bytes(b"photos/0.png  \r\nphotos/1.png\t\n \nphotos/2.png")
    records = open_sources(["list.txt"], SourceConfig(), out=Path("out")).records()
    assert [record.id for record in records] == [f"photos/{number}.png" for number in range(3)]


@pytest.mark.parametrize(("told", "usd"), [(1000, Decimal(1000)), (1001, None), (1e300, None), ("1e7", None)])
def test_a_cost_that_cannot_be(told: float | str, usd: Decimal | None) -> None:
    """No request costs more than a thousand dollars: such a figure is none, wherever it stands."""
    assert believed({"usage": {"cost": told}}, {}).cost_usd == usd
    assert believed({}, {"x-aimlapi-usd-spent": str(told)}).cost_usd == usd


# ---------------------------------------------------------------- output directories


def test_a_link_that_leads_nowhere(photos: Path, endpoint: str) -> None:
    """OUT is a link to a directory that is gone: exit code 2 with where it leads."""
    Path("out").symlink_to("gone")
    with pytest.raises(InputError, match="a link to gone"):
        ask(photos, endpoint)
    assert not Path("gone").exists()


def test_an_empty_ledger(photos: Path, endpoint: str) -> None:
    """A ledger of no bytes beside whole parts: `status` and `run` name the way out, which then asks nothing again."""
    ask(photos, endpoint)
    ledger = Path("out/ledger.sqlite")
    ledger.write_bytes(b"")
    done = vision_batch("status", "out")
    assert (done.returncode, done.stdout) == (5, "")
    assert "vision-batch rebuild out" in done.stderr
    with pytest.raises(ResourceError, match="vision-batch rebuild out"):
        pipeline.compact("out")
    with pytest.raises(ResourceError, match=r"empty.*vision-batch rebuild out"):
        ask(photos, endpoint)
    assert ledger.stat().st_size == 0
    assert pipeline.rebuild("out").records == 3
    assert ask(photos, endpoint).requests == 0


def test_a_ledger_of_nothing_but_tables(photos: Path, endpoint: str) -> None:
    """A ledger that was begun anew over parts that are there asks nothing again either."""
    ask(photos, endpoint)
    Path("out/ledger.sqlite").write_bytes(b"")
    SqliteLedger(Path("out/ledger.sqlite")).close()
    with pytest.raises(ResourceError, match=r"holds nothing.*vision-batch rebuild out"):
        ask(photos, endpoint)
    assert pipeline.rebuild("out").records == 3


def test_an_empty_ledger_alone(photos: Path, endpoint: str) -> None:
    """Killed before there was anything in it: `status` says to run the same command, which then does its work."""
    Path("out").mkdir()
    Path("out/ledger.sqlite").write_bytes(b"")
    with pytest.raises(InputError, match="run the same command again"):
        pipeline.status("out")
    assert ask(photos, endpoint).asked == 3


def test_a_refresh_that_was_cut_off_before_a_rebuild(photos: Path, endpoint: str) -> None:
    """`--refresh` had answered one of three when it stopped; after a rebuild it goes on with the other two."""
    ask(photos, endpoint)
    refresh: dict[str, Any] = {"refresh": True}
    with pytest.raises(pipeline.BudgetReachedError):
        ask(photos, endpoint, concurrency=1, overrides={"budget.max_requests": 1}, **refresh)
    pipeline.rebuild("out")
    rest = ask(photos, endpoint, **refresh)
    assert (rest.exit_code, rest.requests, rest.skipped) == (0, 2, 1)
