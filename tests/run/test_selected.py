"""Rows that a command names are asked again, also with another configuration; nothing else is asked, or paid."""

import io
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import BudgetReachedError, InputError
from pipeline.config.loading import load_config
from pipeline.display.last_screen import describe
from pipeline.store.outdir import read_configurations
from tests import warm
from tests.builders import ask
from tests.emulators import emulator, until
from tests.support import Command, MakeImage, emulator_get


def rows(out: str = "out") -> pd.DataFrame:
    frame = pd.read_parquet(f"{out}/data").set_index("id").sort_index()
    assert frame.index.is_unique
    return frame


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(6):
        make_image(f"photos/{number}.png", 40 + number, 30, seed=number)
    return Path("photos").resolve()


def test_truncated_answers_alone_are_asked_with_a_larger_limit(
    make_image: MakeImage, command: Command, endpoint: str
) -> None:
    """5 % truncated of 100: one command asks exactly those with more room; a row of no other image changes."""
    for number in range(100):
        make_image(f"photos/{number:02}.png", 20, 15, seed=number)
    with emulator(["--fault", "truncate=0.05", "--seed", "4"]) as cutting:
        first = ask("photos", cutting)
    cut = first.by_status["truncated"]
    assert 1 <= cut <= 12
    before = rows()
    make_image("photos/new.png", 20, 15, seed=1000)
    arguments = ["run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o"]
    code, out, err = command(*arguments, "--retry-status", "truncated", "--max-tokens", "600")
    assert (code, emulator_get(endpoint, "stats")["requests"]) == (0, cut), err
    after = rows()
    again = after.config_hash != first.config_hash
    assert set(after[again].index) == set(before[before.status == "truncated"].index)
    assert set(after.status) == {"ok"}
    pd.testing.assert_frame_equal(after[~again], before[before.status == "ok"])
    other = after[again].config_hash.iloc[0]
    assert f"settings: {100 - cut} rows with the settings of OUT (as the next run), {cut} row" in out
    assert re.search(r"with those of this run \([\w.]*max_tokens: \S+ -> 600\)\n", out)
    assert f"{cut} ok; {100 - cut} kept already; 1 are not selected" in out
    card = Path("out/README.md").read_text()
    assert f"## Configuration `{first.config_hash}`: {100 - cut} rows" in card
    assert f"## Configuration `{other}`: {cut} row" in card
    assert pipeline.status("out").done == 100
    code, out, _ = command(*arguments)
    assert (code, emulator_get(endpoint, "stats")["requests"]) == (0, cut + 1)
    assert rows().config_hash["new.png"] == first.config_hash


def test_a_selection_with_another_configuration_leaves_that_of_out(photos: Path, endpoint: str) -> None:
    """The next run continues with OUT's own, also from its config.toml; the other alone is refused as before."""
    own = ask(photos, endpoint).config_hash
    other = ask(photos, endpoint, prompt="And now?", only=["1.png"])
    assert (other.requests, other.own_config_hash, other.by_config) == (1, own, {own: 5, other.config_hash: 1})
    assert rows().config_hash.to_dict() == {f"{n}.png": other.config_hash if n == 1 else own for n in range(6)}
    assert load_config("out/config.toml", environ={}).config_hash() == own
    with pytest.raises(InputError, match="belongs to another configuration"):
        ask(photos, endpoint, prompt="And now?")
    assert ask(photos, endpoint).asked == 0
    assert list(read_configurations(Path("out"))) == [own, other.config_hash]
    assert ask(photos, endpoint, on_config_change="refresh").requests == 1
    assert set(rows().config_hash) == {own}


