"""What the rows of one OUT were asked: every configuration that has rows stands in its card and its config.toml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.config.loading import load_config
from pipeline.store.outdir import read_configurations
from tests import builders
from tests.stub import Stub, stub
from tests.support import MakeImage

HOSTILE = 'Say "what"\n[x]\n# is `here`\x07 \\ é?'


@pytest.fixture
def server(make_image: MakeImage) -> Iterator[Stub]:
    """An endpoint on this machine, and a folder of two images to begin with."""
    for number in range(2):
        make_image(f"photos/{number}.png", 20 + number, 15, seed=number)
    with stub() as running:
        yield running


def ask(server: Stub, prompt: str, **more: Any) -> str:
    """One run -> its config_hash."""
    settings = {"on_config_change": "keep", **more}
    return builders.ask("photos", server.base_url, prompt=prompt, **settings).config_hash


def two_nights(server: Stub, make_image: MakeImage) -> tuple[str, str]:
    """Two images asked one thing, three more another."""
    first = ask(server, HOSTILE, detail="low")
    for number in range(2, 5):
        make_image(f"photos/{number}.png", 20 + number, 15, seed=number)
    return first, ask(server, "And this?", model="gpt-4.1")


def assert_listed(first: str, second: str) -> None:
    told = read_configurations(Path("out"))
    assert list(told) == [second, first]
    assert (told[first]["prompt"], told[first]["model"], told[first]["detail"]) == (HOSTILE, "gpt-4o", "low")
    assert (told[second]["prompt"], told[second]["model"]) == ("And this?", "gpt-4.1")
    card, config = Path("out/README.md").read_text(), Path("out/config.toml").read_text()
    assert f"## Configuration `{first}`: 2 rows" in card
    assert f"## Configuration `{second}`: 3 rows" in card
    assert "# is `here`" in card
    assert "And this?" in card
    assert [f"# rows = {rows}" in config for rows in (2, 3)] == [True, True]
    assert load_config("out/config.toml", environ={}).config_hash() == second


def test_rows_of_two_configurations(server: Stub, make_image: MakeImage) -> None:
    """After `--on-config-change keep` both are listed with their rows; config.toml loads as the last one."""
    first, second = two_nights(server, make_image)
    assert_listed(first, second)
    assert pipeline.run("photos", out="out", config="out/config.toml", quiet=True).asked == 0


def test_a_configuration_without_rows_is_left_out(server: Stub, make_image: MakeImage) -> None:
    """Once all its rows are asked again with another one, only that one is listed."""
    _, second = two_nights(server, make_image)
    ask(server, "And this?", model="gpt-4.1", on_config_change="refresh")
    assert list(read_configurations(Path("out"))) == [second]
    assert f"## Configuration `{second}`: 5 rows" in Path("out/README.md").read_text()


@pytest.mark.parametrize("lost", [False, True])
def test_a_rebuild_knows_them(lost: bool, server: Stub, make_image: MakeImage) -> None:  # noqa: FBT001 - a case
    """From the old ledger where it can be read, else from config.toml; the rows tell which is whose."""
    first, second = two_nights(server, make_image)
    if lost:
        Path("out/ledger.sqlite").unlink()
    pipeline.rebuild("out")
    assert ask(server, "And this?", model="gpt-4.1") == second
    assert_listed(first, second)


def test_an_older_out_tells_what_it_can(server: Stub, make_image: MakeImage) -> None:
    """Rows whose configuration was not recorded are counted, and said to be so."""
    first, _ = two_nights(server, make_image)
    Path("out/ledger.sqlite").unlink()
    Path("out/config.toml").write_text(Path("out/config.toml").read_text().partition("# Rows by")[0])
    pipeline.rebuild("out")
    ask(server, "And this?", model="gpt-4.1")
    card = Path("out/README.md").read_text()
    assert f"## Configuration `{first}`: 2 rows\n\nWhat was asked is not recorded." in card
