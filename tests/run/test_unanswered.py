"""Rows without an answer: what counts as one, what asks it again, and what a second night says of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import EndpointStoppedError, InputError, RerunPolicy
from pipeline.cli.app import exit_code
from pipeline.commands.status import read_status
from pipeline.display.last_screen import describe
from tests import builders
from tests.stub import Reply, Stub, answer, stub
from tests.support import MakeImage

OK, EXHAUSTED, REFUSED, FILTERED, CUT, BAD = 20, 21, 22, 23, 24, 25
"""Widths of the images, which say how each is answered in the first night."""


def first_night(width: int) -> Reply:
    """A reply that ends as the width says."""
    if width == BAD:
        return Reply(400, {"error": {"message": "no such thing", "type": "invalid_request_error"}})
    body = answer(width)
    choice = body["choices"][0]
    if width == EXHAUSTED:
        choice |= {"finish_reason": "length", "message": {"role": "assistant", "content": ""}}
    elif width == REFUSED:
        choice["message"] |= {"content": None, "refusal": "I will not"}
    elif width == FILTERED:
        choice |= {"finish_reason": "content_filter", "message": {"role": "assistant", "content": ""}}
    elif width == CUT:
        choice["finish_reason"] = "length"
    return Reply(200, body)


@pytest.fixture
def server(make_image: MakeImage) -> Iterator[Stub]:
    """An endpoint that answers each of six images in another way, listed in a manifest."""
    for width in (OK, EXHAUSTED, REFUSED, FILTERED, CUT, BAD):
        make_image(f"photos/{width}.png", width, 15, seed=width)
    Path("list.txt").write_text("".join(f"photos/{width}.png\n" for width in range(OK, BAD + 1)))
    with stub(first_night) as running:
        yield running


def ask(server: Stub, source: str = "list.txt", **more: Any) -> pipeline.RunSummary:
    server.asked.clear()
    return builders.ask(source, server.base_url, **more)


def good(width: int) -> Reply:
    return Reply(200, answer(width))


def test_truncated_without_text_is_no_answer(server: Stub) -> None:
    """It counts for exit code 1 and for `status --check`; what is refused, or cut off in its text, does not."""
    done = ask(server, max_failed=1)
    assert done.exit_code == 1
    assert done.by_status == {"ok": 1, "truncated": 2, "refused": 2, "failed": 1}
    assert read_status(Path("out")).bad == 2
    assert exit_code(["status", "out", "--check"]) == 1
    assert ask(server, max_failed=2).exit_code == 0
    server.decide = good
    ask(server, retry_failed=True)
    assert exit_code(["status", "out", "--check"]) == 0


@pytest.mark.parametrize(
    ("words", "widths"),
    [
        ({"retry_failed": True}, {EXHAUSTED, BAD}),
        ({"retry_kind": "reasoning_exhausted"}, {EXHAUSTED}),
        ({"retry_kind": "refused"}, {REFUSED}),
        ({"retry_kind": "content_filter,bad_request"}, {FILTERED, BAD}),
        ({"retry_kind": "timeout"}, set()),
        ({"retry_failed": True, "retry_kind": "refused"}, {REFUSED}),
        ({"retry_status": "refused"}, {REFUSED, FILTERED}),
        ({"retry_status": "refused,truncated"}, {EXHAUSTED, REFUSED, FILTERED, CUT}),
        ({"retry_status": "refused", "retry_kind": "content_filter"}, {FILTERED}),
        ({"retry_status": "refused", "retry_failed": True}, {EXHAUSTED, REFUSED, FILTERED, BAD}),
        ({"retry_status": "ok"}, {OK}),
    ],
)
def test_every_word_asks_the_rows_that_it_names(words: dict[str, Any], widths: set[int], server: Stub) -> None:
    """Statuses and kinds, also below the low-water mark of a manifest; nothing is asked unless it is named."""
    ask(server)
    assert ask(server).asked == 0
    server.decide = good
    done = ask(server, **words)
    assert set(server.asked) == widths
    assert done.by_status == ({"ok": len(widths)} if widths else {})
    rows = pd.read_parquet("out/data").set_index("id")
    assert set(rows.loc[[f"photos/{width}.png" for width in widths]].status) <= {"ok"}
    assert len(rows) == 6
    assert ask(server, **words).asked == (1 if words == {"retry_status": "ok"} else 0)


def test_unknown_words_are_named() -> None:
    """A status or a kind that does not exist ends the command with those that do."""
    with pytest.raises(InputError, match=r"`retry_status=` 'bad': no such status; known: ok, truncated, refused"):
        RerunPolicy.parse(retry_status="refused,bad")
    with pytest.raises(InputError, match="`retry_kind=` 'bad': no such kind; known: image_missing"):
        RerunPolicy.parse(retry_kind="bad")


def test_an_answer_without_text_is_not_shared_with_those_who_ask_again(server: Stub) -> None:
    """Equal pixels share the empty answer of one night; asked again, one of them is asked and both have its text."""
    Path("photos/copy.png").write_bytes(Path(f"photos/{EXHAUSTED}.png").read_bytes())
    Path("list.txt").write_text(f"photos/{EXHAUSTED}.png\nphotos/copy.png\nphotos/{OK}.png\n")
    assert (ask(server).by_status, server.asked[EXHAUSTED]) == ({"truncated": 2, "ok": 1}, 1)
    server.decide = good
    assert (ask(server, retry_failed=True).by_status, server.asked) == ({"ok": 2}, {EXHAUSTED: 1})


@pytest.mark.parametrize(("status", "first"), [(EXHAUSTED, 5), (REFUSED, 20)])
def test_many_alike_stop_the_run(status: int, first: int, server: Stub, make_image: MakeImage) -> None:
    """The first five without text, or twenty refused: exit code 4, and the same in the next night."""
    for number in range(48):
        make_image(f"many/{number}.png", 40 + number, 15, seed=number)
    server.decide = lambda _: first_night(status)
    for night in range(2):
        with pytest.raises(EndpointStoppedError, match="the records end alike") as stopped:
            ask(server, source="many", concurrency=1)
        assert stopped.value.exit_code == 4
        assert first <= server.asked.total() <= first + 1, night  # one may be in flight when the last ends


def test_a_refresh_without_text_leaves_the_answer(server: Stub) -> None:
    """What was answered once stays, where the refresh brings no text."""
    server.decide = good
    ask(server)
    server.decide = lambda width: first_night(width if width == EXHAUSTED else OK)
    ask(server, refresh=True)
    assert set(pd.read_parquet("out/data").status) == {"ok"}


def test_the_last_line_of_a_second_night(server: Stub) -> None:
    """Rows without an answer, and refused ones, are named with what asks them again; where there are none, nothing."""
    first = describe(ask(server, max_failed=9))
    assert "earlier runs" not in first
    assert describe(ask(server)).splitlines()[-1] == (
        "still in out from earlier runs: 1 truncated (reasoning_exhausted 1), 2 refused (content_filter 1, refused 1), "
        "1 failed (bad_request 1); `retry_failed=True` asks rows without an answer again, "
        "`retry_status=refused` asks refused rows again"
    )
    server.decide = good
    ask(server, retry_failed=True, retry_status="refused")
    assert "earlier runs" not in describe(ask(server))
