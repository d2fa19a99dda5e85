"""What `status` and the report say after a run that was stopped, and after rows were asked again."""

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pipeline
from pipeline import BudgetReachedError
from pipeline.cli import status
from pipeline.engine.progress import dollars, short
from tests.builders import ask
from tests.support import Command, MakeImage

PRICE = {"prices.models": [{"model": "*", "input_usd_per_mtok": 2, "output_usd_per_mtok": 8}]}

AGAIN = "next: vision-batch run photos -o out -c out/config.toml"
LARGER = "(goes on where it stopped, with a larger budget)"


@pytest.mark.parametrize(
    ("selected", "line"),
    [
        ({"limit": 2}, f"{AGAIN} --limit 2 --set budget.max_requests=N  {LARGER}"),
        ({"sample": 2}, None),
        ({"only": ["a.jpg", "b.jpg"]}, None),
    ],
)
def test_the_next_command_asks_for_no_more_than_the_last(
    make_image: MakeImage, command: Command, endpoint: str, selected: dict[str, Any], line: str | None
) -> None:
    """A trial of two images that was stopped is not continued with the whole folder."""
    for name in "abc":
        make_image(f"photos/{name}.jpg", seed=ord(name))
    with pytest.raises(BudgetReachedError):
        ask("photos", endpoint, overrides={**PRICE, "budget.max_requests": 1}, **selected)
    said = command("status", "out")[1].splitlines()
    assert next((one for one in said if one.startswith("next: ")), None) == line


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"max_cost": "0.0001"}, "budget.max_cost_usd"),
        ({"max_cost_total": "0.0001"}, "budget.max_cost_total_usd"),
        ({"max_time": 1e-9}, None),
    ],
)
def test_which_budget_has_to_grow(
    make_image: MakeImage, command: Command, endpoint: str, more: dict[str, Any], key: str | None
) -> None:
    """The command that goes on names it; of a run that was out of time the same command goes on."""
    make_image("photos/a.jpg")
    with pytest.raises(BudgetReachedError):
        ask("photos", endpoint, overrides=PRICE, **more)
    (line,) = [line for line in command("status", "out")[1].splitlines() if line.startswith("next: ")]
    assert line.partition("  (")[0].endswith(f"--set {key}=N" if key else "out/config.toml")


def test_status_and_report(
    make_image: MakeImage, command: Command, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` has the reason and the command that goes on; the report counts all that was paid for, on one basis."""
    for name in "abc":
        make_image(f"photos/{name}.jpg", seed=ord(name))
    with pytest.raises(BudgetReachedError):
        ask("photos", endpoint, overrides={**PRICE, "budget.max_requests": 1})
    code, said, _ = command("status", "out")
    assert code == 0
    assert re.search(r"stopped early: 1 of 3 images.*\. `?budget\.max_requests`? is used up", said, re.IGNORECASE)
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    assert line == f"{AGAIN} --set budget.max_requests=N  {LARGER}"
    words = shlex.split(line.replace("=N", "=9").removeprefix("next: ").partition("  (")[0])
    assert command(*words[1:])[0] == 0
    code, said, _ = command("status", "out")
    assert said.splitlines()[-1] == "next: vision-batch view out  (look at the answers beside their images)"
    monkeypatch.setattr(status, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True)))
    code, said, noted = command("status", "out", "--failures")
    assert (code, said.count("\n"), "every row is ok" in noted) == (0, 1, True)  # a terminal shows more than a header
    once = pipeline.status("out")
    ask("photos", endpoint, only=["a.jpg"], overrides=PRICE)
    twice = pipeline.status("out")
    assert once.cost_usd is not None
    assert twice.cost_usd is not None
    page = Path(pipeline.report("out")).read_text()
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd class=\"value\">(.*?)</dd>", page))
    assert figures["Tokens in"] == short(twice.prompt_tokens or 0) == short((once.prompt_tokens or 0) * 4 // 3)
    assert figures["Billed of predicted"] == "as predicted"
    assert f"{dollars(twice.cost_usd - once.cost_usd)} of it for answers that were replaced" in page
    assert page.count("for answers that were replaced") == 3
    ask("photos", endpoint, out="free")
    assert "cost of 1,000 answers" in page
    assert "1,000 answers" not in Path(pipeline.report("free")).read_text()
