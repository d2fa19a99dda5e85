"""The text file beside an image: the column `sidecar`, and images that have a caption already."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.sources import open_sources, passed_over


def texts(*specs: Path | str, **settings: Any) -> dict[str, str | None]:
    """The column `sidecar` of each record; None where it lacks the column."""
    source = open_sources(list(specs), SourceConfig(**settings), reads_sidecars=True)
    found = {record.id: json.loads(record.extra or "{}").get("sidecar") for record in source.records()}
    assert source.check() == len(found)
    return found


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"cat, dog\n", "cat, dog"),
        (b"\xef\xbb\xbfcat\r\n", "cat"),
        ("Café".encode("utf-16"), "Café"),
        (b"caf\xe9", "café"),
        (b"\n", ""),
        (b"", ""),
        (b"{{ 7 * 7 }}", "{{ 7 * 7 }}"),
        (None, None),
    ],
)
def test_the_text_beside_an_image(tmp_path: Path, data: bytes | None, text: str | None) -> None:
    """Proves how the text is decoded, and that a record without the file lacks the column."""
    (tmp_path / "a.b.jpg").write_bytes(b"image")
    if data is not None:
        (tmp_path / "a.b.txt").write_bytes(data)
    assert texts(tmp_path) == {"a.b.jpg": text}


def test_sidecars_of_manifests_and_other_suffixes(tmp_path: Path) -> None:
    """Proves that rows have their sidecar beside other columns, that their own column counts, and the suffix."""
    (tmp_path / "a.jpg").write_bytes(b"image")
    (tmp_path / "a.caption").write_text("tags")
    rows = [{"image": "a.jpg"}, {"id": "own", "image": "a.jpg", "sidecar": "mine"}, {"image": "https://host/a.jpg"}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = {"a.jpg": "tags", "own": "mine", "https://host/a.jpg": None}
    assert texts(tmp_path / "m.jsonl", sidecar_extension="caption") == expected


def test_texts_that_cannot_be_used(tmp_path: Path) -> None:
    """Proves that a text which is too long, is no text or cannot be read is named, and that a pipe holds nothing up."""
    (tmp_path / "a.jpg").write_bytes(b"image")
    beside = tmp_path / "a.txt"
    beside.write_bytes(b"x" * 1025)
    with pytest.raises(InputError, match=r"a\.txt: .* more than 1 KiB \(`source.max_record_kb`\)"):
        texts(tmp_path, max_record_kb=1)
    beside.write_bytes(b"x" * 1024)
    assert texts(tmp_path, max_record_kb=1) == {"a.jpg": "x" * 1024}
    beside.write_bytes(b"\0\1")
    with pytest.raises(InputError, match=r"a\.txt: .* no text"):
        texts(tmp_path)
    beside.unlink()
    beside.mkdir()
    with pytest.raises(InputError, match=r"a\.txt: .* cannot be read: Is a directory"):
        texts(tmp_path)
    beside.rmdir()
    os.mkfifo(beside)
    assert texts(tmp_path) == {"a.jpg": ""}


def test_captioned_images_are_passed_over(tmp_path: Path) -> None:
    """Proves that a caption is a file that is not blank, over folders and manifests, and that they are counted."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jpg").write_bytes(b"image")
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbf \r\n")
    (tmp_path / "more.csv").write_text("id,image\nx,a.jpg\ny,c.jpg\n")
    source = open_sources([tmp_path, tmp_path / "more.csv"], SourceConfig(skip_captioned=True))
    assert source.check() == 3
    assert dict(passed_over(source)) == {".txt": 2, ".csv": 1, "captioned before": 2}
    assert [record.id for record in source.records()] == ["b.jpg", "c.jpg", "y"]
    assert all(record.extra is None for record in source.records())