@pytest.mark.parametrize("lost", [False, True])
def test_a_rebuild_leaves_the_configuration_of_out(photos: Path, endpoint: str, lost: bool) -> None:  # noqa: FBT001 - a case
    """Also where all rows of the last part were asked with the other one, and nothing but the parts is left."""
    own = ask(photos, endpoint).config_hash
    other = ask(photos, endpoint, model="gpt-4.1", retry_status="ok").config_hash
    assert set(rows().config_hash) == {other}
    if lost:
        Path("out/ledger.sqlite").unlink()
    pipeline.rebuild("out")
    assert ask(photos, endpoint).asked == 0
    assert (list(read_configurations(Path("out"))), own == other) == ([own, other], False)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ({"only": ["2.png", "4.png"]}, {2, 4}),
        ({"only": "ids.txt"}, {1, 3, 9}),
        ({"retry_where": "width >= 44"}, {4, 5}),
        ({"retry_where": "id LIKE '1%' OR id = '2.png'"}, {1, 2}),
        ({"retry_where": "width > 42", "retry_status": "ok"}, {4, 5}),
        ({"retry_where": "width > 41", "retry_status": "truncated,refused"}, {3}),
        ({"only": "ids.txt", "retry_where": "status <> 'ok'"}, {3, 9}),
        ({"only": ["1.png"], "retry_status": "truncated"}, set()),
        ({"only": ["3.png", "1.png"], "refresh": True}, {1, 3}),
        ({"only": []}, set()),
    ],
)
def test_every_word_narrows(
    photos: Path, make_image: MakeImage, endpoint: str, words: dict[str, Any], asked: set[int]
) -> None:
    """Rows must match all words; with another configuration a record without a row is asked only where it is named."""
    with emulator(["--fault", "truncate=1"]) as cutting:
        ask(photos / "3.png", cutting, out="out")
    ask(photos, endpoint)
    make_image("photos/9.png", 49, 30, seed=9)
    Path("ids.txt").write_bytes(b"\xef\xbb\xbf3.png\r\n1.png\n\n9.png")
    for more in ({}, {"max_tokens": 600}):
        before = rows().asked_at.to_dict()
        done = ask(photos, endpoint, **words, **more)
        after = rows().asked_at.to_dict()
        changed = {int(str(name)[0]) for name, at in after.items() if before.get(name) != at}
        if not more:  # the same configuration: what OUT lacks is asked too, within `only`
            assert changed == asked | ({9} if "only" not in words else set()), words
            restore(photos, make_image, endpoint)
        elif words == {"only": "ids.txt"}:
            assert changed == asked
        else:
            assert changed == asked - {9}, words
        assert done.requests == len(changed)


def restore(photos: Path, make_image: MakeImage, endpoint: str) -> None:
    """OUT as before the first command: six rows, the fourth truncated, the seventh image without a row."""
    shutil.rmtree("out")
    (photos / "9.png").unlink()
    with emulator(["--fault", "truncate=1"]) as cutting:
        ask(photos / "3.png", cutting)
    ask(photos, endpoint)
    make_image("photos/9.png", 49, 30, seed=9)


@pytest.mark.parametrize(
    "words", [{"retry_status": "ok"}, {"retry_where": "width < 100"}, {"only": [f"{n}.png" for n in range(6)]}]
)
def test_an_interrupted_selection_goes_on(photos: Path, endpoint: str, words: dict[str, Any]) -> None:
    """The same command again asks none of the rows that it has asked; once it is done, it begins anew."""
    own = ask(photos, endpoint).config_hash
    with pytest.raises(BudgetReachedError):
        ask(photos, endpoint, temperature=1, overrides={"budget.max_requests": 2}, concurrency=1, **words)
    assert (rows().config_hash != own).sum() == 2
    done = ask(photos, endpoint, temperature=1, **words)
    assert (done.requests, done.by_config) == (4, {own: 0, done.config_hash: 6})
    assert ask(photos, endpoint, temperature=1, **words).requests == 6
    assert ask(photos, endpoint).asked == 0


def test_a_killed_selection_loses_nothing(make_image: MakeImage, tmp_path: Path) -> None:
    """SIGKILL in the middle: one row a key, what was committed is not asked again, and the rest is."""
    for number in range(40):
        make_image(f"photos/{number:02}.png", 20, 15, seed=number)
    again = ("--retry-where", "status = 'ok'", "--max-tokens", "600")
    with emulator(["--latency-ms", "60"]) as slow:
        own = ask("photos", slow).config_hash
        process = start(tmp_path, slow, *again)
        until(slow, "billed", 52, process)
        process.kill()
        process.communicate()
        process = start(tmp_path, slow, *again)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert 80 <= emulator_get(slow, "stats")["billed"] <= 80 + 2 * 4
        assert (len(rows()), own in set(rows().config_hash)) == (40, False)
        assert ask("photos", slow).asked == 0


def start(folder: Path, url: str, *more: str) -> warm.Running:
    words = [
        *("-m", "pipeline", "run", "photos", "-o", "out", "--base-url", url, "--model", "gpt-4o"),
        *("--concurrency", "4", "-q", "--set", "output.rows_per_part=7", *more),
    ]
    return warm.Running(words, cwd=folder, env=os.environ)


