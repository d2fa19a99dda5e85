"""Links and other odd things inside an output directory: none is written through, and each is named in one line."""

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline import files
from pipeline.cli import app
from pipeline.errors import InputError, ResourceError, VisionBatchError
from tests import builders
from tests.stub import Stub, plain, stub
from tests.support import MakeImage

PRECIOUS = b"not yours\n"


@pytest.fixture
def server() -> Iterator[Stub]:
    with stub() as told:
        yield told


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(4):
        make_image(f"photos/{number}.jpg", 20 + number, 20, seed=number)
    return Path("photos").resolve()


def ask(photos: Path, server: Stub, **more: Any) -> pipeline.RunSummary:
    return builders.ask(photos, server.base_url, **more)


def refusal(command: Callable[[], object]) -> VisionBatchError | None:
    """The error that a command ends with, if any."""
    try:
        command()
    except VisionBatchError as error:
        return error
    return None


@pytest.mark.parametrize(
    "name",
    [
        ".lock-holder.json", "..lock-holder.json.tmp", "status.json", ".status.json.tmp", "config.toml", "README.md",
        ".config.toml.tmp", ".README.md.tmp", "data/.part-00000.parquet.tmp", "data/.layout", ".unsaved-a.jsonl",
        "ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-journal", "ledger.sqlite-shm", ".rebuild",
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_new", [True, False])
def test_no_file_is_written_through_a_link(photos: Path, server: Stub, name: str, is_new: bool) -> None:  # noqa: FBT001
    """A link of each name that OUT uses, before its first run and later: what it leads to stays as it is."""
    if not is_new:
        ask(photos, server, limit=2)
    victim = Path("victim")
    victim.write_bytes(PRECIOUS)
    link = Path("out") / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(victim.resolve())
    for command in (
        lambda: ask(photos, server),
        lambda: pipeline.compact("out", rows_per_part=3),
        lambda: pipeline.rebuild("out"),
        lambda: pipeline.status("out"),
    ):
        error = refusal(command)
        assert error is None or error.exit_code in {2, 5}
        assert len(str(error).splitlines()) == 1
        assert victim.read_bytes() == PRECIOUS


def test_the_lock_holder_is_made_anew(photos: Path, server: Stub) -> None:
    """A link that waits in an empty OUT is replaced by the run's own file, and the run goes on."""
    Path("victim").write_bytes(PRECIOUS)
    Path("out").mkdir()
    Path("out/.lock-holder.json").symlink_to(Path("victim").resolve())
    assert ask(photos, server).asked == 4
    assert Path("victim").read_bytes() == PRECIOUS


@pytest.mark.parametrize("name", [".data-new", ".data-old", "runs"])
def test_no_folder_is_reached_through_a_link(photos: Path, server: Stub, name: str) -> None:
    """Parts and summaries of another dataset, which a link leads to, are neither deleted nor joined by ours."""
    ask(photos, server, limit=2)
    other = Path("other")
    other.mkdir()
    for file in ("part-00000.parquet", "20260101T000000Z-abcdef.json"):
        (other / file).write_bytes(PRECIOUS)
    link = Path("out") / name
    if link.exists():
        link.rename("moved")
    link.symlink_to(other.resolve(), target_is_directory=True)
    for command in (
        lambda: ask(photos, server),
        lambda: pipeline.compact("out", rows_per_part=1),
        lambda: pipeline.rebuild("out"),
    ):
        error = refusal(command)
        assert error is None or (error.exit_code == 5 and "move it away" in str(error))
        assert {path.name: path.read_bytes() for path in other.iterdir()} == {
            "part-00000.parquet": PRECIOUS,
            "20260101T000000Z-abcdef.json": PRECIOUS,
        }


def test_out_and_data_may_be_links(photos: Path, server: Stub) -> None:
    """OUT and `data/` themselves may lie elsewhere: runs, status and rebuild work there."""
    for name in ("elsewhere", "parts"):
        Path(name).mkdir()
    Path("out").symlink_to(Path("elsewhere").resolve(), target_is_directory=True)
    Path("elsewhere/data").symlink_to(Path("parts").resolve(), target_is_directory=True)
    with pytest.raises(InputError):
        ask(photos, server)  # a directory that is not empty is not taken for a new one
    Path("elsewhere/data").unlink()
    ask(photos, server, limit=2)
    Path("elsewhere/data").rename("parts/data")
    Path("elsewhere/data").symlink_to(Path("parts/data").resolve(), target_is_directory=True)
    assert ask(photos, server).asked == 2
    assert pipeline.rebuild("out").records == 4
    assert pipeline.status("out").records == {"ok": 4}
    assert len(list(Path("parts/data").glob("part-*.parquet"))) == 1


def exit_code(capsys: pytest.CaptureFixture[str], *words: str) -> int:
    """What the command ends with; it has to say why in one line."""
    code = app.exit_code(list(words))
    said = capsys.readouterr().err.strip().splitlines()
    assert code == 0 or len(said) == 1, said
    return code


@pytest.mark.parametrize("command", ["run", "rebuild", "status", "compact"])
@pytest.mark.parametrize(
    ("name", "make", "codes"),
    [
        ("status.json", Path.mkdir, {"run": 5, "rebuild": 5, "status": 0, "compact": 0}),
        ("config.toml", Path.mkdir, {"run": 5, "rebuild": 5, "status": 0, "compact": 2}),
        ("data", Path.touch, {"run": 5, "rebuild": 5, "status": 0, "compact": 5}),
        ("runs", Path.touch, {"run": 5, "rebuild": 5, "status": 0, "compact": 0}),
        ("ledger.sqlite", Path.mkdir, {"run": 2, "rebuild": 2, "status": 0, "compact": 2}),
        ("data/.layout", Path.mkdir, {"run": 5, "rebuild": 5, "status": 0, "compact": 5}),
    ],
)
def test_something_else_has_our_name(
    photos: Path,
    server: Stub,
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
    make: Callable[[Path], None],
    codes: dict[str, int],
) -> None:
    """Directories for files and files for directories: one line and exit code 2 or 5, and nothing is sent."""
    ask(photos, server, limit=2)
    place = Path("out") / name
    if place.exists():
        place.rename("moved")
    make(place)
    words = ["run", str(photos), "-o", "out", "--base-url", server.base_url, "--model", "gpt-4o", "-q"]
    capsys.readouterr()
    assert exit_code(capsys, *(words if command == "run" else [command, "out"])) == codes[command]
    assert sum(server.asked.values()) == 2


def unprivileged(command: Callable[[], int]) -> tuple[int, str]:
    """What a command ends with in a child that may do no more than any user; what it says on standard error."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        sys.stderr = os.fdopen(write, "w")
        os.setgid(65534)
        os.setuid(65534)
        code = 99
        try:
            code = command()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as said:
        words = said.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("command", ["rebuild", "status", "compact"])
@pytest.mark.parametrize("has_status", [True, False])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_an_out_that_may_only_be_read(
    photos: Path,
    server: Stub,
    tmp_path: Path,
    command: str,
    has_status: bool,  # noqa: FBT001
) -> None:
    """Who may not write OUT gets exit code 5 and one line; `status.json` is enough for `status`."""
    ask(photos, server)
    assert app.exit_code([command, "out"]) == 0  # whatever it imports is imported before
    if not has_status:
        Path("out/status.json").unlink(missing_ok=True)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.name.startswith(("pytest-", "test_")):
            folder.chmod(0o755)
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    code, said = unprivileged(lambda: app.exit_code([command, "out"]))
    if command == "status" and has_status:
        assert (code, said) == (0, "")
    else:
        assert (code, len(said.strip().splitlines())) == (5, 1), said
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


def test_answers_that_the_ledger_cannot_take_are_put_by(make_image: MakeImage, server: Stub) -> None:
    """The disk stops taking more of the ledger in the middle of a run: what is answered goes to a file beside it, the
    next run takes that in, and no image is paid twice.
    """
    for number in range(30):
        make_image(f"photos/{number}.jpg", 20 + number, 20, seed=number)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def decide(width: int) -> Any:
        if sum(server.asked.values()) == 12:
            size = max(path.stat().st_size for path in Path("out").glob("ledger.sqlite*"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        return plain(200, width)

    server.decide = decide
    try:
        with pytest.raises(ResourceError, match=r"\.unsaved-"):
            ask(Path("photos"), server, concurrency=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    paid = sum(server.asked.values())
    assert 12 <= paid < 30
    assert len(list(Path("out").glob(".unsaved-*.jsonl"))) == 1
    ask(Path("photos"), server)
    assert set(server.asked.values()) == {1}
    assert sorted(pd.read_parquet("out/data").id) == sorted(path.name for path in Path("photos").iterdir())
    assert pipeline.status("out").requests == 30
    assert list(Path("out").glob(".unsaved-*")) == []


def test_errors_of_the_disk_have_names() -> None:
    """Proves that a link is refused by the system itself, in words that a user can read."""
    Path("link").symlink_to("nowhere")
    with pytest.raises(OSError, match="link") as raised:
        files.read(Path("link"))
    assert raised.value.errno == errno.ELOOP
