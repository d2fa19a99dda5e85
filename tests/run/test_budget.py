"""Whole runs under a budget, against the emulator: what it billed is what counts."""

import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pandas as pd
import pytest

import pipeline
from pipeline import BudgetReachedError, DamagedLedgerError, InputError
from pipeline.catalogue.prices import Price, cost_usd
from pipeline.config.limits import BudgetConfig, LimitsConfig
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig, RequestConfig
from pipeline.endpoints import pricing
from pipeline.engine.stages import Clock
from pipeline.records import Usage
from pipeline.run.job import Job
from pipeline.run.run import run_job
from tests import builders, warm
from tests.emulators import emulator
from tests.support import MakeImage, emulator_get

ROOT = Path(__file__).parents[2]
PRICE = Price(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(10))
"""Of gpt-4o; an emulator on this machine has none of its own."""
IMAGES = 40

KILLED = """
import os, signal, sys
from decimal import Decimal
import pipeline
from pipeline.endpoints import pricing
from pipeline.store.dataset import Dataset
from pipeline.catalogue.prices import Price
source, url, budget, commits = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
pricing.price_of = lambda *_: Price(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(10))
def failpoint(reached):
    global commits
    commits -= reached == "committed"
    if commits == 0:
        os.kill(os.getpid(), signal.SIGKILL)
original = Dataset.open.__func__
Dataset.open = classmethod(lambda cls, *a, **k: original(cls, *a, **k, failpoint=failpoint))
pipeline.run(source, out="out", base_url=url, model="gpt-4o", quiet=True, concurrency=4, detail="low", max_cost=budget)
"""


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(IMAGES):
        make_image(f"photos/{number:02}.jpg", 64, 48, seed=number)
    return Path("photos").resolve()


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator costs what gpt-4o does."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)


@pytest.fixture
def url() -> Iterator[str]:
    with emulator(["--latency-ms", "20"]) as running:
        yield running


def ask(source: Path, url: str, **more: Any) -> pipeline.RunSummary:
    return builders.ask(source, url, **{"concurrency": 4, "detail": "low", **more})


def stopped(source: Path, url: str, **more: Any) -> tuple[str, pipeline.RunSummary]:
    """A run that ends with exit code 3 -> its words and its summary."""
    with pytest.raises(BudgetReachedError) as caught:
        ask(source, url, **more)
    assert caught.value.exit_code == 3
    assert isinstance(caught.value.summary, pipeline.RunSummary)
    assert caught.value.summary.exit_code == 3
    return str(caught.value), caught.value.summary


def billed_usd(url: str) -> Decimal:
    """By the emulator's own counts."""
    stats = emulator_get(url, "stats")
    usage = Usage(prompt_tokens=stats["prompt_tokens"], completion_tokens=stats["completion_tokens"])
    return cost_usd(usage, PRICE) or Decimal(0)


def run_totals(summary: pipeline.RunSummary) -> dict[str, Any]:
    totals = json.loads(Path("out/runs", f"{summary.run_id}.json").read_text())["totals"]
    return dict(totals)


def test_a_budget_holds_and_a_higher_one_goes_on(photos: Path, url: str, priced: None) -> None:
    """A quarter of the money asks about part of the images and stops at or below it, by the emulator's bill.

    The same budget again sends nothing; a higher one asks for the rest; rows, totals and bill are one sum.
    """
    words, first = stopped(photos, url, max_cost="0.010")
    assert 0 < first.asked < IMAGES
    assert billed_usd(url) == first.cost_usd
    assert billed_usd(url) <= Decimal("0.010")
    assert f"{IMAGES - first.asked} of {IMAGES} images remain" in words
    assert "\n" not in words
    _, again = stopped(photos, url, max_cost="0.010")
    assert (again.asked, again.requests) == (0, 0)
    rest = ask(photos, url, max_cost="1")
    assert (rest.exit_code, rest.run_id) == (0, first.run_id)
    assert rest.asked == IMAGES - first.asked
    frame = pd.read_parquet("out/data")
    assert (set(frame.status), len(frame)) == ({"ok"}, IMAGES)
    assert frame.cost_usd.sum() == billed_usd(url)
    assert Decimal(run_totals(rest)["cost_usd"]) == billed_usd(url)
    assert Decimal(run_totals(rest)["cost_unknown_usd"]) == 0


def test_faults_are_paid_for_within_the_budget(photos: Path, priced: None) -> None:
    """Answers that are billed and useless, and connections that break: all of it stays below the budget."""
    faults = [word for fault in ("broken_json=0.2", "disconnect_mid=0.2", "500=0.1") for word in ("--fault", fault)]
    with emulator(["--latency-ms", "20", "--seed", "3", *faults]) as url:
        _, summary = stopped(photos, url, max_cost="0.030")
        totals = run_totals(summary)
        assert Decimal(totals["cost_unknown_usd"]) > 0
        assert summary.cost_unknown_usd == Decimal(totals["cost_unknown_usd"])
        assert billed_usd(url) <= Decimal(totals["cost_usd"]) + Decimal(totals["cost_unknown_usd"])
        assert Decimal(totals["cost_usd"]) + Decimal(totals["cost_unknown_usd"]) <= Decimal("0.030")


