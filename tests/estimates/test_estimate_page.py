"""The HTML page of an estimate in a browser."""

import re
from pathlib import Path

from tests.browsers import PHONE, Browse, serious_faults
from tests.support import Command

OWN = """
[request]
model = "mine"
[[prices.models]]
model = "mine"
input_usd_per_mtok = 90
output_usd_per_mtok = 9
"""


def test_a_page_for_those_who_decide(command: Command, browse: Browse, tmp_path: Path) -> None:
    """The cheapest first, batch only where it can be run, no flag and no setting, legible on a phone."""
    (tmp_path / "own.toml").write_text(OWN)
    models = "gpt-4o,gpt-4.1-mini,own.toml,nobodys-model"
    asked = ["--count", "2000000", "--size", "800x600", "--size", "80x60", "--models", models, "--output", "a.html"]
    assert command("estimate", *asked)[0] == 0
    with browse(tmp_path / "a.html", width=PHONE) as page:
        bars = page.locator(".ranges")
        named = [one.split()[0] for one in bars.locator("h3").all_inner_texts()]
        assert named == ["gpt-4.1-mini", "gpt-4o", "mine"]
        ways = [one.locator("dt").all_inner_texts() for one in bars.all()]
        assert ways == [["online", "by batch"], ["online", "by batch"], ["online"]]
        figure = page.locator(".headline").inner_text()
        assert figure == bars.first.locator("dd").first.inner_text()
        assert page.locator(".lede").inner_text().startswith("gpt-4.1-mini, the cheapest of 3; $")
        assert page.locator("details[open]").count() == 0
        for one in page.locator("summary").all():
            one.click()
        text = page.locator("body").inner_text()
        assert "openai-patch-2026-08 (published" in text
        assert not re.search(r"--\w|`|\b[a-z]+\.[a-z]+_[a-z]+", text.replace("openai/gpt-4.1-mini", ""))
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE
        assert serious_faults(page) == []
