"""What `import pipeline` offers: every type of a signature, every error that is raised, progress, and `run_async`."""

import asyncio
import inspect
import json
import re
import subprocess
import sys
import typing
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import pipeline
from pipeline import CallbackError, InputError, RunProgress, RunSummary
from pipeline.config.run_config import RunConfig
from tests.api.raised import errors_of
from tests.emulators import emulator
from tests.support import MakeImage, emulator_get

FUNCTIONS = [name for name in pipeline.__all__ if inspect.isfunction(getattr(pipeline, name))]


def ours(annotation: Any) -> set[type]:
    """The project's types that an annotation names."""
    arguments = typing.get_args(annotation)
    if arguments and typing.get_origin(annotation) is not typing.Literal:
        origin = typing.get_origin(annotation)
        own = {origin} if isinstance(origin, type) and origin is not UnionType else set()
        return {one for part in (*arguments, *own) for one in ours(part)}
    is_ours = isinstance(annotation, type) and annotation.__module__.startswith("pipeline")
    return {annotation} if is_ours else set()


def reachable(name: str) -> set[type]:
    """The types of a function's signature, the keywords of its options, and the sections of a configuration."""
    hints = typing.get_type_hints(getattr(pipeline, name), {"pd": pd, "pa": pa}, include_extras=True)
    queue = [one for hint in hints.values() for one in ours(hint)]
    found: set[type] = set()
    while queue:
        one = queue.pop()
        if one not in found:
            found.add(one)
            if typing.is_typeddict(one) or one is RunConfig:
                queue += [kind for hint in typing.get_type_hints(one).values() for kind in ours(hint)]
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_type_of_a_signature_is_exported(name: str) -> None:
    """A caller can import each type that a function takes or returns."""
    assert {one.__name__ for one in reachable(name)} <= set(pipeline.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_what_is_raised(name: str) -> None:
    """The section Raises names each error that the code can construct, and each of them is exported."""
    function = getattr(pipeline, name)
    _, _, section = inspect.cleandoc(function.__doc__ or "").partition("\nRaises:\n")
    raised = {error.__name__ for error in errors_of(function)}
    assert raised == set(re.findall(r"\b\w+Error\b", section.split("\n\n")[0]))
    assert raised <= set(pipeline.__all__)


def test_the_names_are_sorted_and_there() -> None:
    """`__all__` is what the package has."""
    assert sorted(pipeline.__all__) == list(pipeline.__all__)
    assert all(hasattr(pipeline, name) for name in pipeline.__all__)


@pytest.fixture
def photos(make_image: MakeImage, tmp_path: Path) -> Path:
    for number in range(3):
        make_image(f"photos/{number}.jpg", 64, 48, seed=number)
    return tmp_path / "photos"


def check_progress(seen: list[RunProgress], summary: RunSummary) -> None:
    last = seen[-1]
    assert (last.done, last.total, last.asked, last.by_status) == (3, 3, 3, {"ok": 3})
    assert (last.prompt_tokens, last.completion_tokens) == (summary.prompt_tokens, summary.completion_tokens)
    assert last.eta_s == 0
    assert all(before.done <= after.done for before, after in pairwise(seen))
    with pytest.raises(AttributeError):
        last.done = 0  # type: ignore[misc] # it is frozen


def test_progress_is_reported(photos: Path, endpoint: str) -> None:
    """`on_progress` receives frozen values, the last one when all rows are committed."""
    seen: list[RunProgress] = []
    summary = pipeline.run(photos, out="out", model="gpt-4o", base_url=endpoint, quiet=True, on_progress=seen.append)
    check_progress(seen, summary)


def test_a_limit_of_numpy(photos: Path, endpoint: str) -> None:
    """Lengths of arrays and tables are whole numbers too."""
    limit: Any = np.int64(2)
    assert pipeline.run(photos, out="out", model="gpt-4o", base_url=endpoint, limit=limit, quiet=True).asked == 2


async def test_run_async_runs_in_the_loop_of_the_caller(photos: Path, endpoint: str) -> None:
    """It takes the keywords of `run` and returns its summary."""
    seen: list[RunProgress] = []
    summary = await pipeline.run_async(
        photos, out="out", model="gpt-4o", base_url=endpoint, quiet=True, on_progress=seen.append
    )
    assert (summary.asked, summary.exit_code) == (3, 0)
    check_progress(seen, summary)


def test_notes_go_where_the_caller_wants_them(photos: Path, endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    """`on_note` receives the notes of a run in place of standard error."""
    notes: list[str] = []
    pipeline.run(photos, out="out", model="gpt-4o", base_url=endpoint, quiet=True, on_note=notes.append)
    assert any(line.startswith("prompt: ") for line in notes)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["on_progress", "on_note"])
def test_what_cannot_be_called(photos: Path, name: str) -> None:
    """Said before anything is asked; an async function would never be awaited."""

    async def later(_: object) -> None: ...

    for odd, kind in ((5, "a value of type int"), (later, "an async one")):
        given: dict[str, Any] = {name: odd}
        with pytest.raises(InputError, match=f"`{name}` is a plain function of one argument, and this is {kind}"):
            pipeline.run(photos, out="out", model="gpt-4o", base_url="http://127.0.0.1:9", **given)


IN_A_NOTEBOOK = """
import asyncio, os, signal, sys, threading, urllib.request, json
import pipeline
url = sys.argv[1]
def interrupt():
    while json.load(urllib.request.urlopen(url.removesuffix("/v1") + "/emulator/stats"))["in_flight"] < 2:
        pass
    os.kill(os.getpid(), signal.SIGINT)
async def cell():
    threading.Thread(target=interrupt).start()
    pipeline.run("photos", out="out", model="gpt-4o", base_url=url, quiet=True, concurrency=2)
try:
    asyncio.new_event_loop().run_until_complete(cell())
except KeyboardInterrupt as error:
    print("interrupted", error.__context__)
"""


def ended_early(url: str, asked: int) -> None:
    """A run that was stopped in the middle has a summary, and `status` knows that it is over."""
    (summary,) = Path("out/runs").glob("*.json")
    assert json.loads(summary.read_text())["asked"] == asked
    status = json.loads(Path("out/status.json").read_text())
    assert (status["state"], status["asked"], status["in_flight"]) == ("stopped", asked, 0)
    assert emulator_get(url, "stats")["requests"] == asked == len(pipeline.read("out"))


def test_interrupting_a_cell_stops_the_run(make_image: MakeImage) -> None:
    """In a notebook the run has a thread of its own: an interrupt sends nothing more, and what is in flight is kept."""
    for number in range(20):
        make_image(f"photos/{number}.jpg", 8, 8, seed=number)
    with emulator(["--latency-ms", "700"]) as url:
        done = subprocess.run(
            [sys.executable, "-c", IN_A_NOTEBOOK, url], capture_output=True, text=True, check=True, timeout=60
        )
        assert (done.stdout, done.stderr) == ("interrupted None\n", "")
        ended_early(url, 2)


async def test_a_run_that_is_cancelled(make_image: MakeImage) -> None:
    """As one that a signal stops: what is in flight comes home, and `status` does not say that it is at work."""
    for number in range(20):
        make_image(f"photos/{number}.jpg", 8, 8, seed=number)
    with emulator(["--latency-ms", "700"]) as url:
        given: dict[str, Any] = {"out": "out", "model": "gpt-4o", "base_url": url, "quiet": True, "concurrency": 2}

        def cancel(_: RunProgress) -> None:
            if emulator_get(url, "stats")["in_flight"] == 2:
                task.cancel()

        task = asyncio.create_task(pipeline.run_async("photos", **given, on_progress=cancel))
        with pytest.raises(asyncio.CancelledError):
            await task
        ended_early(url, 2)


@pytest.mark.parametrize(("name", "call"), [("on_progress", 1), ("on_progress", 2), ("on_note", 1)])
def test_a_function_of_the_caller_that_fails(photos: Path, endpoint: str, name: str, call: int) -> None:
    """The run ends in order, with a summary of what was committed; the same call goes on and pays nothing twice."""
    calls = 0

    def fails(_: object) -> None:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise ZeroDivisionError("of the caller")

    given: dict[str, Any] = {"model": "gpt-4o", "base_url": endpoint, "quiet": True}
    failing: dict[str, Any] = {name: fails}
    with pytest.raises(CallbackError, match=f"`{name}` raised ZeroDivisionError: of the caller") as caught:
        pipeline.run(photos, out="out", **given, **failing)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    has_begun = name == "on_progress"  # the first note is said before
    assert isinstance(caught.value.summary, RunSummary if has_begun else NoneType)
    pipeline.run(photos, out="out", **given)
    assert pipeline.read("out").status.tolist() == ["ok"] * 3
    assert emulator_get(endpoint, "stats")["requests"] == 3


@pytest.mark.parametrize("limit", ["3", 0, -1, True, np.True_, 2.5])
def test_what_is_no_limit(photos: Path, endpoint: str, limit: Any) -> None:
    """As on the command line: one sentence, and nothing is made."""
    with pytest.raises(InputError, match="a limit is a whole number of at least 1"):
        pipeline.run(photos, out="out", model="gpt-4o", base_url=endpoint, limit=limit)
    assert not Path("out").exists()


def test_the_keywords_of_a_rerun(photos: Path, endpoint: str) -> None:
    """The fields of `RerunPolicy` are keywords of `run`; several names are a text or a list."""
    for again, requests in (
        ({}, 3),
        ({"refresh": True}, 3),
        ({"retry_status": ["ok"]}, 3),
        ({"retry_kind": "timeout"}, 0),
    ):
        options: dict[str, Any] = {"model": "gpt-4o", "base_url": endpoint, "quiet": True, **again}
        assert pipeline.run(photos, out="out", **options).requests == requests
    with pytest.raises(InputError, match=r"`retry_kind=` 'none': no such kind"):
        pipeline.run(photos, out="out", model="gpt-4o", base_url=endpoint, quiet=True, retry_kind=["none"])
