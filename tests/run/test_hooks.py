"""What a hook makes of each answer: other columns, another request, a failed row. It never ends the run."""

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pandas as pd
import pytest

import pipeline
from pipeline import Ask, Fail, InputError
from pipeline.engine.hooks import OnAnswer
from tests.builders import ask
from tests.emulators import emulator
from tests.stub import Stub, stub
from tests.support import Command, MakeImage, emulator_get

Values = dict[str, Any]


def rows() -> pd.DataFrame:
    return pd.read_parquet("out/data").set_index("id").sort_index()


@pytest.fixture
def server(make_image: MakeImage) -> Iterator[Stub]:
    """An endpoint that says how wide an image is, and a manifest of three images."""
    lines = []
    for number in range(3):
        make_image(f"photos/{number}.png", 40 + number, 30, seed=number)
        lines.append(json.dumps({"id": str(number), "image": f"photos/{number}.png", "title": f"Title {number}"}))
    Path("list.jsonl").write_text("\n".join(lines))
    with stub() as running:
        yield running


def run(server: Stub, hook: OnAnswer, **more: Any) -> pipeline.RunSummary:
    return ask("list.jsonl", server.base_url, on_answer=hook, **more)


def with_title(row: Values, record: Values) -> Values:
    row["caption"] = f"{record['title']}: {row['caption']}"
    row["flags"].append(record["image"])
    return row


async def with_title_later(row: Values, record: Values) -> Values:
    await anyio.lowlevel.checkpoint()
    return {"caption": f"{record['title']}: {row['caption']}", "flags": [record["image"]]}


class Object:
    def __call__(self, row: Values, record: Values) -> Any:
        return with_title_later(row, record)


@pytest.mark.parametrize("hook", [with_title, with_title_later, Object(), partial(with_title_later)])
def test_a_hook_changes_columns(server: Stub, hook: OnAnswer) -> None:
    """A function, an `async` one and whatever returns a coroutine: the row with other values, or these alone."""
    assert run(server, hook).exit_code == 0
    assert rows().caption.to_dict() == {str(n): f"Title {n}: {40 + n} pixels wide" for n in range(3)}
    assert [list(flags) for flags in rows()["flags"]] == [[f"photos/{n}.png"] for n in range(3)]
    assert set(rows().attempts) == {1}
    pipeline.rebuild("out")
    assert run(server, hook).asked == 0


def raises(error: BaseException) -> OnAnswer:
    def hook(row: Values, record: Values) -> None:
        raise error

    return hook


async def cancels(row: Values, record: Values) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (lambda row, _: Fail("too short"), "too short"),
        (raises(ValueError("not\nthis")), "the hook raised ValueError: not"),
        (raises(KeyError()), "the hook raised KeyError"),
        (raises(SystemExit(3)), "the hook raised SystemExit: 3"),
        (raises(StopIteration()), "the hook raised RuntimeError: StopIteration"),
        (cancels, "the hook raised CancelledError"),
        (lambda row, _: "text", "the hook returned a value of type str: a dict of columns, Ask, Fail or None is "),
        (lambda row, _: Ask(prompt=5), "the hook returned Ask with a prompt that is no text, or an empty one"),  # type: ignore[arg-type]
        (lambda row, _: Ask(prompt=" "), "the hook returned Ask with a prompt that is no text"),
        (lambda row, _: {"titel": 1}, "the hook returned another value of 'titel', which is no column of this "),
        (lambda row, _: {"cost_usd": 1}, "the hook returned another value of 'cost_usd', which no hook may change; "),
        (lambda row, _: {"caption": 5}, "the hook returned a value of 'caption' (of type int) that is no string"),
        (lambda row, _: {"flags": "a"}, "the hook returned a value of 'flags' (of type str) that is no list<"),
        (lambda row, _: {"flags": [{"a": {1: 2}}]}, "the hook returned a value of 'flags' (of type list) that is no "),
    ],
)
def test_a_hook_fails_its_row_and_nothing_else(server: Stub, hook: OnAnswer, why: str) -> None:
    """Tokens, cost and text of the answer stay in the row; the other rows are as they are."""

    async def of_first(row: Values, record: Values) -> Any:
        return await cancels(row, record) if row["id"] == "0" else None

    def of_first_in_a_thread(row: Values, record: Values) -> Any:
        return hook(row, record) if row["id"] == "0" else None

    done = run(server, of_first if hook is cancels else of_first_in_a_thread)
    assert (done.exit_code, done.by_status, done.by_error) == (1, {"ok": 2, "failed": 1}, {"hook_failed": 1})
    first = rows().loc["0"]
    assert first.error_message.startswith(why)
    assert (first.caption, first.prompt_tokens, first.attempts) == ("40 pixels wide", 100, 1)
    assert first.cost_usd == rows().cost_usd["1"]
    assert run(server, lambda *_: None).asked == 0
    assert run(server, lambda *_: None, retry_kind="hook_failed").by_status == {"ok": 1}