def test_a_budget_of_all_runs(photos: Path, make_image: MakeImage, url: str, priced: None) -> None:
    """What an earlier run on the same OUT has cost counts against `max_cost_total`, not against `max_cost`."""
    assert ask(photos, url, max_cost_total="1").exit_code == 0
    before = billed_usd(url)
    for number in range(20):
        make_image(f"photos/new{number:02}.jpg", 64, 48, seed=100 + number)
    budget = before + Decimal("0.008")
    words, second = stopped(photos, url, max_cost_total=str(budget))
    assert 0 < second.asked < 20
    assert before < billed_usd(url) <= budget
    assert "the budget has no room for another request" in words
    assert ask(photos, url, max_cost="0.05").exit_code == 0
    assert pd.read_parquet("out/data").cost_usd.sum() == billed_usd(url)


def test_a_budget_of_requests(photos: Path, url: str) -> None:
    """Ten are granted, ten arrive, no price needed; the run with its resumes has no more than twenty."""
    words, first = stopped(photos, url, overrides={"budget.max_requests": 10})
    assert emulator_get(url, "stats")["requests"] == first.requests == 10
    assert "budget.max_requests is used up: 10 requests" in words
    _, second = stopped(photos, url, overrides={"budget.max_requests": 20})
    assert emulator_get(url, "stats")["requests"] == 20
    assert second.skipped == 10


