"""Dear runs: what is asked, refused or bounded before anything is sent, with a terminal and without."""

import os
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline import BudgetReachedError, InputError
from pipeline.catalogue.prices import Price
from pipeline.cli.app import exit_code
from pipeline.endpoints import pricing
from tests import builders
from tests.stub import Stub, stub
from tests.support import MakeImage

DEAR = Price(input_usd_per_mtok=Decimal(20_000), output_usd_per_mtok=Decimal(20_000))
"""An image of about a hundred tokens, and its answer of a hundred, come to about four dollars."""
IMAGES = 6


@pytest.fixture
def server(make_image: MakeImage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """An endpoint on this machine that is very dear, and six images."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: DEAR)
    for number in range(IMAGES):
        make_image(f"photos/{number}.png", 20 + number, 15, seed=number)
    with stub(picture=Path("photos/0.png").read_bytes()) as running:
        yield running


def ask(server: Stub, source: str = "photos", **more: Any) -> pipeline.RunSummary:
    return builders.ask(source, server.base_url, **{"detail": "low", **more})


def test_a_script_is_refused(server: Stub) -> None:
    """Exit code 2, nothing sent, no OUT made; the words have the sum and both ways out. `-q` is no consent."""
    with pytest.raises(
        InputError, match=r"expected to cost \$\d\d\.\d\d .*\(\$10\.00\)\. .*`budget\.max_cost_usd=USD`.*`yes=True`"
    ):
        ask(server)
    words = ["run", "photos", "-o", "out", "--model", "gpt-4o", "--base-url", server.base_url, "--detail", "low"]
    assert exit_code(words) == 2
    assert exit_code([*words, "-q"]) == 2
    assert not Path("out").exists()
    assert server.asked.total() == 0
    assert exit_code([*words, "-q", "--yes"]) == 0
    assert server.asked.total() == IMAGES


@pytest.mark.parametrize(
    "agreed",
    [
        {"yes": True},
        {"max_cost": "1000"},
        {"max_cost_total": "1000"},
        {"overrides": {"budget.confirm_usd": "1000"}},
        {"limit": 1},
        {"overrides": {"budget.max_requests": 1}},
        {"sample": 2},
    ],
)
def test_what_is_consent(agreed: dict[str, Any], server: Stub) -> None:
    """`--yes`, a budget, a higher threshold, or fewer images."""
    try:
        ask(server, **agreed)
    except BudgetReachedError as reached:
        assert "max_requests" in str(reached)  # noqa: PT017 - one of the cases ends so
    assert server.asked.total() > 0


def test_a_terminal_is_asked(server: Stub) -> None:
    """The question has the sum; yes goes on, no is exit code 2."""
    asked: list[str] = []

    def person(reply: str) -> Callable[[str], bool]:
        def answers(question: str) -> bool:
            asked.append(question)
            return reply == "yes"

        return answers

    for odd in (person("no"), lambda _: "n"):  # as `input` gives it
        with pytest.raises(InputError, match="not confirmed; nothing was sent"):
            ask(server, confirm=odd)
    assert server.asked.total() == 0
    assert ask(server, confirm=person("yes")).asked == IMAGES
    assert [question.endswith("has no budget. Go on?") for question in asked] == [True, True]


def test_no_price_no_confirmation(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that costs nothing, as far as is known, is asked at once."""
    monkeypatch.setattr(pricing, "price_of", lambda *_: None)
    assert ask(server).asked == IMAGES


def test_only_what_is_left_counts(server: Stub, make_image: MakeImage) -> None:
    """A second night of one new image, a retry and a refresh of one changed file pass; a refresh of all does not."""
    ask(server, yes=True)
    make_image("photos/new.png", 60, 15, seed=60)
    assert ask(server).asked == 1
    assert ask(server, retry_failed=True).asked == 0
    make_image("photos/3.png", 23, 15, seed=61)
    os.utime("photos/3.png", ns=(1, 1))
    assert ask(server, refresh_changed=True).asked == 1
    with pytest.raises(InputError, match="expected to cost"):
        ask(server, refresh=True)


def test_what_cannot_be_predicted_has_a_budget(server: Stub) -> None:
    """Addresses whose sizes are unknown: `budget.confirm_usd` is the budget, exit code 3 names what lifts it."""
    urls = [f"{server.url}/{number}.png" for number in range(IMAGES)]
    Path("urls.csv").write_text("image\n" + "".join(f"{url}\n" for url in urls))
    with pytest.raises(BudgetReachedError, match=r"of \$10\.0000.*`budget\.max_cost_usd=USD`.*`yes=True`") as reached:
        ask(server, "urls.csv", dedup=False, concurrency=1, allow_private_hosts=True)
    assert reached.value.exit_code == 3
    assert server.asked.total() < IMAGES
    assert "max_cost_usd" not in Path("out/config.toml").read_text()
    assert ask(server, "urls.csv", dedup=False, yes=True, allow_private_hosts=True).exit_code == 0
    assert server.asked.total() == IMAGES


def test_addresses_with_sizes_are_predicted(server: Stub) -> None:
    """Columns `width` and `height` of a manifest say enough: a dear one is refused before anything is sent."""
    rows = [f"{server.url}/{number}.png,640,480\n" for number in range(IMAGES)]
    Path("urls.csv").write_text("image,width,height\n" + "".join(rows))
    with pytest.raises(InputError, match="expected to cost"):
        ask(server, "urls.csv")
    assert server.asked.total() == 0


def test_a_paid_sample_of_an_estimate(server: Stub) -> None:
    """`estimate --sample` sends as well: a dear one needs `--yes` or a budget."""
    words: dict[str, Any] = {"model": "gpt-4o", "base_url": server.base_url, "detail": "low", "sample": 6}
    with pytest.raises(InputError, match="expected to cost"):
        pipeline.estimate("photos", **words)
    assert server.asked.total() == 0
    pipeline.estimate("photos", yes=True, **words)
    assert server.asked.total() == IMAGES
