"""Files of a folder that are known by their first bytes, and those that are passed over, on a real file system."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config.loading import load_config
from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.formatting import passed_words
from pipeline.sources import open_source, open_sources, passed_over
from pipeline.sources.naming import MEDIA_SUFFIXES
from pipeline.sources.passed import PassedOver, is_no_image

JPEG = b"\xff\xd8\xff\xe0rest"


def plant(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def seen(spec: Path | str, config: SourceConfig | None = None, out: Path | None = None) -> tuple[list[str], object]:
    """The ids of a source, and what its check passes over."""
    source = open_source(spec, config, out=out)
    found = [record.id for record in source.records()]
    assert source.check() == len(found)
    return found, dict(passed_over(source))


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("bare", JPEG, None),
        ("bare", b"GIF89a", None),
        ("a.IMG", b"\x89PNG\r\n\x1a\n", None),
        ("frame.0001", b"RIFF0000WEBPVP8 ", None),
        ("a.2024-05-01 (copy)", JPEG, None),
        ("a.jpg.part", JPEG, ".part"),
        ("a.jpg_original", JPEG, ".jpg_original"),
        ("a.jpg~", JPEG, ".jpg~"),
        ("Thumbs.DB", JPEG, ".db"),
        ("a.fits", b"data", ".fits"),
        ("a.FITS", b"", ".fits"),
        ("bare", b"", "without an image's first bytes"),
        ("bare", b"%PDF-1.7", "without an image's first bytes"),
        ("a.b c d", b"text", "without an image's first bytes"),
        ("a.averyveryverylongsuffix", b"text", "without an image's first bytes"),
        (".hidden", b"text", ""),
        (".hidden.jpg", JPEG, ""),
    ],
)
def test_other_files_are_known_by_their_first_bytes(tmp_path: Path, name: str, data: bytes, kind: str | None) -> None:
    """Proves what counts beside the usual suffixes, and under which kind the rest is counted; hidden ones are not."""
    plant(tmp_path, {"z.jpg": b"", name: data})
    ids = sorted(["z.jpg", name]) if kind is None else ["z.jpg"]
    assert seen(tmp_path) == (ids, {kind: 1} if kind else {})


def test_what_cannot_be_opened_holds_nothing_up(tmp_path: Path) -> None:
    """Proves that pipes, devices, sockets, broken links and loops of links end no walk, and are counted."""
    plant(tmp_path, {"a.jpg": b"", "d/b": JPEG})
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.xyz")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "d" / "link").symlink_to(tmp_path / "d" / "b")
    ids, kinds = seen(tmp_path)
    assert ids == ["a.jpg", "d/b", "d/link"]
    assert kinds == {"special (pipe, device)": 1, ".xyz": 1, "unreadable": 3}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_counted(tmp_path: Path) -> None:
    """Proves that a missing permission neither ends the walk nor hides the file."""
    plant(tmp_path, {"a.jpg": b"", "b": JPEG})
    (tmp_path / "b").chmod(0)
    assert seen(tmp_path) == (["a.jpg"], {"unreadable": 1})


def test_what_is_not_selected_is_not_counted(tmp_path: Path) -> None:
    """Proves that OUT, hidden folders and what a glob leaves out are not passed over, but other matches of it are."""
    files = {"p/a.jpg": b"", "p/b.txt": b"", "out/ledger.sqlite": b"", ".git/config": b"", "p/x/c.fits": b""}
    plant(tmp_path, files)
    assert seen(tmp_path, out=tmp_path / "out") == (["p/a.jpg"], {".txt": 1, ".fits": 1})
    assert seen(f"{tmp_path}/p/*.jpg")[1] == {}
    assert seen(f"{tmp_path}/p/*")[1] == {".txt": 1, ".fits": 1}  # a folder that matches counts whole


def test_extensions_replace_the_usual_suffixes(tmp_path: Path) -> None:
    """Proves that with `source.extensions` other files do not count, and are not opened either."""
    plant(tmp_path, {"a.JPG": b"", "b.png": b"", "c.FITS": b"", "d": JPEG, "e.jpeg": b""})
    config = load_config(None, {"source.extensions": ["jpg", "*.Fits", ".jpg"]}, environ={})
    assert config.source.extensions == (".jpg", ".fits")
    assert load_config(None, {"source.extensions": ".jpg, Fits"}, environ={}).source == config.source
    assert seen(tmp_path, config.source) == (["a.JPG", "c.FITS"], {".png": 1, ".jpeg": 1, "without suffix": 1})
    with pytest.raises(InputError, match=r"no images here; 5 other files were seen .*end in \.tga"):
        open_source(tmp_path, SourceConfig(extensions=(".tga",))).check()


@pytest.mark.parametrize("extensions", [(), ("",), ("a/b",), ("*.*",)])
def test_what_is_no_suffix_is_refused(extensions: tuple[str, ...]) -> None:
    """Proves that a list which can match nothing is an error of the configuration."""
    with pytest.raises(ValidationError, match="suffix"):
        SourceConfig(extensions=extensions)


def test_the_words_are_bounded() -> None:
    """Proves that the line names the most frequent suffixes and counts the others, whatever there is."""
    assert passed_words({".fits": 1200, "unreadable": 9, ".cr2": 3}) == "1,200 .fits, 3 .cr2, 9 unreadable"
    many = {f".{letter}": number for number, letter in enumerate("abcdefghi", 1)}
    assert passed_words(many) == "9 .i, 8 .h, 7 .g, 6 .f, 5 .e, 4 .d, 6 with 3 more suffixes"
    passed = PassedOver()
    for number in range(5_000):
        passed.add(f".{number}")
    assert len(passed.by_kind) <= 1_001
    assert passed.by_kind.total() == 5_000
    assert len(passed_words(passed.by_kind)) < 120


def test_no_suffix_is_both(tmp_path: Path) -> None:
    """Proves that no suffix of an image is among those that are never opened."""
    assert not [suffix for suffix in MEDIA_SUFFIXES if is_no_image(suffix)]


def test_an_empty_choice_says_what_it_saw(tmp_path: Path) -> None:
    """Proves that the error of a folder without images names what is there instead."""
    plant(tmp_path, {"a.fits": b"data", "b.fits": b"", "c.json": b"{}"})
    with pytest.raises(InputError, match=r"no images here; 3 other files were seen \(2 \.fits, 1 \.json\)"):
        open_source(tmp_path).check()
    plant(tmp_path, {"data/train.parquet": b"PAR1", "list.csv": b"image"})
    with pytest.raises(InputError, match=r"Files of records \(\.csv \.parquet\) are SOURCEs of their own: name them"):
        open_source(tmp_path).check()


def test_bad_rows_are_said(tmp_path: Path) -> None:
    """Proves that what `source.skip_bad_rows` leaves out is counted once, of one source and of several."""
    plant(tmp_path, {"a.jpg": b"", "m.csv": b"image,t\na.jpg,1\n,2\n", "n.csv": b"image,t\n,1\nb.jpg,2\n,3\n"})
    config = SourceConfig(skip_bad_rows=True)
    one, both = (
        open_sources([str(tmp_path / name) for name in names], config) for names in (["m.csv"], ["m.csv", "n.csv"])
    )
    assert (one.check(), both.check()) == (1, 2)
    assert passed_words(passed_over(one)) == "1 bad (source.skip_bad_rows)"
    assert passed_words(passed_over(both)) == "3 bad (source.skip_bad_rows)"
