"""What is shown of money: sums whose bill is unknown, what is asked before, and budgets that are too low."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline import BudgetReachedError, InputError, RerunPolicy
from pipeline.catalogue.prices import Price
from pipeline.cli.references import with_flags
from pipeline.commands.status import lines, read_status
from pipeline.config.keywords import resolve
from pipeline.display.figures import money
from pipeline.display.last_screen import describe
from pipeline.endpoints import pricing
from pipeline.engine.progress import dollars, exact
from pipeline.money import usd, usd_text
from pipeline.run.consent import expected_usd
from pipeline.run.job import Job, open_job_source
from pipeline.run.prepare import Preparer
from pipeline.store.accounting import Totals
from tests.display.test_display import stats, summary
from tests.emulators import emulator
from tests.support import MakeImage

PRICE = Price(input_usd_per_mtok=Decimal("2.5"), output_usd_per_mtok=Decimal(10))
IMAGES = 12


@pytest.fixture
def photos(make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve images; an endpoint on this machine costs what gpt-4o does."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: PRICE)
    for number in range(IMAGES):
        make_image(f"photos/{number:02}.jpg", 64, 48, seed=number)
    return Path("photos").resolve()


def settings(url: str = "http://127.0.0.1:9/v1", **more: Any) -> dict[str, Any]:
    return {"out": "out", "model": "gpt-4o", "base_url": url, "detail": "low", **more}


def ask(source: Path, url: str, **more: Any) -> pipeline.RunSummary:
    return pipeline.run(source, quiet=True, **settings(url, **more))


def expected(source: Path, *, asking: RerunPolicy | None = None, limit: int | None = None, **more: Any) -> Decimal:
    """What a run on `out` is expected to cost, for what is still to be asked."""
    wanted = settings(**more)
    config = resolve(None, {name: wanted[name] for name in wanted if name != "out"})  # type: ignore[arg-type] # settings
    out = Path(wanted["out"])
    job = Job(sources=[str(source)], out=out, config=config, limit=limit, rerun=asking or RerunPolicy())
    where, total = open_job_source(job)
    question = Preparer.build(config, datetime.now(UTC).date()).prompt_shape()
    found = expected_usd(job, where, total, question, [PRICE], above=Decimal(0))
    assert found is not None
    return found


# ---------------------------------------------------------------- how sums are shown


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "unknown"),
        (Decimal(0), "$0.0000"),
        (usd(0), "$0.0000"),
        (usd(1), "$0.000000001"),
        (Decimal("0.000012"), "$0.000012"),
        (Decimal("0.0123"), "$0.0123"),
        (Decimal("12.3456"), "$12.35"),
    ],
)
def test_dollars(amount: Decimal | None, text: str) -> None:
    """Never an exponent, never a sum that looks like nothing."""
    assert dollars(amount) == text


def test_money_in_json_has_no_exponent() -> None:
    """`0E-9` is what Decimal writes for nothing in nano-dollars."""
    assert [usd_text(usd(nano)) for nano in (0, 5, 1_500_000_000)] == ["0", "0.000000005", "1.500000000"]
    assert usd_text(None) is None
    told = Totals.of({}).as_dict()
    assert (told["cost_usd"], told["cost_unknown_usd"]) == ("0", "0")
    assert summary(cost_unknown_usd=usd(0)).as_dict()["cost_unknown_usd"] == "0"


def test_what_is_unknown_stands_beside_what_is_known() -> None:
    """On the bar and in the summary; nowhere where there is none."""
    unknown = Decimal("0.02")
    text = describe(summary(cost_unknown_usd=unknown))
    assert "cost: $0.0123, and up to $0.0200 for requests whose bill is unknown" in text
    assert "unknown" not in describe(summary())
    pieces = money(stats(total=None, cost_usd=Decimal("1.5"), cost_unknown_usd=unknown))
    assert pieces[0].text == "$1.50 and up to $0.0200 unknown"


def test_status_shows_what_is_unknown(photos: Path) -> None:
    """Connections that break in the middle of an answer: `status` tells the most that they may have cost."""
    with emulator(["--fault", "disconnect_mid=0.3", "--seed", "3"]) as url:
        done = ask(photos, url)
    found = read_status(Path("out"))
    assert found.cost_unknown_usd == done.cost_unknown_usd > 0
    assert f"and up to {dollars(done.cost_unknown_usd)} unknown" in "\n".join(lines(found))
    assert "E-" not in json.dumps(found.as_dict()) + Path("out/status.json").read_text()


# ---------------------------------------------------------------- the question before a dear run


def test_only_what_is_still_to_be_asked_is_expected(photos: Path, endpoint: str) -> None:
    """Five of twelve are kept: seven are counted; all are, where all are asked again."""
    each = expected(photos) / IMAGES
    assert each > 0
    ask(photos, endpoint, limit=5)
    assert expected(photos) == each * (IMAGES - 5)
    assert expected(photos, limit=6) == each
    assert expected(photos, asking=RerunPolicy(retry_failed=True)) == each * (IMAGES - 5)
    assert expected(photos, asking=RerunPolicy(refresh=True)) == each * IMAGES
    assert expected(photos, overrides={"request.prompt_name": "other"}) == each * IMAGES


def test_a_budget_of_requests_bounds_the_projection(photos: Path) -> None:
    """No more than `budget.max_requests` are ever sent."""
    assert expected(photos, overrides={"budget.max_requests": 4}) == expected(photos) / 3


def test_what_failed_is_expected_where_it_is_asked_again(photos: Path, endpoint: str) -> None:
    """A row that failed for good is passed over, unless `--retry-failed`; a transient failure never is."""
    (photos / "03.jpg").write_bytes(b"no image")
    ask(photos, endpoint)
    assert expected(photos) == 0
    assert expected(photos, asking=RerunPolicy(retry_failed=True)) * IMAGES == expected(photos, out="elsewhere")


# ---------------------------------------------------------------- budgets and flags


@pytest.mark.parametrize("budget", ["max_cost", "max_cost_total"])
def test_a_budget_below_one_request(photos: Path, endpoint: str, budget: str) -> None:
    """Nothing is sent, and the words say what one request may cost; a budget of just that much asks one."""
    with pytest.raises(BudgetReachedError, match=r"which may cost up to \$0\.\d+: ") as caught:
        ask(photos, endpoint, **{budget: "0.0001"})
    assert isinstance(caught.value.summary, pipeline.RunSummary)
    assert caught.value.summary.requests == 0
    least = str(caught.value).partition("up to $")[2].partition(":")[0]
    with pytest.raises(BudgetReachedError) as again:
        ask(photos, endpoint, concurrency=1, **{budget: least})
    assert isinstance(again.value.summary, pipeline.RunSummary)
    assert again.value.summary.requests == 1


def test_all_digits() -> None:
    """Rounded, it would be a budget that is too low."""
    assert exact(Decimal("0.0032275000")) == "$0.0032275"
    assert exact(Decimal(100)) == "$100"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"max_cost": "abc"}, "--max-cost: "),
        ({"max_cost": "-1"}, "--max-cost: "),
        ({"max_cost_total": "nan"}, "--max-cost-total: "),
        ({"tpm": 0.0}, "--tpm: "),
        ({"rpm": -1.0}, "--rpm: "),
        ({"concurrency": 0}, "--concurrency: "),
        ({"max_time": "x"}, "--max-time: "),
        ({"max_time": "0s"}, "--max-time: "),
        ({"detail": "fine"}, "--detail: "),
        ({"base_url": ["ftp://a", "http://b"]}, "--base-url: "),
        ({"overrides": {"limits.rpm": 0}}, "--set limits.rpm: "),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(setting: dict[str, Any], said: str) -> None:
    """Also where there is a configuration file, whose own mistakes are said to be its."""
    for config in (None, "openai"):
        with pytest.raises(InputError) as caught:
            resolve(config, setting)  # type: ignore[arg-type] # what a user may write
        assert with_flags(str(caught.value)).startswith(said)
        assert ".toml" not in str(caught.value)
    Path("mine.toml").write_text("[limits]\nrpm = 0\n")
    with pytest.raises(InputError, match=r"^mine\.toml: limits\.rpm: "):
        resolve("mine.toml", {})
