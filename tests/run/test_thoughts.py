"""Thoughts in the text of answers: out of captions and labels, and kept where that is asked for."""

from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from tests import builders
from tests.stub import Reply, answer, stub
from tests.support import MakeImage

THOUGHTS = "<think>\nPixels; {no labels}.\n</think>\n\n"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(3):
        make_image(f"photos/{number}.png", 20 + number, 16, seed=number)
    return Path("photos").resolve()


def says(width: int, text: str, finish: str = "stop") -> Reply:
    body: dict[str, Any] = answer(width)
    body["choices"][0] |= {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    body["usage"] = {"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160}
    return Reply(200, body)


@pytest.mark.parametrize("keeps", [False, True])
@pytest.mark.parametrize("labels", [None, SCHEMA])
def test_captions_and_labels(keeps: bool, labels: dict[str, Any] | None, photos: Path) -> None:  # noqa: FBT001
    """The caption has them only where they are kept; labels are read without them; they count as reasoning."""
    text = "a cat" if labels is None else '{"a": "cat"}'
    overrides = {"request.keep_thinking": keeps}
    with stub(lambda width: says(width, THOUGHTS + text)) as server:
        done = builders.ask(photos, server.base_url, labels=labels, overrides=overrides)
        assert server.asked.total() == 3
    assert done.by_status == {"ok": 3}
    for row in parquet.read_table("out/data").to_pylist():
        assert row["caption"] == (THOUGHTS + text if keeps else text)
        assert row.get("labels") == (None if labels is None else {"a": "cat"})
        assert 0 < row["reasoning_tokens"] < 60


@pytest.mark.parametrize("keeps", [False, True])
def test_nothing_but_thoughts(keeps: bool, photos: Path) -> None:  # noqa: FBT001
    """Cut off within them: no answer, with the room for reasoning named; ended with them: empty, and asked twice."""
    cut = "<think>Pixels, and"
    with stub(lambda width: says(width, cut, "length") if width == 20 else says(width, THOUGHTS)) as server:
        done = builders.ask(photos, server.base_url, concurrency=1, overrides={"request.keep_thinking": keeps})
        assert [server.asked[width] for width in (20, 21, 22)] == [1, 2, 2]
    rows = {row["id"]: row for row in parquet.read_table("out/data").to_pylist()}
    first = rows["0.png"]
    assert (first["status"], first["error_kind"]) == ("truncated", "reasoning_exhausted")
    assert (first["caption"], first["reasoning_tokens"]) == (cut if keeps else None, 60)
    assert "request.reasoning_allowance" in first["error_message"]
    assert {rows[name]["error_kind"] for name in ("1.png", "2.png")} == {"empty_answer"}
    assert done.exit_code == 1
