"""Texts beside images, read back as trainers read them; what is there already is never lost."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.errors import InputError
from pipeline.export.merging import UNCHANGED, Write, merged
from pipeline.export.options import IfExists
from pipeline.export.report import Reason
from pipeline.store.reviews import ReviewWriter
from tests.builders import ask
from tests.originals.test_originals import SAMPLES
from tests.store.test_dataset import answered, open_out
from tests.support import Command


def kohya(folder: Path, extension: str = ".txt") -> dict[str, str]:
    """The captions of a folder by the rules of kohya's sd-scripts: `splitext` of an image, its first line, stripped."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in {".png", ".jpg"}:
            text = Path(os.path.splitext(path)[0] + extension)  # noqa: PTH122 - as kohya does
            with text.open(encoding="utf-8") as file:
                lines = file.readlines()
            assert len(lines) == 1
            assert lines[0].strip()
            found[path.relative_to(folder).as_posix()] = lines[0].strip()
    return found


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulator_url: str) -> Path:
    """Answers on two folders of photographs, asked from another working directory."""
    monkeypatch.chdir(tmp_path)
    for at, name in enumerate(("a.png", "in/b.c.png", "in/ß é.png")):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(SAMPLES[at].read_bytes())
    ask("photos", emulator_url)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "out"


def captions(out: Path) -> dict[str, str]:
    rows = pipeline.read(out, ["id", "caption"])
    return dict(zip(rows["id"], rows["caption"], strict=True))


def test_texts_lie_beside_their_images(out: Path, tmp_path: Path, command: Command) -> None:
    """Proves it from another folder, with a template; a second export changes nothing."""
    expected = captions(out)
    assert command("export", str(out), "--to", "txt")[0] == 0
    assert kohya(tmp_path / "photos") == expected
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*.txt")}
    assert pipeline.export(out, "txt").unchanged == 3
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "photos").rglob("*.txt")}
    code, said, _ = command("export", str(out), "--to", "txt", "--caption-extension", "caption", "--template",
                            "sks  {{ caption | lower }}\n{{ width }}")  # fmt: skip
    assert (code, said) == (0, f"{out}: 3 texts beside the images\n")
    wanted = {name: f"sks {text.lower()}" for name, text in expected.items()}
    assert {name: text.rpartition(" ")[0] for name, text in kohya(tmp_path / "photos", ".caption").items()} == wanted


def test_texts_in_a_folder_keep_the_tree(out: Path, tmp_path: Path) -> None:
    """Proves it with the images: copied, linked, or left where they are."""
    expected = captions(out)
    for images in ("copy", "hardlink", "symlink"):
        dest = tmp_path / images
        assert [pipeline.export(out, "txt", dest, images=images).rows for _ in range(2)] == [3, 3]
        assert kohya(dest) == expected
        assert (dest / "a.png").read_bytes() == SAMPLES[0].read_bytes()
        assert (dest / "a.png").is_symlink() == (images == "symlink")
        assert (dest / "a.png").stat().st_nlink == 1 + (images != "copy") or images == "symlink"
        assert not list(dest.rglob(".*"))
    assert pipeline.export(out, "txt", "texts").rows == 3
    assert sorted(path.name for path in Path("texts").rglob("*.*")) == ["a.txt", "b.c.txt", "ß é.txt"]
    (tmp_path / "photos" / "a.png").write_bytes(b"other")
    report = pipeline.export(out, "txt", tmp_path / "again", images="copy")
    assert (report.rows, dict(report.left_out)) == (2, {"image changed": 1})
    assert not (tmp_path / "again" / "a.txt").exists()