def test_ids_that_the_source_does_not_hold(
    photos: Path, endpoint: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 2 with their names; a note at the end where the source is a stream. A list may come from a pipe."""
    Path("ids.txt").write_text("1.png\nnone.png\n2.png\nnor.png\n")
    arguments = ["run", str(photos), "-o", "out", "--base-url", endpoint, "--model", "gpt-4o"]
    code, _, err = command(*arguments, "--only", "ids.txt")
    assert (code, emulator_get(endpoint, "stats")["requests"], Path("out").exists()) == (2, 0, False)
    assert err == (
        "vision-batch: --only ids.txt: the source does not hold 2 of the 4 ids: 'none.png', 'nor.png'. "
        "Nothing was sent\n"
    )
    code, _, err = command(*arguments, "--only", "gone.txt")
    assert (code, err) == (2, "vision-batch: --only gone.txt: cannot be read: No such file or directory\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"2.png\n1.png\n")))
    code, _, err = command(*arguments, "--only", "-")
    assert (code, set(rows().index)) == (0, {"1.png", "2.png"}), err
    reader, writer = os.pipe()
    os.write(writer, b"3.png\n")
    os.close(writer)
    code, _, err = command(*arguments, "--only", f"/dev/fd/{reader}")
    os.close(reader)
    assert (code, set(rows().index)) == (0, {"1.png", "2.png", "3.png"}), err
    stream = "".join(json.dumps({"id": name, "image": str(photos / name)}) + "\n" for name in ("0.png", "1.png"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stream.encode())))
    code, out, err = command("run", "-", *arguments[2:3], "piped", *arguments[4:], "--only", "ids.txt")
    assert (code, set(rows("piped").index)) == (0, {"1.png"}), err
    assert "note: --only ids.txt: the source does not hold 3 of the 4 ids: 'none.png', '2.png', 'nor.png'" in err
    assert "1 image in" in out
    code, _, err = command("run", "-", *arguments[2:], "--only", "-")
    assert (
        code,
        "standard input (-) is the SOURCE already; put the ids into a file and name it: --only FILE" in err,
    ) == (2, True)


def test_what_is_no_condition_or_no_id(photos: Path, endpoint: str) -> None:
    """Exit code 2 with the place; a condition without a fault in its words is checked against OUT's columns."""
    with pytest.raises(InputError, match=r"^`retry_where=`: a comparison .* is expected at character 6"):
        ask(photos, endpoint, retry_where="width")
    assert not Path("out").exists()
    ask(photos, endpoint)
    with pytest.raises(InputError, match=r"^`retry_where=`: no column 'height_px'; known: id, .* at character 1 "):
        ask(photos, endpoint, retry_where="height_px > 3")
    with pytest.raises(InputError, match=r"`only=` holds None, which is no id"):
        ask(photos, endpoint, only=[None])


def test_what_decides_the_columns_cannot_change_for_some_rows(photos: Path, endpoint: str) -> None:
    """Another number of choices is exit code 2 with the reason, and OUT is as it was."""
    ask(photos, endpoint)
    with pytest.raises(InputError, match=r"`request.n` decides the columns of all rows.*null -> 2"):
        ask(photos, endpoint, retry_status="ok", overrides={"request.extra.n": 2})
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
    with pytest.raises(InputError, match=r"`request.labels` decides the columns of all rows"):
        ask(photos, endpoint, only=["1.png"], labels=schema)
    assert ask(photos, endpoint).asked == 0


def test_a_named_row_does_not_take_an_older_answer(photos: Path, endpoint: str) -> None:
    """A follower that is named is asked for itself; of two that are named and equal one is asked."""
    shutil.copy(photos / "0.png", photos / "copy.png")
    assert ask(photos, endpoint, concurrency=1).followers == 1
    named = rows()[lambda frame: frame.duplicate_of.notna()].index[0]
    assert ask(photos, endpoint, only=[named]).requests == 1
    done = ask(photos, endpoint, retry_where="id IN ('0.png', 'copy.png')")
    assert (done.requests, done.followers) == (1, 1)


def test_the_summary_of_a_selection(photos: Path, endpoint: str) -> None:
    """What is not selected is neither asked nor kept."""
    assert describe(ask(photos, endpoint, only=["1.png"])).startswith("1 image in ")
    assert describe(ask(photos, endpoint, only=["1.png"])).splitlines()[0].endswith("1 ok; 5 are not selected")
    done = describe(ask(photos, endpoint, only=[]))
    assert done.splitlines()[0] == "nothing to ask: 0 are kept already; 6 are not selected"