def test_a_run_has_as_much_again_on_the_next_day(
    photos: Path, url: str, priced: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same line every night goes on, within its budget each; on the same day it sends nothing more."""
    _, first = stopped(photos, url, max_cost="0.010")
    billed = billed_usd(url)
    tomorrow = Clock(utc=lambda: datetime.now(UTC) + timedelta(days=1))
    monkeypatch.setattr(sys.modules["pipeline.run.run"], "Clock", lambda: tomorrow)
    words, second = stopped(photos, url, max_cost="0.010")
    assert second.run_id == first.run_id
    assert 0 < billed_usd(url) - billed <= Decimal("0.010")
    assert "of $0.0100000 are spent; " in words
    billed = billed_usd(url)
    _, third = stopped(photos, url, max_cost="0.010")
    assert (third.requests, billed_usd(url)) == (0, billed)


@pytest.mark.parametrize("more", [{"max_cost": "0.03"}, {"max_cost_total": "0.03"}])
def test_what_was_learned_of_bills_is_not_forgotten(photos: Path, url: str, priced: None, more: dict[str, str]) -> None:
    """Answers are billed for 31 times the prediction: what the first run has learned holds from the next one's first
    request on, until another rule is named.
    """
    wrong: dict[str, Any] = {"model": "gpt-4o-mini", "model_family": "gpt-4o", "concurrency": 1, **more}
    words, first = stopped(photos, url, **wrong)
    assert first.asked > 0
    billed = billed_usd(url)
    assert billed <= Decimal("0.03"), words
    _, again = stopped(photos, url, **wrong)
    assert (again.requests, billed_usd(url)) == (0, billed)
    assert ask(photos, url, **wrong | {"model_family": None, "concurrency": 4} | dict.fromkeys(more, "9")).asked > 0


def test_a_bill_of_another_kind_is_paid_once(photos: Path, url: str, priced: None) -> None:
    """Billed 33 times the prediction: with 32 requests at a time one answer is beyond the ceiling, and no second."""
    _, first = stopped(photos, url, max_cost="0.02", model="gpt-4o-mini", model_family="gpt-4o", concurrency=32)
    assert billed_usd(url) == first.cost_usd
    dearest = pd.read_parquet("out/data").cost_usd.max()
    assert dearest > Decimal("0.007")
    assert first.cost_usd <= Decimal("0.02") + dearest
    assert first.requests <= 3


def test_a_budget_of_tokens(photos: Path, url: str) -> None:
    """No more than the budget's tokens are billed, prompt and answer together."""
    words, _ = stopped(photos, url, overrides={"budget.max_tokens": 4000})
    stats = emulator_get(url, "stats")
    assert 2000 < stats["prompt_tokens"] + stats["completion_tokens"] <= 4000
    assert "budget.max_tokens has no room for another request" in words


@pytest.mark.parametrize("broken", [False, True])
def test_time_that_is_up_when_all_is_done(photos: Path, *, broken: bool) -> None:
    """The last answers come home after the time is up: nothing remains, and the exit code tells of failures."""
    if broken:
        (photos / "00.jpg").write_bytes(b"")
    with emulator(["--latency-ms", "1500"]) as url:
        summary = ask(photos, url, max_time="1s", concurrency=IMAGES)
    assert (summary.asked, summary.exit_code) == (IMAGES, int(broken))
    assert ask(photos, url, max_time="1s").asked == 0


def test_a_budget_of_time(photos: Path) -> None:
    """After half a second nothing more is sent; what is in flight is kept, and the next command asks for the rest."""
    with emulator(["--latency-ms", "200"]) as url:
        words, first = stopped(photos, url, max_time="500ms", concurrency=2)
        assert 0 < first.asked < IMAGES
        assert first.asked == emulator_get(url, "stats")["answered"]
        assert "the time is up" in words
        assert words.endswith("The same command goes on where it stopped")
        rest = ask(photos, url, concurrency=40)
        assert (rest.exit_code, rest.asked) == (0, IMAGES - first.asked)
        assert emulator_get(url, "stats")["answered"] == IMAGES


@pytest.mark.parametrize("commits", [1, 3])
def test_a_kill_counts_what_may_have_been_spent(photos: Path, priced: None, commits: int) -> None:
    """SIGKILL with requests in flight: the resume counts the lease as spent, and bill and books stay below."""
    budget = Decimal("0.100")
    with emulator(["--latency-ms", "50"]) as url:
        killed = warm.run(["-c", KILLED, photos, url, str(budget), str(commits)])
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        _, summary = stopped(photos, url, max_cost="0.0001")
        unknown = Decimal(run_totals(summary)["cost_unknown_usd"])
        assert unknown > 0
        assert billed_usd(url) <= Decimal(run_totals(summary)["cost_usd"]) + unknown <= budget
        summary = ask(photos, url, max_cost=str(budget))
        assert summary.exit_code == 0
        assert billed_usd(url) <= Decimal(run_totals(summary)["cost_usd"]) + unknown <= budget
        assert Decimal(run_totals(summary)["cost_unknown_usd"]) == unknown
        assert pd.read_parquet("out/data").cost_usd.sum() == Decimal(run_totals(summary)["cost_usd"])


@pytest.mark.parametrize("budget", [{"max_cost": "0.005"}, {"overrides": {"budget.max_tokens": 2000}}])
def test_a_budget_holds_for_a_model_that_is_unknown(
    budget: dict[str, Any], photos: Path, url: str, priced: None
) -> None:
    """Its images may cost more than those of any known one: what is reserved is a bound, with slots for all images."""
    stopped(photos, url, model="llava-7b", concurrency=IMAGES, **budget)
    stats = emulator_get(url, "stats")
    assert stats["prompt_tokens"] + stats["completion_tokens"] <= 2000
    assert billed_usd(url) <= Decimal("0.005")


def test_a_budget_in_dollars_needs_a_price(photos: Path, endpoint: str) -> None:
    """A server on this machine has none: exit 2 before anything is sent, with the budgets that need no price."""
    with pytest.raises(InputError, match=r"needs a price.*'gpt-4o'.*budget\.max_requests") as caught:
        ask(photos, endpoint, max_cost=1)
    assert caught.value.exit_code == 2
    assert emulator_get(endpoint, "stats")["requests"] == 0
    assert not Path("out").exists()


def test_a_budget_in_dollars_needs_a_bound_of_the_answer(photos: Path, endpoint: str, priced: None) -> None:
    """Without `max_tokens` the cost of a request has no bound: exit 2, nothing sent."""
    request = RequestConfig(model="gpt-4o", max_tokens=None)
    config = RunConfig(
        endpoint=EndpointConfig(base_url=endpoint),
        request=request,
        limits=LimitsConfig(concurrency=4),
        budget=BudgetConfig(max_cost_usd=Decimal(1)),
    )
    job = Job(sources=[str(photos)], out=Path("out"), config=config)
    with pytest.raises(InputError, match=r"`request\.max_tokens`") as caught:
        anyio.run(run_job, job, lambda _: None)
    assert caught.value.exit_code == 2
    assert emulator_get(endpoint, "stats")["requests"] == 0


def test_the_words_name_the_budget_that_was_reached(make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-cost 0.01 --max-cost-total 100` after an earlier run: the message says 0.01."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    for number in range(30):
        make_image(f"photos/{number:02}.jpg", 64, 48, seed=number)
    settings: dict[str, Any] = {"out": "out", "model": "gpt-4o", "quiet": True, "concurrency": 2, "detail": "low"}
    with emulator() as url:
        pipeline.run("photos", base_url=url, limit=5, **settings)
        with pytest.raises(BudgetReachedError) as caught:
            pipeline.run("photos", base_url=url, max_cost="0.01", max_cost_total="100", **settings)
    assert "$0.0100" in str(caught.value)


def test_notes_that_cannot_be_read(photos: Path, url: str, priced: None) -> None:
    """A damaged ledger is named as such, with the way out, and nothing is sent."""
    stopped(photos, url, max_cost="0.010")
    sent = emulator_get(url, "stats")["requests"]
    for value in (b"{", b"[]"):
        with closing(sqlite3.connect("out/ledger.sqlite")) as ledger, ledger:
            ledger.execute("UPDATE meta SET value = ? WHERE name = 'stopped by its budget'", (value,))
        with pytest.raises(DamagedLedgerError, match="vision-batch rebuild out"):
            ask(photos, url, max_cost="0.010")
    assert emulator_get(url, "stats")["requests"] == sent