def test_what_people_wrote_is_not_lost(out: Path, tmp_path: Path, command: Command) -> None:
    """Proves that foreign texts end an export before it writes; skip, append and prepend; that none appends twice."""
    mine = tmp_path / "photos" / "a.txt"
    mine.write_text("\ufeffmy tags\nsecond line\n", "utf-8")
    (tmp_path / "photos" / "in" / "b.c.txt").write_bytes(b"\xff")
    code, _, said = command("export", str(out), "--to", "txt")
    assert (code, "2 of the texts are there already" in said, "--if-exists append" in said) == (2, True, True)
    assert sorted(path.name for path in (tmp_path / "photos").rglob("*.txt")) == ["a.txt", "b.c.txt"]
    report = pipeline.export(out, "txt", if_exists="skip")
    assert (report.rows, dict(report.left_out)) == (
        1,
        {"text that was there already": 1, "text there that is not UTF-8": 1},
    )
    text = captions(out)["a.png"]
    for template, expected in (("{{ caption }}", text), ("{{ caption }}", text), ("new {{ caption }}", f"new {text}")):
        report = pipeline.export(out, "txt", if_exists="append", template=template)
        assert mine.read_text("utf-8") == f"my tags second line, {expected}"
    mine.write_text("I have taken it out", "utf-8")
    assert pipeline.export(out, "txt", if_exists="append").left_out["text that was edited since"] == 1
    assert mine.read_text("utf-8") == "I have taken it out"
    (out / "exports" / "texts.sqlite").unlink()
    for _ in range(2):
        pipeline.export(out, "txt", if_exists="prepend", prompt_name="caption")
        (out / "exports" / "texts.sqlite").unlink()  # as a crash before it was written
    assert mine.read_text("utf-8") == f"{text} I have taken it out"
    assert pipeline.export(out, "txt", if_exists="overwrite").rows == 3
    assert kohya(tmp_path / "photos") == captions(out)


@pytest.mark.parametrize(
    ("mode", "there", "text", "added", "expected"),
    [
        ("error", None, "a", None, Write("a")),
        ("error", " \n", "a", None, Write("a")),
        ("error", "b", "a", None, Reason.EXISTS),
        ("error", "b", "a", "b", Write("a")),
        ("skip", "a", "a", None, UNCHANGED),
        ("append", "tags", "a", None, Write("tags, a")),
        ("append", "A tag.", "a", None, Write("A tag. a")),
        ("append", "tags, a", "a", "a", UNCHANGED),
        ("append", "cat, catalogue, cat", "dog", "catalogue", Write("cat, dog, cat")),
        ("append", "catalogue, cat", "dog", "cat", Write("catalogue, dog")),
        ("prepend", "tags", "a", None, Write("a, tags")),
        ("prepend", "a, tags", "b", "a", Write("b, tags")),
    ],
)
def test_merging(mode: IfExists, there: str | None, text: str, added: str | None, expected: object) -> None:
    """Proves what becomes of a text that is there."""
    assert merged(mode, there, text, added) == expected


def _rows(tmp_path: Path, *ids: str, **answers: str | None) -> Path:
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([answered(name, f"caption of {name}") for name in ids])
        dataset.commit([answered(name, text) for name, text in answers.items() if text is not None])
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("ids", "options", "words"),
    [
        (["../x.jpg"], {}, "'../x.jpg' cannot be a name below DEST: it holds `..`"),
        (["a/../../x.jpg"], {}, "it holds"),
        (["/etc/x.jpg"], {}, "it is absolute"),
        (["ok.jpg", "./"], {}, "no name of a file"),
        (["x" * 250], {}, "more than 240 bytes"),
        (["a/x.jpg", "b/x.jpg"], {"relative_to": "a"}, "does not begin with 'a/'"),
        (["a.jpg", "a.png"], {}, "2 rows share 1 names of files"),
        (["a.jpg", "a/b.jpg", "a.txt/c.jpg"], {}, "'a.jpg' would be a file, and is a folder of other rows"),
        (["a.jpg"], {"template": "sks {caption}"}, "names no column"),
        (["a.jpg"], {"template": "{{ titel }}"}, "'titel' is undefined; it has: id"),
        (["a.jpg"], {"template": "{{ caption"}, "not a valid template"),
        (["a.jpg"], {"caption_extension": "a/b"}, "no suffix of a file"),
        (["a.jpg"], {"columns": ["id"]}, "the format txt has no option `columns=`"),
        (["a.jpg"], {"status": "fine"}, "'fine' is no status"),
        (["a.jpg"], {"since": "never"}, "has no run 'never'"),
    ],
)  # fmt: skip
def test_what_is_refused_writes_nothing(ids: list[str], options: dict[str, Any], words: str, tmp_path: Path) -> None:
    """Proves it for names that would leave DEST, names that are one file, and options that are wrong."""
    out = _rows(tmp_path, *ids)
    with pytest.raises(InputError) as error:
        pipeline.export(out, "txt", tmp_path / "dest" / "in", **options)
    assert words in str(error.value)
    assert not list(tmp_path.rglob("*.txt"))


