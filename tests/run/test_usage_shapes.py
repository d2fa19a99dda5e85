"""Budgets hold over whatever an endpoint states of usage and cost: generated shapes, served over loopback.

A shape begins as a true bill. Some of its fields are then left out or replaced by what no count can be; or one is
replaced by a smaller number that contradicts the others. In each run every image is answered in a shape of its own;
`USAGE_RUNS=100` makes as many runs of each kind.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

import pipeline
from pipeline import BudgetReachedError
from pipeline.catalogue.prices import Price, cost_usd
from pipeline.endpoints import pricing
from pipeline.endpoints.usage import believed
from pipeline.limits.rate_window import RateLimits
from pipeline.records import Usage
from tests.stub import Reply, Stub, stub
from tests.support import MakeImage

RUNS = int(os.environ.get("USAGE_RUNS", "6"))
IMAGES = 24
PRICE = Price(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(10), cached_usd_per_mtok=Decimal("1.25"))
BUDGET_USD, BUDGET_TOKENS = Decimal("0.060"), 8_000
"""Room for about 18 requests, each reserved at its upper bound."""
NONSENSE: tuple[Any, ...] = (
    None, -1, -5.0, 0, True, False, "90", "many", 90.5, [], {}, [90], 2**53, 2**63, 2**63 - 1, 2**64, 10**30, 1e18,
    "RAW 1e400", "RAW -1e400", "RAW NaN", "RAW Infinity", "RAW 1E-999999", "RAW 9" + "9" * 500,
)  # fmt: skip
COSTS: tuple[Any, ...] = (
    None, -0.001, "free", True, {}, [], 1e300, 10**7, "NaN", "RAW NaN", "RAW 1e400", "1E-999999", "RAW 1E-999999",
    "1E+999999", 4_000, "-Infinity", "0.0001.1",
)  # fmt: skip
FINISHES = ("stop", "length", "content_filter", None, "eos", "")
ABSENT = object()


@dataclass(frozen=True)
class Shape:
    """What the endpoint states of each request, and what each really took."""

    usage: Any
    text: str
    finish: str | None
    meta: Any
    true_usd: Decimal
    true_tokens: int

    def body(self) -> bytes:
        message = {"role": "assistant", "content": self.text}
        choices = [{"index": 0, "message": message, "finish_reason": self.finish}]
        body = {"id": "x", "model": "gpt-4o", "choices": choices, "usage": self.usage, "meta": self.meta}
        return raw(json.dumps(body))


def raw(text: str) -> bytes:
    """`"RAW 1e400"` as the number that Python cannot write."""
    head, *rest = text.split('"RAW ')
    return (head + "".join(value + tail for value, _, tail in (part.partition('"') for part in rest))).encode()


def shape_of(seed: int) -> Shape:
    """A true bill with some of its fields spoilt."""
    random = Random(seed)
    prompt, completion = random.randint(60, 90), random.randint(1, 300)
    cached, reasoning = random.choice([0, prompt // 2]), random.choice([0, completion // 2])
    true = Usage(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)
    told: dict[str, Any] = {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        "cached": cached, "reasoning": reasoning,
    }  # fmt: skip
    if random.random() < 0.3:  # one plausible lie, which the two others contradict
        liar = random.choice(["prompt_tokens", "completion_tokens", "total_tokens"])
        told[liar] = random.choice([told[liar] // 2, told[liar] // 3, 1])
    else:
        for name in random.sample(list(told), random.randint(1, 5)):
            told[name] = random.choice([ABSENT, random.choice(NONSENSE)])
    usage: Any = {name: told[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    usage["prompt_tokens_details"] = {"cached_tokens": told["cached"]}
    usage["completion_tokens_details"] = {"reasoning_tokens": told["reasoning"]}
    usage["cost"] = random.choice(COSTS) if random.random() < 0.3 else ABSENT
    usage = without_absent(usage)
    if random.random() < 0.15:
        usage = random.choice([None, {}, [], "none", 7, True])
    meta = {"usage": {"usd_spent": random.choice(COSTS)}} if random.random() < 0.1 else None
    text = random.choice(["a cat"] * 7 + [""])
    usd = cost_usd(true, PRICE)
    assert usd is not None
    return Shape(usage, text, random.choice(FINISHES), meta, usd, prompt + completion)


def without_absent(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {name: without_absent(inner) for name, inner in value.items() if inner is not ABSENT}


@pytest.fixture
def server(make_image: MakeImage) -> Iterator[Stub]:
    """An endpoint on this machine, and images to ask it about."""
    for number in range(IMAGES):
        make_image(f"photos/{number:02}.png", 20 + number, 15, seed=number)
    with stub() as running:
        yield running


def asked(server: Stub, run: int, **budget: Any) -> tuple[dict[str, Any], list[Shape]]:
    """One run under a budget -> its totals, and the shape of each request that was answered."""
    shapes = {20 + number: shape_of(run * IMAGES + number) for number in range(IMAGES)}
    server.decide = lambda width: Reply(200, shapes[width].body())
    try:
        code = pipeline.run(
            "photos", out="out", model="gpt-4o", base_url=server.base_url, quiet=True, concurrency=3, detail="low",
            max_failed="100%", **budget,
        ).exit_code  # fmt: skip
    except BudgetReachedError as stopped:
        code = stopped.exit_code
    (written,) = Path("out/runs").glob("*.json")
    found = json.loads(written.read_text())
    assert found["totals"]["requests"] == found["requests"] == server.asked.total()
    assert found["exit_code"] == code
    assert code in {0, 3}
    return found["totals"], [shapes[width] for width in server.asked.elements()]


@pytest.mark.parametrize("run", range(RUNS))
def test_a_budget_in_dollars_holds(run: int, server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Booked is never less than what the requests took, and never more than the budget; the exit code is 0 or 3."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    totals, shapes = asked(server, run, max_cost=str(BUDGET_USD))
    spent = Decimal(totals["cost_usd"]) + Decimal(totals["cost_unknown_usd"])
    assert sum(shape.true_usd for shape in shapes) <= spent <= BUDGET_USD
    assert len(shapes) >= BUDGET_USD // Decimal("0.0035")


@pytest.mark.parametrize("run", range(RUNS))
def test_a_budget_in_tokens_holds_without_a_price(run: int, server: Stub) -> None:
    """The same where no price is known, and the budget is one of tokens; no stated cost is believed either."""
    totals, shapes = asked(server, 1000 + run, overrides={"budget.max_tokens": BUDGET_TOKENS})
    spent = totals["prompt_tokens"] + totals["completion_tokens"] + totals["tokens_unknown"]
    assert sum(shape.true_tokens for shape in shapes) <= spent <= BUDGET_TOKENS
    assert Decimal(totals["cost_usd"]) == 0


def test_what_is_believed_is_consistent() -> None:
    """Over thousands of shapes: the parts never exceed the whole, nothing is negative, and no money is absurd."""
    for seed in range(5_000):
        shape = shape_of(seed)
        bill = believed({"usage": shape.usage, "meta": shape.meta}, {}, has_text=bool(shape.text))
        usage = bill.usage
        if usage.prompt_tokens is not None and usage.completion_tokens is not None:
            assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
            assert usage.prompt_tokens > 0
            assert (usage.reasoning_tokens or 0) <= usage.completion_tokens
            assert (usage.cached_tokens or 0) <= usage.prompt_tokens
        assert bill.cost_usd is None or bill.cost_usd == 0 or Decimal("1e-12") <= bill.cost_usd <= 1000


def stated(usage: dict[str, Any]) -> Reply:
    choices = [{"index": 0, "message": {"role": "assistant", "content": "a cat"}, "finish_reason": "stop"}]
    return Reply(200, raw(json.dumps({"id": "x", "model": "gpt-4o", "choices": choices, "usage": usage})))


@pytest.mark.parametrize(
    ("usage", "value"),
    [
        (
            {"prompt_tokens": 2**53, "completion_tokens": 5, "total_tokens": 2**53 + 5},
            "prompt_tokens is 9007199254740992",
        ),
        ({"prompt_tokens": 90, "completion_tokens": -5}, "completion_tokens is -5"),
        ({"prompt_tokens": 90, "completion_tokens": 5, "cost": "RAW 1E-999999"}, "cost is 0.0"),
        ({"prompt_tokens": 90, "completion_tokens": 5, "cost": "1E-999999"}, "cost is '1E-999999'"),
    ],
)
def test_what_is_not_believed_is_said_once(
    usage: dict[str, Any], value: str, server: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the endpoint and the value; the sums are those of ordinary requests."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    server.decide = lambda _: stated(usage)
    done = pipeline.run("photos", out="out", model="gpt-4o", base_url=server.base_url, detail="low")
    said = [line for line in capsys.readouterr().err.splitlines() if "not believed" in line]
    assert len(said) == 1
    assert all(server.base_url in line and value in line for line in said)
    assert done.cost_usd is not None
    assert done.cost_usd + done.cost_unknown_usd < 1
    assert len(json.dumps(done.as_dict())) < 5_000


def test_a_bill_larger_than_predicted_is_believed(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """33 times the prediction, as some models bill images, counts; nothing is sent once the budget is passed."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    server.decide = lambda _: stated({"prompt_tokens": 33 * 100, "completion_tokens": 5, "total_tokens": 33 * 100 + 5})
    each = cost_usd(Usage(prompt_tokens=3300, completion_tokens=5), PRICE) or Decimal(0)
    with pytest.raises(BudgetReachedError) as stopped:
        pipeline.run(
            "photos", out="out", model="gpt-4o", base_url=server.base_url, detail="low", quiet=True, concurrency=1,
            max_cost=str(each),
        )  # fmt: skip
    assert isinstance(stopped.value.summary, pipeline.RunSummary)
    assert stopped.value.summary.cost_usd == each
    assert server.asked.total() == 1


def test_one_bill_delays_the_next_request_by_a_minute_at_most() -> None:
    """A million tokens at a thousand a minute: the endpoint granted them, so a minute later nothing of them counts."""
    limits, now, in_flight = RateLimits(tpm=1_000), 0.0, []
    for _ in range(8):
        now = limits.ready_at(now, 100)
        in_flight.append(limits.take(now, 100))
    for taken in in_flight:
        limits.settle(taken, 1_000_000)
    assert now < limits.ready_at(now, 100) <= now + 61
    limits.take(now + 61, 5_000_000)
    assert limits.ready_at(now + 61, 100) <= now + 2 * 61
