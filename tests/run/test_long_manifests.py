"""A manifest that takes seconds to read: a run says what it does meanwhile."""

from pathlib import Path

import pytest

import pipeline
from pipeline.errors import InputError
from pipeline.run import passed
from tests.support import MakeImage


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (["list.jsonl"], "reads list.jsonl to the end (41 B) before anything is sent"),
        (["list.jsonl", "list.csv"], "reads 2 manifests to the end (60 B) before anything is sent"),
        (["list.csv"], None),
        (["photos"], None),
    ],
)
def test_what_is_read_first(
    make_image: MakeImage,
    endpoint: str,
    names: list[str],
    line: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of forty bytes on, in place of 32 MB; a folder is no manifest."""
    monkeypatch.setattr(passed, "LONG_BYTES", 40)
    make_image("photos/a.jpg")
    Path("list.jsonl").write_text('{"id": "one", "image": "./photos/a.jpg"}\n')
    Path("list.csv").write_text("image\nphotos/a.jpg\n")
    notes: list[str] = []
    pipeline.run(names, out="out", base_url=endpoint, model="gpt-4o", on_note=notes.append)
    assert [note for note in notes if note.startswith("reads ")] == ([] if line is None else [line])


@pytest.mark.parametrize("name", ["x" * 5000 + ".jsonl", "x\0.jsonl", "missing.jsonl"])
def test_what_cannot_be_looked_at_is_said_as_ever(name: str) -> None:
    """The source itself says what is wrong with it, and no size is asked for in vain."""
    with pytest.raises(InputError):
        pipeline.run(name, out="out", base_url="http://127.0.0.1:9/v1", model="gpt-4o")
