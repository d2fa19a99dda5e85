"""`source.confine`: files outside the manifest's folder are not opened, however they are named."""

import json
import os
from pathlib import Path

import pytest

import pipeline
from pipeline.files import OutsideError, open_below
from tests.builders import ask
from tests.pdfs import pdf
from tests.support import Command, MakeImage

CONFINED = {"source.confine": True}


def test_paths_that_lead_outside(make_image: MakeImage, endpoint: str, command: Command, tmp_path: Path) -> None:
    """Absolute, by `..`, by a link to a file or to a folder, by `file:`: a failed row with the kind, nothing is sent.
    Without the setting all are read; links within the folder always are.
    """
    for name in ("in/a.jpg", "in/deep/b.jpg", "out of it/secret.jpg", "in-between/c.jpg"):
        make_image(name, 48, 32)
    (tmp_path / "in/link.jpg").symlink_to(tmp_path / "out of it/secret.jpg")
    (tmp_path / "in/folder").symlink_to(tmp_path / "out of it")
    (tmp_path / "in/inner.jpg").symlink_to("deep/../a.jpg")
    (tmp_path / "in/loop.jpg").symlink_to("loop.jpg")
    inside = ["a.jpg", "deep/b.jpg", "inner.jpg", "deep/../a.jpg", str(tmp_path / "in/a.jpg")]
    outside = [
        *("../out of it/secret.jpg", "link.jpg", "folder/secret.jpg", "../in-between/c.jpg"),
        *(f"{tmp_path}/out of it/secret.jpg", f"file://{tmp_path}/out%20of%20it/secret.jpg"),
    ]
    Path("in/list.csv").write_text("image\n" + "\n".join([*inside, *outside]) + "\n")
    Path("in/list.jsonl").write_text("".join(json.dumps({"image": [name]}) + "\n" for name in [*inside, *outside]))
    for out, name in (("csv", "in/list.csv"), ("jsonl", "in/list.jsonl")):
        assert ask(name, endpoint, out=out, overrides=CONFINED).by_error == {"image_forbidden": len(outside)}
        rows = pipeline.read(out).set_index("id")
        assert set(rows.index[rows.status == "ok"]) == set(inside)
        assert rows.loc["link.jpg"].error_message == (
            "it is ../out of it/secret.jpg from the folder of the source, and source.confine is on"
        )
        assert ask(name, endpoint, out=f"open {out}").exit_code == 0
    for name in ("out of it/secret", "in/a"):
        (tmp_path / f"{name}.txt").write_text("tags of " + name)
    (tmp_path / "in/link.txt").symlink_to(tmp_path / "out of it/secret.txt")
    ask("in/list.csv", endpoint, out="beside", prompt="{{ sidecar | default('none') }}", overrides=CONFINED)
    texts = " ".join(pipeline.read("beside").sidecar.dropna())
    assert ("tags of in/a" in texts, "secret" in texts) == (True, False)
    by_error = ask("in", endpoint, out="folder", overrides={**CONFINED, "source.metadata": False}).by_error
    assert by_error == {"image_forbidden": 2, "image_unreadable": 1}
    Path("in/odd.txt").write_text("loop.jpg\ngone.jpg\ndeep\n\n")
    by_error = ask("in/odd.txt", endpoint, out="odd", overrides=CONFINED).by_error
    assert by_error == {"image_unreadable": 2, "image_missing": 1}
    code, said, _ = command("estimate", "in/list.csv", "--model", "gpt-4o", "--set", "source.confine=true")
    assert (code, "image_forbidden" in said) == (0, True)


@pytest.mark.parametrize("pages", ["whole", "pages"])
def test_documents_that_lead_outside(pages: str, endpoint: str, tmp_path: Path) -> None:
    """A PDF is opened as images are, for its pages too."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scan.pdf").write_bytes(pdf(1))
    (tmp_path / "in/link.pdf").symlink_to("../out/scan.pdf")
    Path("in/list.txt").write_text("scan.pdf\nlink.pdf\n")
    summary = ask("in/list.txt", endpoint, out="answers", overrides={**CONFINED, "source.pdf": pages})
    assert (summary.by_status["ok"], sum(summary.by_error.values())) == (1, 1)
    assert "source.confine is on" in " ".join(pipeline.read("answers").error_message.dropna())


def test_a_link_that_is_put_there_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found to be inside is opened without following any link: a folder that is swapped opens nothing."""
    for name in ("in/folder", "out"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.jpg").write_bytes(b"secret")
    below, real = str((tmp_path / "in").resolve()), os.path.realpath

    def swapped(path: str) -> str:
        found = real(path)
        (tmp_path / "in/folder").rename(tmp_path / "in/before")
        (tmp_path / "in/folder").symlink_to("../out")
        return found

    monkeypatch.setattr(os.path, "realpath", swapped)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_below(f"{below}/folder/a.jpg", below)
    monkeypatch.setattr(os.path, "realpath", real)
    with pytest.raises(OutsideError):
        open_below(f"{below}/folder/a.jpg", below)
