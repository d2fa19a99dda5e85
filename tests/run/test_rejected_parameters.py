"""What an endpoint does not take of a request is renamed or left out once for the run, or ends it where it was set."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests import builders
from tests.emulators import emulator
from tests.stub import Reply, Stub, answer, stub, width_of
from tests.support import Command, MakeImage, emulator_get

IMAGES = 12
UNSUPPORTED = "Unsupported parameter: '{}' is not supported with this model."


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(IMAGES):
        make_image(f"photos/{number}.png", 20 + number, 16, seed=number)
    return Path("photos").resolve()


def served(width: int, server: Stub, names: tuple[str, ...]) -> int | Reply:
    """By the last body about this image; the requests of one image follow each other."""
    body = next(json.loads(one) for one in reversed(list(server.bodies)) if width_of(one) == width)
    name = next((name for name in names if name in body), None)
    return Reply(400, {"error": {"message": UNSUPPORTED.format(name)}}) if name else Reply(200, answer(width))


def test_what_was_added_is_adapted_once(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A newer model behind a name of one's own: `max_tokens` is renamed for all, in one line, and no row fails.

    Requests in flight with the old name are sent again alike; with a single failure allowed, all are answered.
    """
    with emulator(["--fast", "--model-family", "gpt-5.1", "--latency-ms", "20"]) as url:
        overrides = {"request.max_failures": 1}
        done = builders.ask(photos, url, model="my-deployment", quiet=False, concurrency=4, overrides=overrides)
        stats = emulator_get(url, "stats")
        sent = emulator_get(url, f"requests?last={stats['requests']}")
    said = [line for line in capsys.readouterr().err.splitlines() if "does not take `max_tokens`" in line]
    assert len(said) == 1
    assert "from now on it is sent as `max_completion_tokens`" in said[0]
    assert (done.exit_code, done.by_status) == (0, {"ok": IMAGES})
    rejected = stats["statuses"]["400"]
    assert 1 <= rejected <= 4
    assert [one["body"].get("max_completion_tokens") for one in sent].count(300) == IMAGES
    rows = pd.read_parquet("out/data")
    assert rows.attempts.sum() == IMAGES + rejected


@pytest.mark.parametrize(
    ("names", "overrides", "said", "left"),
    [
        (("max_tokens", "stream_options"), {"request.stream": True}, 2, "max_completion_tokens stream"),
        (("max_completion_tokens",), {}, 1, "max_tokens reasoning_effort"),
        (("max_completion_tokens", "reasoning_effort"), {}, 2, "max_tokens"),
        (("temperature", "top_k"), {"request.adapt": True, "request.temperature": 0.5, "request.extra.top_k": 4},
         2, "max_tokens"),
    ],
)  # fmt: skip
def test_each_field_once(
    names: tuple[str, ...], overrides: dict[str, Any], said: int, left: str, photos: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One after the other, a note each; what is left in the body is as the endpoint takes it."""
    model = "gpt-5-mini" if "max_completion_tokens" in names else "gpt-4o"
    with stub() as server:
        server.decide = lambda width: served(width, server, names)
        done = builders.ask(photos, server.base_url, model=model, quiet=False, concurrency=3, overrides=overrides)
        last = json.loads(server.bodies[-1])
    assert (done.exit_code, done.by_status) == (0, {"ok": IMAGES})
    assert sum("does not take" in line for line in capsys.readouterr().err.splitlines()) == said
    assert set(last) - {"model", "messages"} == set(left.split())


@pytest.mark.parametrize(
    ("overrides", "name", "setting"),
    [
        ({"request.temperature": 0.5}, "temperature", "--temperature"),
        ({"request.n": 2}, "n", "request.n"),
        ({"request.extra.top_k": 4}, "top_k", "request.extra.top_k"),
        ({"request.max_tokens_field": "max_tokens"}, "max_tokens", "request.max_tokens_field"),
    ],
)
def test_what_was_set_ends_the_run(
    overrides: dict[str, Any], name: str, setting: str, photos: Path, command: Command
) -> None:
    """Exit 4 after the first requests, in the endpoint's words, with the setting and the way out; no row."""
    with stub() as server:
        server.decide = lambda width: served(width, server, (name,))
        options = [word for key, value in overrides.items() for word in ("--set", f"{key}={value}")]
        code, _, stderr = command(
            "run", str(photos), "-o", "out", "--model", "gpt-4o", "--base-url", server.base_url, "--concurrency", "2",
            *options,
        )  # fmt: skip
        assert server.asked.total() <= 2
    assert code == 4, stderr
    assert UNSUPPORTED.format(name).removesuffix(".") in stderr
    assert setting in stderr
    assert "request.adapt=true" in stderr
    assert len(pd.read_parquet("out/data")) == 0


def test_both_names_of_the_limit_are_rejected(photos: Path) -> None:
    """Then it is no matter of the name: the records fail."""
    with stub() as server:
        server.decide = lambda width: served(width, server, ("max_tokens", "max_completion_tokens"))
        done = builders.ask(photos, server.base_url, concurrency=1)
    assert done.by_status == {"failed": IMAGES}
    assert done.exit_code == 1


def test_after_an_answer_a_rejection_is_the_records_own(photos: Path) -> None:
    """A gateway that routes one request elsewhere does not end the run: its row fails."""
    busy = Reply(400, {"error": {"message": UNSUPPORTED.format("temperature")}})
    with stub(lambda width: busy if width == 25 else 200) as server:
        done = builders.ask(photos, server.base_url, concurrency=1, temperature=0.5)
    assert done.by_status == {"ok": IMAGES - 1, "failed": 1}


def test_check_adapts_too(command: Command) -> None:
    """One command shows what a run would do, and says it."""
    with emulator(["--fast", "--model-family", "gpt-5.1"]) as url:
        code, shown, stderr = command("check", "--base-url", url, "--model", "my-deployment")
    assert code == 0, stderr
    assert "does not take `max_tokens`" in shown
    assert "is sent as `max_completion_tokens`" in shown
