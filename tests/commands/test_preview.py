"""`run --dry-run` on an output directory: what is missing there is shown, and what the run would refuse is refused."""

from pathlib import Path

import pytest

import pipeline
from pipeline.commands.preview import NOTHING_TO_ASK
from pipeline.errors import InputError
from tests.containers import tar_of
from tests.support import Command, MakeImage

pytestmark = pytest.mark.usefixtures("shared_emulator")


@pytest.fixture
def photos(make_image: MakeImage) -> Path:
    for number in range(4):
        make_image(f"photos/{number}.jpg", 40 + number, 30, seed=number)
    return Path("photos")


def test_what_is_missing_is_shown_and_nothing_changes(photos: Path, endpoint: str, command: Command) -> None:
    """Of four images two are answered: the third is the first request, and two are counted; then none is left."""
    asked = ("run", "photos", "-o", "out", "--base-url", endpoint, "--model", "gpt-4o", "-q")
    assert command(*asked, "--limit", "2") == (0, "", "")
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    code, shown, _ = command(*asked, "--dry-run")
    assert code == 0
    assert shown.startswith(f"2 requests like this one to {endpoint}/chat/completions (nothing is sent now); 2 images")
    assert "photos/2.jpg: 42 x 30" in shown
    assert {path: path.read_bytes() for path in before} == before
    assert command(*asked)[0] == 0
    assert command(*asked, "--dry-run") == (0, f"{NOTHING_TO_ASK}\n", "")
    assert pipeline.dry_run(photos, out="out", base_url=endpoint, model="gpt-4o") == NOTHING_TO_ASK
    assert "4 requests like" in command(*asked, "--dry-run", "--refresh")[1]


def test_without_out_the_working_directory_is_no_out(
    photos: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of it, and the directory itself, are sources of a dry run."""
    Path("s-0.tar").write_bytes(tar_of([(path.name, path.read_bytes()) for path in sorted(photos.iterdir())]))
    asked = ("--model", "gpt-4o", "--emulator", "--dry-run")
    assert "4 requests like" in command("run", "s-*.tar", *asked)[1]
    monkeypatch.chdir(photos)
    assert "4 requests like" in command("run", ".", *asked)[1]


def test_what_the_run_would_refuse_is_refused(photos: Path, endpoint: str) -> None:
    """Another model, a rehearsal on answers of a model, and a folder of something else."""
    pipeline.run(photos, out="out", base_url=endpoint, model="gpt-4o", quiet=True)
    with pytest.raises(InputError, match="belongs to another configuration") as caught:
        pipeline.dry_run(photos, out="out", base_url=endpoint, model="gpt-4.1")
    assert [line.strip().partition(":")[0] for line in caught.value.args[-4:]] == [
        "another OUT, or the same settings as before", "`on_config_change=keep`", "`on_config_change=refresh`",
        "`only=LIST`, `retry_status=STATUS` and the like",
    ]  # fmt: skip
    assert pipeline.dry_run(photos, out="out", base_url=endpoint) == NOTHING_TO_ASK  # the model that was asked before
    again = pipeline.dry_run(photos, out="out", base_url=endpoint, model="gpt-4.1", on_config_change="refresh")
    assert again.startswith("4 requests like")
    with pytest.raises(InputError, match=r"a rehearsal .* needs an OUT of its own"):
        pipeline.dry_run(photos, out="out", emulator=True, model="gpt-4o")
    Path("other").mkdir()
    Path("other/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="was not made by vision-batch"):
        pipeline.dry_run(photos, out="other", emulator=True)
    assert "to the emulator (/chat/completions)" in pipeline.dry_run(photos, emulator=True)


def test_a_rehearsal_says_that_nothing_was_paid(photos: Path, command: Command) -> None:
    """`status` names it beside the cost, and counts no run that asked nothing; its tokens are those predicted."""
    for _ in range(2):
        assert command("run", "photos", "-o", "out", "--emulator", "--model", "gpt-4o", "-q")[0] == 0
    shown = command("status", "out")[1]
    assert " in, as predicted; " in shown
    assert " (rehearsed with the emulator: nothing was paid); 1 run ended\n" in shown


def test_a_new_address_is_shown_before_its_first_request(photos: Path, endpoint: str, command: Command) -> None:
    """For a new OUT, and where an address is new there."""
    shown = []
    for url in (endpoint, endpoint, endpoint.replace("127.0.0.1", "localhost")):
        asked = ("run", "photos", "-o", "out", "--base-url", url, "--model", "gpt-4o", "--refresh")
        code, _, err = command(*asked)
        assert code == 0
        shown.append(f"asks {url.removesuffix('/v1')}, no key" in err)
    assert shown == [True, False, True]