def test_a_hook_asks_again(server: Stub) -> None:
    """Each request is billed and counted; with a prompt of its own, which the request then holds."""

    def hook(row: Values, record: Values) -> Ask | None:
        asked = row["attempts"]
        return None if asked > int(record["id"]) else Ask(prompt=f'And "now", {asked}?' if asked == 2 else None)

    done = run(server, hook, prompt="What is this?")
    assert (done.requests, done.exit_code, sum(server.asked.values())) == (6, 0, 6)
    assert rows().attempts.to_dict() == {"0": 1, "1": 2, "2": 3}
    assert rows().prompt_tokens.to_dict() == {"0": 100, "1": 200, "2": 300}
    assert (done.prompt_tokens, pipeline.status("out").prompt_tokens) == (600, 600)
    prompts = [json.loads(body)["messages"][-1]["content"][0]["text"] for body in server.bodies]
    assert sorted(prompts) == ['And "now", 2?', *["What is this?"] * 5]


def test_a_hook_asks_with_one_prompt_after_another(server: Stub) -> None:
    """Each replaces the first one, in what is sent."""

    def hook(row: Values, record: Values) -> Ask | None:
        asked = row["attempts"]
        return None if asked == 4 else Ask(prompt=f"Question {asked}?")

    assert run(server, hook, prompt="What is this?").by_status == {"ok": 3}
    prompts = [json.loads(body)["messages"][-1]["content"][0]["text"] for body in server.bodies]
    assert Counter(prompts) == dict.fromkeys(["What is this?", "Question 1?", "Question 2?", "Question 3?"], 3)


def test_a_hook_that_always_asks_again_is_stopped(server: Stub) -> None:
    """After `request.max_failures` more requests the row fails; its text is that of the last answer."""
    done = run(server, lambda *_: Ask(), overrides={"request.max_failures": 2})
    assert (done.requests, done.by_error) == (9, {"hook_failed": 3})
    assert set(rows().error_message) == {"the hook asks again after 2 times (request.max_failures)"}
    assert set(rows().prompt_tokens) == {300}


COLOURS = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
    "required": ["colour"],
}


def test_a_hook_changes_labels(server: Stub, endpoint: str) -> None:
    """They keep the type of the column; other fields, or another type, fail the row."""
    values: Values = {"0": {"colour": "red", "count": 5}, "1": {"colour": "red", "size": 1}, "2": {"count": "a"}}
    done = ask("list.jsonl", endpoint, labels=COLOURS, on_answer=lambda _, record: {"labels": values[record["id"]]})
    assert done.by_error == {"hook_failed": 2}
    assert rows()["labels"]["0"] == values["0"]
    assert "returned a value of 'labels' (of type dict) that is no struct<" in rows().error_message["1"]


def test_an_answer_that_a_hook_asks_for_may_be_corrected_too(server: Stub) -> None:
    """Each request of a hook begins anew: its invalid answer is asked once more."""
    with emulator(["--fault", "labels_missing=1"]) as wrong:
        hook: OnAnswer = lambda row, _: Ask() if row["attempts"] == 2 else None  # noqa: E731 - one line
        done = ask("list.jsonl", wrong, labels=COLOURS, on_answer=hook)
    assert (done.by_status, set(rows().attempts)) == ({"invalid": 3}, {4})


