"""One sum, wherever it is shown: the summary, the ledger's totals and `status` agree at every stop of a run."""

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline import VisionBatchError
from pipeline.catalogue.prices import Price
from pipeline.commands.status import lines, read_status
from pipeline.display.last_screen import describe
from pipeline.endpoints import pricing
from pipeline.engine.stats import RunSummary
from pipeline.money import usd
from pipeline.store.ledger.sqlite import SqliteLedger
from tests.stub import Reply, Stub, answer, stub
from tests.support import MakeImage

PRICE = Price(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(10))
IMAGES = 30


@pytest.fixture
def server(make_image: MakeImage) -> Iterator[Stub]:
    """An endpoint on this machine, and thirty images."""
    for number in range(IMAGES):
        make_image(f"photos/{number:02}.png", 20 + number, 15, seed=number)
    with stub() as running:
        yield running


def ask(server: Stub, **more: Any) -> RunSummary:
    """A run, however it ends."""
    settings = {"out": "out", "model": "gpt-4o", "base_url": server.base_url, "quiet": True, "detail": "low"}
    try:
        return pipeline.run("photos", **{**settings, "concurrency": 4, "max_failed": "100%", **more})
    except VisionBatchError as stopped:
        if not isinstance(stopped.summary, RunSummary):
            raise
        return stopped.summary


def empty(width: int) -> Reply:
    """An answer that is billed, and has no text: it is asked again."""
    body = answer(width)
    body["choices"][0]["message"]["content"] = ""
    return Reply(200, body)


def unbilled(width: int) -> Reply:
    """The same without usage: what it cost is not known."""
    body = answer(width)
    body["choices"][0]["message"]["content"] = ""
    del body["usage"]
    return Reply(200, body)


def refused(_: int) -> Reply:
    return Reply(401, {"error": {"message": "no such key", "code": "invalid_api_key"}})


@pytest.mark.parametrize(
    ("stop", "code"),
    [
        ({}, 4),
        ({"max_cost": "0.008"}, 3),
        ({"max_time": "300ms"}, 3),
        ({"overrides": {"budget.max_tokens": 4_000}}, 3),
    ],
)
def test_the_summary_is_the_ledger_s(
    stop: dict[str, Any], code: int, server: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that were billed and have no row yet when the run stops count, and so do the last requests."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)

    def decide(width: int) -> Reply:
        ends = code == 4 and server.asked.total() > 20
        return refused(width) if ends else empty(width) if width % 2 else Reply(200, answer(width))

    server.decide = decide
    done = ask(server, **stop)
    assert done.exit_code == code
    totals = json.loads(Path(f"out/runs/{done.run_id}.json").read_text())["totals"]
    status = read_status(Path("out"))
    for name in ("prompt_tokens", "completion_tokens", "unpriced"):
        assert getattr(done, name) == totals[name] == getattr(status, name)
    for name in ("cost_usd", "cost_unknown_usd"):
        assert getattr(done, name) == Decimal(totals[name]) == getattr(status, name)
    assert totals["requests"] == done.requests == server.asked.total()
    with SqliteLedger(Path("out/ledger.sqlite")) as ledger:
        assert usd(ledger.counts().get("cost_nano_usd", 0)) == done.cost_usd


def test_a_resumed_run_tells_its_own_part(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second command tells what it took itself; `runs/*.json` has the sums of both."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    first, second = ask(server, max_cost="0.008"), ask(server, max_cost="1")
    totals = json.loads(Path(f"out/runs/{second.run_id}.json").read_text())["totals"]
    assert first.run_id == second.run_id
    assert first.cost_usd is not None
    assert second.cost_usd is not None
    assert first.cost_usd + second.cost_usd == Decimal(totals["cost_usd"]) == IMAGES * Decimal("0.0003")


def without_usage(width: int) -> Reply:
    body = answer(width)
    del body["usage"]
    return Reply(200, body)


def bad_request(_: int) -> Reply:
    return Reply(400, {"error": {"message": "no", "type": "invalid_request_error"}})


@pytest.mark.parametrize("price", [None, PRICE])
def test_unknown_is_unknown(price: Price | None, server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without usage: neither "0 in, 0 out" nor "$0.0000"; with a price, the most that it can have cost."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: price)
    server.decide = without_usage
    done = ask(server)
    both = (
        (describe(done), "unknown in, unknown out"),
        ("\n".join(lines(read_status(Path("out")))), "unknown in; unknown out;"),
    )
    for text, tokens in both:
        assert tokens in text
        assert "$0.0000" not in text
        assert ("cost: unknown" if price is None else "cost: up to $0.") in text
    plain = done.as_dict()
    assert (plain["prompt_tokens"], plain["completion_tokens"]) == (None, None)
    assert (plain["cost_usd"], done.cost_unknown_usd > 0) == ((None, False) if price is None else ("0", True))


def test_nothing_answered_is_not_nothing_paid(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """All refused with 400: no dollars where the price is known, an unknown cost where it is not."""
    server.decide = bad_request
    for price, cost in ((None, None), (PRICE, Decimal(0))):
        monkeypatch.setattr(pricing, "price_of", lambda *_, found=price: found)
        done = ask(server, out=f"out-{price is None}", limit=3)
        assert done.cost_usd == cost
        assert read_status(Path(f"out-{price is None}")).cost_usd == cost


def test_sums_beyond_64_bits(tmp_path: Path) -> None:
    """Totals of a ledger stay at the largest number that it holds, and end no run."""
    with SqliteLedger(tmp_path / "ledger.sqlite") as ledger:
        ledger.begin_run("r", "h", "a")
        for _ in range(3):
            ledger.commit(
                [], new_parts=[], counts={"total_tokens": 2**63 - 1, "prompt_tokens": 2**70, "less": -(2**70)}
            )
        assert ledger.counts() == {"total_tokens": 2**63 - 1, "prompt_tokens": 2**63 - 1, "less": -(2**63 - 1)}


def test_tokens_of_a_run_without_usage_are_unknown(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that stops before any answer, and whose requests state no usage, does not claim to have taken none."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    server.decide = unbilled
    summary = ask(server, max_cost="0.02")
    assert (summary.exit_code, summary.prompt_tokens, summary.completion_tokens) == (3, None, None)
    assert "unknown in, unknown out" in describe(summary)


def test_answers_that_state_a_cost_of_nothing(server: Stub) -> None:
    """Free models do, where no price is known: it is a sum of nothing, and not unknown."""
    server.decide = lambda width: Reply(200, answer(width) | {"usage": {**answer(width)["usage"], "cost": 0}})
    summary = ask(server)
    assert (summary.cost_usd, summary.unpriced) == (Decimal(0), 0)
    assert "cost: $0" in describe(summary)
    assert read_status(Path("out")).cost_usd == 0
    assert "cost: $0" in "\n".join(lines(read_status(Path("out"))))