def test_names_that_stay_below_dest(tmp_path: Path) -> None:
    """Proves it for absolute ids, addresses, odd signs, and ids that differ in case; a link leads nowhere else."""
    out = _rows(tmp_path, "/data/./a.jpg", "/data/A.jpg", "/data//b/=c\n.jpg")
    assert pipeline.export(out, "txt", tmp_path / "texts", relative_to="/data/").rows == 3
    assert {path.relative_to(tmp_path / "texts").as_posix() for path in (tmp_path / "texts").rglob("*.txt")} == {
        "a.txt", "A.txt", "b/=c\n.txt",
    }  # fmt: skip
    other = tmp_path / "other"
    other.mkdir()
    (other / "texts").mkdir()
    (other / "texts" / "b").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="is a link that leads out of"):
        pipeline.export(out, "txt", other / "texts", relative_to="/data/", where="id LIKE '%b/%'")
    for dest in ("out/x", "out"):
        with pytest.raises(InputError, match="lies within the output directory"):
            pipeline.export(out, "txt", tmp_path / dest, relative_to="/data/")


def test_a_text_is_one_line_and_never_empty(tmp_path: Path) -> None:
    """Proves it for line breaks of all kinds, blanks, and answers without text."""
    out = _rows(tmp_path, **{"a.jpg": "\ufeffA\r\nquay\u2028by\tnight\x0b ", "b.jpg": " \n ", "c.jpg": ""})
    report = pipeline.export(out, "txt", tmp_path / "texts")
    assert (report.rows, dict(report.left_out), dict(report.examples)) == (
        1,
        {"no text": 2},
        {"no text": ["b.jpg", "c.jpg"]},
    )
    assert (tmp_path / "texts" / "a.txt").read_bytes() == b"A quay by night"
    assert not (tmp_path / "texts" / "b.txt").exists()


def test_what_people_said_of_answers_is_applied(tmp_path: Path) -> None:
    """Proves corrections in place of captions, bad ones left out, and that a review of another answer is none."""
    out = _rows(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    rows: dict[str, Any] = dict(pipeline.read(out, ["id", "answered_at"]).itertuples(index=False))
    writer = ReviewWriter(out)
    writer.append(("a.jpg", "caption"), rows["a.jpg"].to_pydatetime(), caption="mended", mark="bad")
    writer.append(("b.jpg", "caption"), rows["b.jpg"].to_pydatetime(), mark="bad")
    writer.append(("c.jpg", "caption"), rows["c.jpg"].to_pydatetime(), mark="good")
    writer.append(("d.jpg", "caption"), datetime(2020, 1, 1, tzinfo=UTC), mark="bad", caption="of an older answer")
    expected = {
        "apply": {"a.jpg": "mended", "c.jpg": "caption of c.jpg", "d.jpg": "caption of d.jpg"},
        "good": {"a.jpg": "mended", "c.jpg": "caption of c.jpg"},
        "ignore": {f"{name}.jpg": f"caption of {name}.jpg" for name in "abcd"},
    }
    for reviews, texts in expected.items():
        dest = tmp_path / reviews
        report = pipeline.export(out, "txt", dest, reviews=reviews)  # type: ignore[arg-type] # of a loop
        assert {f"{path.stem}.jpg": path.read_text() for path in dest.iterdir()} == texts
        assert dict(report.left_out) == ({} if reviews == "ignore" else {"marked bad": 1})
