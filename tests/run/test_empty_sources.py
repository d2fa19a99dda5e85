"""Sources without a record: a mistake, unless `source.allow_empty` says that an inbox may be empty."""

from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.errors import InputError
from tests.builders import ask
from tests.support import Command, MakeImage

HINT = "`allow_empty=True` where that is no mistake"
ALL_BAD = 'image\n""\n'


@pytest.fixture
def inbox() -> Path:
    """A folder with a text alone, and lists without a row."""
    Path("inbox").mkdir()
    Path("inbox/notes.txt").write_text("none today")
    Path("head.csv").write_text("image,title\n")
    for name in ("empty.csv", "empty.jsonl", "empty.txt"):
        Path(name).touch()
    return Path("inbox")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("inbox", "inbox: no images here; 1 other file was seen (1 .txt)."),
        ("inbox/*.jpg", "inbox/*.jpg: no image matches; "),
        ("head.csv", "head.csv: no rows; "),
        ("empty.csv", "empty.csv: the file is empty; "),
        ("empty.jsonl", "empty.jsonl: no rows; "),
        ("empty.txt", "empty.txt: no rows; "),
        ([], "records in memory: no records; "),
        (["inbox", "head.csv"], "inbox: no images here"),
    ],
)
def test_nothing_to_ask(inbox: Path, endpoint: str, source: Any, said: str) -> None:
    """Exit code 2 without it, which names it; with it a run of no records, also on an OUT that has rows."""
    with pytest.raises(InputError) as caught:
        ask(source, endpoint)
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(HINT)
    summary = ask(source, endpoint, allow_empty=True)
    assert (summary.exit_code, summary.images, summary.asked, summary.skipped) == (0, 0, 0, 0)


def test_an_inbox_that_was_emptied(make_image: MakeImage, command: Command, endpoint: str) -> None:
    """The rows of earlier nights stay, and what the command prints says why nothing was asked."""
    image = make_image("inbox/a.jpg")
    line = ("run", "inbox", "-o", "out", "--model", "gpt-4o", "--base-url", endpoint)
    assert command(*line)[0] == 0
    image.unlink()
    code, _, err = command(*line)
    assert (code, "`" in err) == (2, False)
    assert "the folder holds no files; --allow-empty where that is no mistake" in err
    assert command(*line, "--allow-empty")[:2] == (0, "nothing to ask: there are no images\n")
    assert len(pipeline.read("out")) == 1
    assert command(*line, "--allow-empty", "--dry-run")[0] == 0


def test_what_stays_a_mistake(inbox: Path, command: Command, endpoint: str) -> None:
    """A folder that is not there, rows that are all bad, no SOURCE at all; and an estimate of nothing."""
    Path("bad.csv").write_text(ALL_BAD)
    wrong: list[tuple[Any, str]] = [
        ("phone", "phone: no such file or folder"),
        ("bad.csv", "no rows that can be used; 1 were skipped as bad"),
        ([{"image": ""}], "no records that can be used; 1 were skipped as bad"),
        (["bad.csv", "inbox"], "all of it was skipped as bad"),
        ((), "no SOURCE"),
    ]
    for source, said in wrong:
        with pytest.raises(InputError, match=said):
            ask(source, endpoint, allow_empty=True, skip_bad_rows=True)
    code, _, err = command("estimate", "inbox", "--model", "gpt-4o")
    assert (code, "allow" in err) == (2, False)