def test_a_hook_may_fail_what_was_answered_before(server: Stub) -> None:
    """Asked again, the row fails with its new text; a request that brings none leaves that text."""
    run(server, lambda *_: None)
    assert run(server, lambda *_: Fail("no"), only=["1"]).by_error == {"hook_failed": 1}
    assert rows().status.to_dict() == {"0": "ok", "1": "failed", "2": "ok"}
    server.decide = lambda _: 400
    assert run(server, lambda *_: None, retry_failed=True).by_error == {"bad_request": 1}
    assert (rows().error_kind["1"], rows().caption["1"]) == ("hook_failed", "41 pixels wide")


def test_followers_share_what_the_hook_made(server: Stub) -> None:
    """The hook is called for the leader; a row that shares its answer has its columns."""
    calls: list[str] = []
    source = [{"id": str(number), "image": "photos/0.png"} for number in range(5)]

    def hook(row: Values, record: Values) -> Values:
        calls.append(record["id"])
        return {"caption": "changed", "flags": ["seen"]}

    assert ask(source, server.base_url, on_answer=hook).followers == 4  # type: ignore[arg-type] # any source
    assert len(calls) == 1
    assert set(rows().caption) == {"changed"}
    assert [list(flags) for flags in rows()["flags"]] == [["seen"]] * 5


def test_hooks_run_beside_each_other(server: Stub) -> None:
    """Three hooks that wait for one another, in threads, and in the loop."""
    barrier, event = threading.Barrier(3, timeout=20), asyncio.Event()
    met: list[int] = []

    def waits(row: Values, record: Values) -> None:
        met.append(barrier.wait())

    async def waits_in_the_loop(row: Values, record: Values) -> None:
        met.append(0)
        if len(met) == 6:
            event.set()
        await event.wait()

    assert run(server, waits).exit_code == 0
    assert run(server, waits_in_the_loop, refresh=True).exit_code == 0
    assert len(met) == 6


@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_that_the_end_cuts_off(server: Stub, is_async: bool) -> None:  # noqa: FBT001 - a case
    """Its answer was paid for: the row fails with the text, and can be asked again."""
    release = threading.Event()

    async def never(row: Values, record: Values) -> None:
        await asyncio.Event().wait()

    def stuck(row: Values, record: Values) -> None:
        release.wait(20)

    done = run(server, never if is_async else stuck, max_time=0.5, grace_s=0.1)
    assert (done.exit_code, done.by_error) == (1, {"hook_failed": 3})  # nothing is left to be asked
    release.set()
    assert set(rows().error_message) == {"the run was stopped before the hook had finished"}
    assert set(rows().caption) == {"40 pixels wide", "41 pixels wide", "42 pixels wide"}
    assert run(server, lambda *_: None, retry_failed=True).by_status == {"ok": 3}


@pytest.mark.parametrize(
    ("hook", "said"),
    [("own:hook", "no str"), (lambda row: row, "too many positional"), (lambda row, record, more: row, "'more'")],
)
def test_what_is_no_hook(server: Stub, hook: Any, said: str) -> None:
    """It is found before anything is asked and billed."""
    with pytest.raises(InputError, match=f"`on_answer` is .*{said}"):
        run(server, hook)
    assert server.bodies == []


def test_the_hook_of_a_command(server: Stub, command: Command, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function in a module of the working directory; what cannot be found is exit code 2 with the reason."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("ownhooks").mkdir()
    Path("ownhooks/clean.py").write_text("def upper(row, record):\n    return {'caption': row['caption'].upper()}\n")
    Path("broken_hook.py").write_text("1 / 0")
    line = ("run", "list.jsonl", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o", "--hook")
    for reference, why in (
        ("clean", "write package.module:function"),
        ("ownhooks.none:f", "cannot be imported (ModuleNotFoundError: No module named 'ownhooks.none')"),
        ("broken_hook:f", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("ownhooks.clean:lower", "ownhooks.clean has no 'lower'"),
        ("ownhooks.clean:__name__", "'__name__' is no function"),
    ):
        code, _, err = command(*line, reference)
        assert (code, why in err, Path("out").exists()) == (2, True, False), err
    code, _, err = command(*line, "ownhooks.clean:upper")
    assert (code, emulator_get(endpoint, "stats")["requests"]) == (0, 3), err
    assert all(text.isupper() for text in rows().caption)
