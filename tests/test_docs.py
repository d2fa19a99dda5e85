"""Every command and every piece of code in the README and in docs/ runs as it stands there."""

import io
import re
import runpy
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from pipeline.cli import view
from pipeline.cli.app import COMMANDS
from pipeline.cli.app import command as command_named
from pipeline.config.run_config import RunConfig, settings
from pipeline.errors import ErrorKind
from pipeline.store.schemas import schema
from pipeline.viewer import server
from tests.buckets import environment, object_store
from tests.containers import SMALL, tar_of, written
from tests.pdfs import pdf
from tests.support import Command, MakeImage
from tests.videos import video

ROOT = Path(__file__).parent.parent
GIVEN = ("pages", "document_annotation", "features")
"""Columns that kinds of endpoints add."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def picture() -> bytes:
    """A PNG file."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    "video.md": {"clips/clip.mp4": video()},
    "documents.md": {"scans/scan.pdf": pdf(2)},
    "sources.md": {
        "tagged/a.png": picture(),
        "tagged/a.txt": b"quay, boats",
        "flowers/metadata.csv": b"file_name,kind\nred/a.png,tulip\n",
        "flowers/red/a.png": picture(),
    },
}
"""Further files that the commands of a page name."""
FILES["exports.md"] = {"shards-read/00000.tar": tar_of([("a.jpg", SMALL)])}
FILES["shards.md"] = {
    **{f"shards/0000{n}.tar": tar_of([("a.jpg", SMALL), ("a.txt", b"a quay")]) for n in (0, 1)},
    "images.parquet": written("parquet", SMALL),
    "saved/state.json": b'{"_data_files": [{"filename": "data.arrow"}]}',
    "saved/data.arrow": written("arrow", SMALL),
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """Lines of shell blocks, and `vision-batch ...` within the text."""
    text = page.read_text(encoding="utf-8")
    inline = re.findall(r"`(vision-batch [^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    lines = [line.split("  #")[0].strip() for block in blocks(page, "") for line in block.splitlines()]
    return [line for line in [*lines, *inline] if line.startswith("vision-batch ")]


def assert_listens(arguments: list[str]) -> None:
    """The emulator listens until Ctrl-C; here on a port that is free."""
    words = [sys.executable, "-m", "pipeline", *arguments, "--port", "0"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("listening on http://127.0.0.1:")
            assert process.stdout.readline().startswith("next: vision-batch run FOLDER -o rehearsal --base-url http")
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


def ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The viewer listens until Ctrl-C, which comes as soon as it has printed its address."""

    def printed(*lines: str) -> None:
        if "http://127.0.0.1:" in lines[0]:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(view, "show_lines", printed)
    monkeypatch.setattr(server, "has_browser", lambda: False)


def _at(endpoint: str, arguments: list[str]) -> list[str]:
    """The same command at an emulator with a port of its own."""
    if "--base-url" in arguments:
        at = arguments.index("--base-url") + 1
        return [*arguments[:at], endpoint, *arguments[at + 1 :]]
    is_asked = arguments[0] in {"run", "check"} and not {"--emulator", "--dry-run"} & set(arguments)
    return [*arguments, "--base-url", endpoint] if is_asked else arguments


def write_files(page: str, make_image: MakeImage) -> None:
    """What the commands of a page name."""
    for number in range(3):
        make_image(f"photos/{number}.jpg", seed=number)
    Path("titles.csv").write_text("image,title\nphotos/0.jpg,A quay\n")
    Path("pages.csv").write_text("doc,image\nx,photos/0.jpg\nx,photos/1.jpg\n")
    Path("pictures.csv").write_text("image\nphotos/0.jpg\n")
    Path("again.txt").write_text("0.jpg\n1.jpg\n")
    Path("own_hooks.py").write_text("def clean(row, record):\n    return {'caption': row['caption'].strip()}\n")
    for name, data in FILES.get(page, {}).items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)
    Path("list.csv").write_text("image\ns3://bucket/photos/b.jpg\nphotos/0.jpg\n")


@pytest.fixture
def bucket(make_image: MakeImage) -> Iterator[str]:
    """Images and a list in an object store."""
    photo = make_image("b.jpg").read_bytes()
    shards = {f"data-{at}.tar": tar_of([(f"{at}.jpg", photo)]) for at in range(2)}
    with object_store({"photos/b.jpg": photo, "list.csv": b"image\nphotos/b.jpg\n", **shards}) as url:
        yield url


@pytest.mark.usefixtures("shared_emulator")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_code_run(
    page: Path,
    make_image: MakeImage,
    command: Command,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Commands in the order of the page, on three photographs; then its Python, each piece where it can start anew."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint)
    ends_at_once(monkeypatch)

    def run(*arguments: str) -> None:
        code, _, stderr = command(*arguments)
        assert code == 0, stderr

    write_files(page.name, make_image)
    if page.name in {"remote.md", "buckets.md"}:
        monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
        for name, value in environment(request.getfixturevalue("bucket")).items():
            monkeypatch.setenv(name, value)
    if page.name != "README.md":  # the other pages speak of an OUT that there is
        run("run", "photos", "-o", "out", "--model", "gpt-4o", "--base-url", endpoint)
    for arguments in (shlex.split(line)[1:] for line in commands(page)):
        if arguments[0] == "emulate":
            assert_listens(arguments)
        else:
            run(*_at(endpoint, arguments))
    for code in blocks(page, "python"):
        if 'pipeline.run("photos/", out="out/"' in code and Path("out").exists():
            Path("out").rename("before")
        exec(compile(code, page.name, "exec"), {})  # noqa: S102 - our own documentation


def test_the_readme_begins_with_the_two_commands() -> None:
    """`make run` and `make test` stand in the first block, and are targets."""
    first = blocks(ROOT / "README.md", "")[0]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"make (\w+)", first)
    assert named == ["run", "test"]
    assert set(named) <= set(targets)


def test_the_settings_in_the_documentation() -> None:
    """The example loads, and the page of settings has each key."""
    for example in [
        block for name in ("usage.md", "prompts.md", "costs.md") for block in blocks(ROOT / "docs" / name, "toml")
    ]:
        RunConfig.model_validate(tomllib.loads(example))
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    for one in settings():
        assert f"**`{one.key}`**" in page, f"{one.key} is not in docs/settings.md"


def test_the_suffixes_in_the_documentation() -> None:
    """docs/sources.md lists the suffixes as docs/write_suffixes.py writes them."""
    script = runpy.run_path(str(ROOT / "docs" / "write_suffixes.py"))
    assert (ROOT / "docs" / "sources.md").read_text(encoding="utf-8") == script["page"](), (
        "run: python docs/write_suffixes.py"
    )


def test_the_columns_in_the_documentation() -> None:
    """docs/columns.md is as docs/write_columns.py writes it, and has a row for each column of the schema."""
    text = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "docs" / "write_columns.py"))
    assert text == script["page"](), "run: python docs/write_columns.py"
    expected = schema(choices=2, logprobs=True, has_several=True, labels=pa.string(), given=GIVEN).names
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == expected


def test_errors_are_listed() -> None:
    """docs/errors.md is as docs/write_errors.py writes it; each kind has a cause and a way out, in whole sentences."""
    script = runpy.run_path(str(ROOT / "docs" / "write_errors.py"))
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert text == script["page"](), "run: python docs/write_errors.py"
    for kind in ErrorKind:
        assert text.count(f"| `{kind}` |") == 1
        assert all(words[:1].isupper() and words.endswith(".") for words in (kind.cause, kind.way_out)), kind


@pytest.mark.parametrize("command", COMMANDS)
def test_the_flags_in_the_documentation(command: str) -> None:
    """Every flag that `--help` shows stands in the README or in docs/, by its long or its short name."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for flag in command_named(command).params:
        names = [name for name in flag.opts if name.startswith("-")]
        if names and not getattr(flag, "hidden", False):
            assert any(re.search(rf"(?<![\w-]){name}(?![\w-])", text) for name in names), f"{command} {names}"


def test_links_lead_somewhere() -> None:
    """Every relative link and picture of the pages exists."""
    for page in [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_capability_names_a_test_that_exists() -> None:
    """A row of docs/endpoints.md says that something works, and names the test that shows it."""
    page = (ROOT / "docs" / "endpoints.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\|.*\| works", line)]
    table = page.partition("| capability |")[2].partition("\n\n")[0].splitlines()[2:]
    assert rows == table
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for path, function in named:
            assert f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{function}"
