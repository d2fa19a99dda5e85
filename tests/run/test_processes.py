"""Whole runs as processes: servers that fail, kills, pipes, signals, proxies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import EndpointStoppedError
from pipeline.commands.status import read_status
from pipeline.errors import ErrorKind
from tests import builders, warm
from tests.emulators import emulator, until
from tests.stub import stub
from tests.support import MakeImage, emulator_get, unstamped

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "pipeline")
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}
FIRST = 20
"""The width of image 0; each further one is a pixel wider, which is how a server tells them apart."""
Draw = Callable[[int], Path]


@pytest.fixture
def draw(make_image: MakeImage) -> Draw:
    """`draw(3)`: photos/000.png to 002.png -> the folder."""

    def photos(count: int) -> Path:
        for number in range(count):
            make_image(f"photos/{number:03}.png", FIRST + number, 16, seed=number)
        return Path("photos").resolve()

    return photos


def listed(folder: Path) -> Path:
    """A manifest of the folder: only those have a low-water mark."""
    manifest = Path("list.csv").resolve()
    names = sorted(path.name for path in folder.iterdir())
    manifest.write_text("id,image\n" + "".join(f"{name},{folder / name}\n" for name in names))
    return manifest


def ask(source: Path, url: str, **more: Any) -> pipeline.RunSummary:
    overrides = {"request.max_failures": 2, **more.pop("overrides", {})}
    return builders.ask(source, url, overrides=overrides, **{"concurrency": 4, **more})


def rows() -> pd.DataFrame:
    return pd.read_parquet("out/data").set_index("id").sort_index()


def words(source: str, url: str, *more: str) -> list[str]:
    return [*COMMAND, "run", source, "-o", "out", "--base-url", url, "--model", "gpt-4o", "--prompt", "What?", *more]


def begun(arguments: list[str], **how: Any) -> "subprocess.Popen[str]":
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRON}
    return subprocess.Popen(arguments, **{**pipes, **how})


def requests(url: str) -> int:
    return int(emulator_get(url, "stats")["requests"])


# ---------------------------------------------------------------- file handles


@pytest.mark.parametrize(("held", "code"), [(0, 0), (25, 5)])
def test_few_file_handles(draw: Draw, held: int, code: int) -> None:
    """`ulimit -n 60` and a concurrency of 64: half of the handles are used, all is answered. Where others hold 25:
    exit 5, every answered request is a row, and the summary of the run is written.
    """
    draw(80)
    handles = [os.open(os.devnull, os.O_RDONLY) for _ in range(held)]
    with emulator(["--latency-ms", "500"]) as url:
        limited = ["sh", "-c", 'ulimit -n 60; exec "$@"', "sh", *words("photos", url, "--concurrency", "64")]
        done = subprocess.run(limited, pass_fds=handles, capture_output=True, text=True, env=ENVIRON, check=False)
        answered = emulator_get(url, "stats")["answered"]
    for handle in handles:
        os.close(handle)
    assert done.returncode == code, done.stderr
    assert len(pd.read_parquet("out/data")) == answered
    (summary,) = (json.loads(path.read_text()) for path in Path("out/runs").iterdir())
    assert (summary["exit_code"], summary["asked"]) == (code, answered)
    assert (answered == 80) == (code == 0)
    assert ("ulimit -n" in done.stderr) == (code == 5)


# ---------------------------------------------------------------- what is asked again


@pytest.mark.parametrize("why", ["changed", "refresh", "gone"])
def test_a_failed_refresh_leaves_the_good_row(draw: Draw, make_image: MakeImage, why: str) -> None:
    """Asked again, and the server fails or the image is gone: the answer from before stays, exit 1; the same line
    asks for it once more.
    """
    folder = draw(3)
    again = {"refresh_changed": True} if why == "changed" else {"refresh": True}
    source = listed(folder)
    with stub() as server:
        assert ask(source, server.base_url).exit_code == 0
        before = rows()
        if why == "gone":
            (folder / "001.png").rename("elsewhere.png")
        else:
            make_image("photos/001.png", FIRST + 1, 16, seed=99)
            server.decide = lambda width: 500 if width == FIRST + 1 else 200
        server.asked.clear()
        failed = ask(source, server.base_url, **again)
        assert (failed.exit_code, failed.by_status["failed"]) == (1, 1)
        assert server.asked[FIRST + 1] == (0 if why == "gone" else 2)
        assert (set(rows().status), rows().caption.to_dict()) == ({"ok"}, before.caption.to_dict())
        if why == "gone":
            Path("elsewhere.png").rename(folder / "001.png")
        server.decide = lambda _: 200
        server.asked.clear()
        assert ask(source, server.base_url, **again).exit_code == 0
        assert server.asked[FIRST + 1] == 1


def test_transient_failures_of_a_retry_are_asked_again(draw: Draw) -> None:
    """A manifest is done with, its failures are retried, and one of them meets a 500: the next plain run asks it."""
    source = listed(draw(6))
    with stub(lambda width: 400 if width < FIRST + 3 else 200) as server:
        assert ask(source, server.base_url).by_error == {"bad_request": 3}
        server.decide = lambda width: 500 if width == FIRST + 1 else 200
        retried = ask(source, server.base_url, retry_failed=True)
        assert (retried.exit_code, retried.by_status["ok"], retried.by_error) == (1, 2, {"server_error": 1})
        server.decide = lambda _: 200
        plain = ask(source, server.base_url)
        assert (plain.exit_code, plain.asked) == (0, 1)
        assert ask(source, server.base_url).asked == 0


def test_another_prompt_name_asks_all(draw: Draw) -> None:
    """`keep` with another prompt_name: the mark of how far the manifest was asked is another one too."""
    source = listed(draw(4))
    with stub() as server:
        ask(source, server.base_url)
        other = ask(source, server.base_url, on_config_change="keep", overrides={"request.prompt_name": "b"})
        assert (other.asked, other.skipped) == (4, 0)
    assert pd.read_parquet("out/data").groupby("prompt_name").size().to_dict() == {"b": 4, "caption": 4}


# ---------------------------------------------------------------- servers that fail


@pytest.mark.parametrize("poison", [1, 2, 7])
def test_poison_records_end(draw: Draw, poison: int) -> None:
    """A few images that the server always fails at, among two hundred: all others are answered, these become rows
    within seconds; the next night, on which there is nothing else to ask, likewise.
    """
    folder = draw(200)
    bad = {FIRST + 11 * number for number in range(poison)}
    with stub(lambda width: 500 if width in bad else 200) as server:
        for night, asked in enumerate([200, poison]):
            began = time.monotonic()
            summary = ask(folder, server.base_url, concurrency=8)
            assert time.monotonic() - began < 10
            assert (summary.exit_code, summary.asked, summary.by_error) == (1, asked, {"server_error": poison})
            assert {server.asked[width] for width in bad} == {2 * (night + 1)}
    assert rows().status.value_counts().to_dict() == {"ok": 200 - poison, "failed": poison}


def test_many_poison_records_end(draw: Draw) -> None:
    """Twelve images that the server always fails at: on the nights on which nothing else is left they become rows,
    exit 1, each after its tries; when the server is mended they are answered.
    """
    folder = draw(40)
    bad = {FIRST + 3 * number for number in range(12)}
    patience = {"limits.first_contact_s": 0.5, "limits.outage_s": 1.0}
    with stub(lambda width: 500 if width in bad else 200) as server:
        ask(folder, server.base_url, overrides=patience)
        for _ in range(2):
            night = ask(folder, server.base_url, overrides=patience)
            assert (night.exit_code, night.asked, night.by_error) == (1, 12, {"server_error": 12})
        server.decide = lambda _: 200
        assert ask(folder, server.base_url).by_status == {"ok": 12}


def test_a_server_that_is_gone_costs_no_row(draw: Draw) -> None:
    """Answers are kept, twelve images are new, and the server is gone: exit 4, and no row of them."""
    draw(20)
    with stub() as server:
        ask(Path("photos"), server.base_url)
        address = server.base_url
    draw(32)
    with pytest.raises(EndpointStoppedError, match="check the address"):
        ask(Path("photos"), address, overrides={"limits.first_contact_s": 0.5})
    assert len(rows()) == 20


def test_a_server_that_only_fails(draw: Draw) -> None:
    """Nothing but 500s from the first request on: exit 4 after first_contact_s, and what to do."""
    folder = draw(30)
    with stub(lambda _: 500) as server, pytest.raises(EndpointStoppedError, match="run the same command later"):
        ask(folder, server.base_url, overrides={"limits.first_contact_s": 1, "request.max_failures": 6})
    assert len(rows()) == 0


def test_what_one_endpoint_refuses_another_is_asked(draw: Draw) -> None:
    """One of two answers 400 to everything: every image is answered by the other, and no row fails."""
    folder = draw(30)
    with stub(lambda _: 400) as one, stub() as other:
        summary = ask(folder, "", base_url=[one.base_url, other.base_url])
        assert (summary.exit_code, summary.by_status) == (0, {"ok": 30})
        assert max(one.asked.values()) == 1
        assert set(other.asked.values()) == {1}
    assert set(rows().endpoint) == {other.base_url}


def test_what_both_refuse_fails(draw: Draw) -> None:
    """One image that is a 400 everywhere is asked once at each, and fails; a third endpoint is not asked."""
    folder = draw(10)

    def decide(width: int) -> int:
        return 400 if width == FIRST + 5 else 200

    with stub(decide) as one, stub(decide) as other, stub(decide) as third:
        servers = [one, other, third]
        summary = ask(folder, "", base_url=[server.base_url for server in servers])
        assert (summary.exit_code, summary.by_error) == (1, {"bad_request": 1})
        assert sorted(server.asked[FIRST + 5] for server in servers) == [0, 1, 1]
    assert rows().attempts["005.png"] == 2


def test_a_retry_of_what_is_rightly_refused(draw: Draw) -> None:
    """Twenty-two images that are a 400, and rightly: to retry them ends with exit 1, not with "records end alike"."""
    folder = draw(30)
    with stub(lambda width: 400 if width >= FIRST + 8 else 200) as server:
        assert ask(folder, server.base_url).exit_code == 1
        again = ask(folder, server.base_url, retry_failed=True)
        assert (again.exit_code, again.asked, again.by_error) == (1, 22, {"bad_request": 22})


def test_another_prompt_is_as_new_as_an_empty_out(draw: Draw) -> None:
    """Good answers to another prompt prove nothing: twenty refusals of the new one end the run."""
    folder = draw(30)
    with stub() as server:
        ask(folder, server.base_url)
        server.decide = lambda _: 400
        with pytest.raises(EndpointStoppedError, match="alike"):
            ask(folder, server.base_url, prompt="What else?", on_config_change="refresh")


# ---------------------------------------------------------------- kills, ledgers


def test_a_budget_of_requests_over_kills(draw: Draw) -> None:
    """`budget.max_requests=20` and kill -9 three times: the server sees twenty requests at most."""
    draw(60)
    with emulator(["--latency-ms", "50"]) as url:
        arguments = words("photos", url, "--concurrency", "4", "--set", "budget.max_requests=20", "-q")
        for _ in range(3):
            enough = requests(url) + 2
            running = warm.Running(arguments[1:], env=ENVIRON)
            until(url, "requests", enough, running)
            running.kill()
            running.communicate()
        done = warm.run(arguments[1:])
        assert done.returncode == 3, done.stderr
        assert 4 <= requests(url) <= 20


def test_a_rebuild_knows_a_configuration_that_is_not_shown(draw: Draw) -> None:
    """`prompt_cache_key` might be a secret and is not in config.toml: after a rebuild the same line is exit 0 still."""
    folder = draw(3)
    extra = {"request.extra": {"prompt_cache_key": "abc"}}
    with stub() as server:
        ask(folder, server.base_url, overrides=extra)
        Path("out/ledger.sqlite").unlink()
        pipeline.rebuild("out")
        again = ask(folder, server.base_url, overrides=extra)
        assert (again.exit_code, again.requests, again.skipped) == (0, 0, 3)


PRICED = ("--set", 'prices.models=[{model="gpt-4o", input_usd_per_mtok="2.5", output_usd_per_mtok="10"}]')


def test_what_is_in_flight_at_a_kill_is_counted_without_a_budget(draw: Draw) -> None:
    """The sum of a run that was killed and of the next one, unknown bills included, is not below what was billed."""
    draw(30)
    with emulator(["--latency-ms", "150"]) as url:
        arguments = words("photos", url, "--concurrency", "4", "--detail", "low", "-q", *PRICED)
        running = warm.Running(arguments[1:], env=ENVIRON)
        until(url, "requests", 10, running)
        running.kill()
        running.communicate()
        assert warm.run(arguments[1:]).returncode == 0
        seen = emulator_get(url, "stats")
    found = read_status(Path("out"))
    assert found.cost_usd is not None
    billed_usd = (seen["prompt_tokens"] * Decimal("2.5") + seen["completion_tokens"] * 10) / 1_000_000
    assert seen["requests"] > 30
    assert found.cost_unknown_usd > 0
    assert found.cost_usd < billed_usd <= found.cost_usd + found.cost_unknown_usd
    most_usd = (100 * Decimal("2.5") + 300 * 10) / 1_000_000
    assert found.cost_unknown_usd < 2 * 4 * most_usd  # twice of what four slots may have in flight


def test_a_rebuild_after_a_kill(draw: Draw) -> None:
    """A run is killed before it sealed anything, and its ledger is whole. With a rebuild or without one: the same
    rows are there, the same run goes on, and all sums of it and of OUT are equal, money that is unknown included.
    """
    draw(30)
    with emulator(["--latency-ms", "100"]) as url:
        arguments = words(
            "photos", url, "--concurrency", "4", "--max-cost-total", "1", "--detail", "low", "-q",
            "--set", "output.seal_interval_s=3600", *PRICED,
        )  # fmt: skip
        running = warm.Running(arguments[1:], env=ENVIRON)
        until(url, "requests", 16, running)
        running.kill()
        running.communicate()
        assert len(rows()) == 0
        shutil.copytree("out", "killed")
        report = pipeline.rebuild("out")
        assert report.records == len(rows()) >= 8
        Path("out").rename("rebuilt")
    found = list[tuple[str, int, dict[str, str], dict[str, object]]]()
    with emulator(["--latency-ms", "10"]) as url:
        for folder in ("killed", "rebuilt"):
            Path(folder).rename("out")
            arguments[arguments.index("--base-url") + 1] = url
            done = warm.run(arguments[1:])
            assert done.returncode == 0, done.stderr
            (summary,) = (json.loads(path.read_text()) for path in Path("out/runs").iterdir())
            found.append((summary["run_id"], summary["asked"], summary["totals"], read_status(Path("out")).as_dict()))
            assert set(rows().status) == {"ok"}
            shutil.rmtree("out")
    for told in found:
        told[3]["updated_at"] = told[3]["images_per_s"] = None
    assert found[0] == found[1]
    assert float(found[1][2]["cost_unknown_usd"]) > 0


# ---------------------------------------------------------------- streams, time, signals


@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(draw: Draw, endpoint: str, closed: str) -> None:
    """A daemon starts the run without standard streams: it does its work, and nothing is written into its files."""
    draw(3)
    arguments = [word for word in words("photos", endpoint) if word not in {"--prompt", "What?"}]
    done = subprocess.run(["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *arguments], env=ENVIRON, check=False)
    assert done.returncode == 0
    assert list(rows().status) == ["ok"] * 3
    assert read_status(Path("out")).records == {"ok": 3}


def test_answers_are_readable_while_one_hangs(draw: Draw) -> None:
    """`seal_interval_s=1`: nine answers are in `data/` while the tenth is still awaited."""
    folder, read = draw(10), list[int]()

    def decide(width: int) -> int:
        deadline = time.monotonic() + 20
        while width == FIRST + 4 and len(rows()) < 9 and time.monotonic() < deadline:
            Event().wait(0.05)
        if width == FIRST + 4:
            read.append(len(rows()))
        return 200

    with stub(decide) as server:
        settings = {"output.seal_interval_s": 1, "limits.straggler_s": 60}
        assert ask(folder, server.base_url, overrides=settings).exit_code == 0
    assert read == [9]


def test_a_pipe_that_stays_open(draw: Draw) -> None:
    """`run -`, one line and then silence: it is asked at once, and one SIGINT ends the run with its row."""
    draw(1)
    with emulator() as url:
        running = begun(words("-", url, "-q"), stdin=subprocess.PIPE)
        assert running.stdin is not None
        running.stdin.write('{"image": "photos/000.png"}\n')
        running.stdin.flush()
        until(url, "answered", 1, running)
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 130
        running.communicate()
    assert list(rows().status) == ["ok"]


@pytest.mark.parametrize(("trap", "code"), [('trap "" HUP; ', 0), ("", 129)])
def test_a_terminal_that_is_closed(draw: Draw, trap: str, code: int) -> None:
    """Under nohup a SIGHUP changes nothing; without it what is in flight comes home, and the code says 129."""
    draw(6)
    with emulator(["--latency-ms", "400"]) as url:
        running = begun(["sh", "-c", f'{trap}exec "$@"', "sh", *words("photos", url, "--concurrency", "2", "-q")])
        until(url, "requests", 2, running)
        running.send_signal(signal.SIGHUP)
        _, stderr = running.communicate(timeout=30)
        assert running.returncode == code, stderr
        assert len(rows()) == emulator_get(url, "stats")["answered"]
        assert (len(rows()) == 6) == (code == 0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_behind_standard_output(draw: Draw, endpoint: str) -> None:
    """`--json >/dev/full`: exit 5 and one line behind the address that is asked; the run itself is complete."""
    draw(3)
    with Path("/dev/full").open("w") as full:
        running = begun(words("photos", endpoint, "--json"), stdout=full)
        _, stderr = running.communicate(timeout=30)
    said = [line for line in unstamped(stderr) if not line.startswith("answer: ")]
    assert (running.returncode, len(said), len(rows())) == (5, 2, 3), stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    ("more", "redirected", "code"),
    [
        (["--log-json"], "2>/dev/full", 0),
        ([], ">/dev/full 2>/dev/full", 5),
        (["--set", "limits.first_contact_s=0.2"], "2>/dev/full", 4),
        (["--no-such-option"], "2>/dev/full", 2),
    ],
)
def test_a_full_disk_behind_standard_error(
    draw: Draw, endpoint: str, more: list[str], redirected: str, code: int
) -> None:
    """`run ... >>label.log 2>&1` and the disk is full: the reason cannot be read, the exit code is the right one."""
    draw(2)
    url = "http://127.0.0.1:9" if code == 4 else endpoint
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirected}', "sh", *words("photos", url, *more)],
        env=ENVIRON, check=False, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code


def test_nobody_reads_on(draw: Draw, endpoint: str) -> None:
    """`2>&1 | head -1`: the first line is read, the rest of the output goes nowhere, and the run ends well."""
    draw(3)
    arguments = [word for word in words("photos", endpoint) if word not in {"--prompt", "What?"}]
    running = begun(arguments, stderr=subprocess.STDOUT)
    assert running.stdout is not None
    assert unstamped(running.stdout.readline())[0].startswith("asks http")
    running.stdout.close()
    assert running.wait(30) == 0
    assert len(rows()) == 3


# ---------------------------------------------------------------- proxies


@pytest.fixture
def picture(make_image: MakeImage) -> bytes:
    return make_image("picture.jpg", 64, 48).read_bytes()


def test_images_have_the_proxy_of_their_own_address(
    endpoint: str, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint is on this machine and needs no proxy; the images are far away: the environment's leads there."""
    Path("list.txt").write_text("http://images.example/a.jpg\n")
    with stub(picture=picture) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert ask(Path("list.txt"), endpoint).exit_code == 0
        assert proxy.paths == ["http://images.example/a.jpg"]


def test_the_proxy_of_the_endpoint_is_its_own(picture: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """`endpoint.proxy` leads to the model; images on this machine are fetched directly."""
    monkeypatch.setenv("OPENAI_API_KEY", "k-of-the-model")
    with stub() as proxy, stub(picture=picture) as host:
        Path("list.txt").write_text(f"{host.url}/a.jpg\n")
        summary = ask(
            Path("list.txt"), "http://model.test/v1", allow_private_hosts=True, overrides={"endpoint.proxy": proxy.url}
        )
        assert summary.exit_code == 0
        assert (proxy.paths, host.paths) == (["http://model.test/v1/chat/completions"], ["/a.jpg"])


def test_a_proxy_that_is_not_there_fails_the_image(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row blames the proxy, not the image's host."""
    Path("list.txt").write_text("http://images.example/a.jpg\n")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(Path("list.txt"), endpoint, overrides={"request.max_failures": 1}).exit_code == 1
    row = rows().iloc[0]
    assert (row.error_kind, "proxy" in row.error_message) == (ErrorKind.FETCH_FAILED, True)
