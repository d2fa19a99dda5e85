"""Folders, globs and single images, on a real file system."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sections import SourceConfig
from pipeline.errors import InputError
from pipeline.locations import ImageUrl, LocalFile
from pipeline.records import ImageRecord
from pipeline.sources import open_source, open_sources


def path_of(record: ImageRecord) -> str:
    (image,) = record.images
    assert isinstance(image, LocalFile)
    return image.path


def plant(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"image")
    return root


def ids(spec: str | Path, out: Path | None = None) -> list[str]:
    source = open_source(spec, SourceConfig(), out=out)
    found = [record.id for record in source.records()]
    assert source.check() == len(found)
    return found


def test_a_folder_is_walked_in_byte_order(tmp_path: Path) -> None:
    """Proves that ids come sorted by their bytes, over all depths, so that a resume can count on the order."""
    plant(tmp_path, "b.jpg", "a/z.png", "a.jpg", "a-b/c.webp", "B.JPG", "a/b/c.gif", "ä.jpg", "a/notes.txt")
    found = ids(tmp_path)
    assert found == ["B.JPG", "a-b/c.webp", "a.jpg", "a/b/c.gif", "a/z.png", "b.jpg", "ä.jpg"]
    assert found == sorted(found, key=str.encode)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.text("ab.-_é 0", min_size=1, max_size=6).map(lambda name: f"x{name}"), min_size=1, max_size=12))
def test_any_tree_is_walked_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    """Proves for any names that every image is found exactly once, in byte order of the path."""
    root = tmp_path_factory.mktemp("tree")
    wanted = {f"{name}.jpg" for name in names} | {f"{name}/{name}.png" for name in names}
    plant(root, *wanted)
    assert ids(root) == sorted(wanted, key=str.encode)


def test_a_record_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that `id` is relative to the source, and the image's name and path are as the source was written."""
    plant(tmp_path, "photos/cats/1.jpg")
    monkeypatch.chdir(tmp_path)
    expected = ImageRecord("cats/1.jpg", (LocalFile("photos/cats/1.jpg", "photos/cats/1.jpg"),))
    assert list(open_source("photos", SourceConfig()).records()) == [expected]
    assert list(open_source("photos/", SourceConfig()).records()) == [expected]
    assert next(open_source(".", SourceConfig()).records()).images == (
        LocalFile("./photos/cats/1.jpg", "./photos/cats/1.jpg"),
    )


def test_only_images_count_and_hidden_names_do_not(tmp_path: Path) -> None:
    """Proves which suffixes are images, in any case, and that hidden files and folders are left out."""
    plant(tmp_path, "a.JPeG", "b.heic", "c.jp2", "d.txt", "e.jpg.part", "jpg", ".f.jpg", ".thumbs/g.jpg")
    assert ids(tmp_path) == ["a.JPeG", "b.heic", "c.jp2"]


def test_the_output_directory_is_not_read(tmp_path: Path) -> None:
    """Proves that OUT inside the source is left out, also where it is made while the walk goes on."""
    plant(tmp_path, "a/1.jpg", "zout/thumbs/t.jpg")
    assert ids(tmp_path, out=tmp_path / "zout") == ["a/1.jpg"]
    records = open_source(tmp_path, SourceConfig(), out=tmp_path / "b").records()
    plant(tmp_path, "b/2.jpg")
    assert [record.id for record in records] == ["a/1.jpg", "zout/thumbs/t.jpg"]
    with pytest.raises(InputError, match="output directory is this very folder"):
        open_source(tmp_path, SourceConfig(), out=tmp_path).check()


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    """Proves that any file name the system allows can be opened again, and has a printable id."""
    for name in (b"caf\xe9.jpg", b"line\nbreak.jpg", b"two  spaces .jpg", b"d\xff/x.png"):
        path = os.fsencode(tmp_path) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)  # noqa: PTH103, PTH120 - bytes
        Path(os.fsdecode(path)).write_bytes(name)
    records = list(open_source(tmp_path, SourceConfig()).records())
    assert [record.id for record in records] == [
        r"caf\xe9.jpg",
        r"d\xff/x.png",
        "line\nbreak.jpg",
        "two  spaces .jpg",
    ]
    assert all(record.image.encode() for record in records)
    contents = [Path(path_of(record)).read_bytes() for record in records]
    assert contents == [b"caf\xe9.jpg", b"d\xff/x.png", b"line\nbreak.jpg", b"two  spaces .jpg"]


def test_one_name_in_two_normal_forms_is_a_duplicate(tmp_path: Path) -> None:
    """Proves that ids are NFC, and that two files which share one are found before anything is sent."""
    plant(tmp_path, "u\u0308.jpg")
    assert ids(tmp_path) == ["\u00fc.jpg"]
    plant(tmp_path, "\u00fc.jpg")
    with pytest.raises(InputError, match=r"u\\u0308\.jpg' and .*/\\xfc\.jpg' are one name in two forms"):
        open_source(tmp_path, SourceConfig()).check()


def test_links_are_followed_and_loops_survived(tmp_path: Path) -> None:
    """Proves that linked files and folders count once for each name, and that no loop is endless."""
    plant(tmp_path, "src/a/1.jpg", "elsewhere/2.jpg")
    root = tmp_path / "src"
    (root / "link.jpg").symlink_to(tmp_path / "elsewhere/2.jpg")
    (root / "more").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "up").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "gone.jpg").symlink_to(root / "nowhere.jpg")
    assert ids(root) == ["a/1.jpg", "gone.jpg", "link.jpg", "more/2.jpg"]


def test_a_folder_without_images_says_what_it_saw(tmp_path: Path) -> None:
    """Proves that the error counts the files and lists the suffixes."""
    plant(tmp_path, "a.txt", "b/c.avi")
    with pytest.raises(InputError, match=r"no images here; 2 other files were seen.*\.heic"):
        open_source(tmp_path, SourceConfig()).check()


def test_a_folder_that_vanishes_is_an_input_error(tmp_path: Path) -> None:
    """Proves that a folder which cannot be read stops with its name, and not with a traceback."""
    plant(tmp_path, "a/1.jpg", "b/2.jpg")
    records = open_source(tmp_path, SourceConfig()).records()
    assert next(records).id == "a/1.jpg"
    shutil.rmtree(tmp_path / "b")
    with pytest.raises(InputError, match=r"b/: the folder cannot be read: No such file"):
        next(records)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_folder_is_found_by_check(tmp_path: Path) -> None:
    """Proves that missing permissions show before anything is sent."""
    plant(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "b").chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            open_source(tmp_path, SourceConfig()).check()
    finally:
        (tmp_path / "b").chmod(0o700)


TREE = ("p/2023/a.jpg", "p/2024/b.jpg", "p/2024/x/c.png", "p/d.jpg", "p/.h/e.jpg", "p/x/x/f.jpg")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("p/*.jpg", ["d.jpg"]),
        ("p/**/*.jpg", ["2023/a.jpg", "2024/b.jpg", "d.jpg", "x/x/f.jpg"]),
        ("p/**", ["2023/a.jpg", "2024/b.jpg", "2024/x/c.png", "d.jpg", "x/x/f.jpg"]),
        ("p/202[34]/*", ["2023/a.jpg", "2024/b.jpg", "2024/x/c.png"]),
        ("p/202?", ["2023/a.jpg", "2024/b.jpg", "2024/x/c.png"]),
        ("p/**/x/*.*", ["2024/x/c.png", "x/x/f.jpg"]),
        ("p/2024/**/c.png", ["x/c.png"]),
        ("p/.h*/*", [".h/e.jpg"]),
        ("*/d.jpg", ["p/d.jpg"]),
    ],
)
def test_globs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: list[str]) -> None:
    """Proves what a glob selects, and that ids are relative to what stands before its first wildcard."""
    plant(tmp_path, *TREE)
    assert ids(f"{tmp_path}/{pattern}") == expected
    monkeypatch.chdir(tmp_path)
    assert ids(pattern) == expected
    assert all(Path(path_of(record)).is_file() for record in open_source(pattern, SourceConfig()).records())


def test_a_glob_without_a_match_is_an_error(tmp_path: Path) -> None:
    """Proves that a glob which selects nothing, or starts nowhere, stops before anything is sent."""
    plant(tmp_path, "p/a.jpg")
    with pytest.raises(InputError, match=r"no image matches"):
        open_source(f"{tmp_path}/p/*.png", SourceConfig()).check()
    with pytest.raises(InputError, match=r"no folder .*; did you mean .*p'"):
        open_source(f"{tmp_path}/pp/*.png", SourceConfig())


def test_a_name_with_brackets_that_exists_is_no_glob(tmp_path: Path) -> None:
    """Proves that existing paths win over their reading as a pattern, whole and in front of a wildcard."""
    plant(tmp_path, "2024 [best]/a[1].jpg")
    assert ids(tmp_path / "2024 [best]") == ["a[1].jpg"]
    assert ids(tmp_path / "2024 [best]/a[1].jpg") == ["a[1].jpg"]
    assert ids(f"{tmp_path}/2024 [best]/*.jpg") == ["a[1].jpg"]


def test_a_single_image(tmp_path: Path) -> None:
    """Proves that one file, or one address, is a source of one record."""
    plant(tmp_path, "a.jpg")
    path = str(tmp_path / "a.jpg")
    assert list(open_source(path, SourceConfig()).records()) == [ImageRecord("a.jpg", (LocalFile(path, path),))]
    url = "https://host.example/a.jpg?X-Amz-Signature=secret"
    [record] = open_source(url, SourceConfig()).records()
    assert (record.id, record.images) == (
        "https://host.example/a.jpg",
        (ImageUrl("https://host.example/a.jpg", url, is_trusted=True),),
    )


def test_one_file_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    """Proves that an image without a suffix can be named, and that other files show the way to their folder."""
    (tmp_path / "bare").write_bytes(b"GIF89a")
    assert ids(tmp_path / "bare") == ["bare"]
    plant(tmp_path, "other", "a.jpg", "a.txt")
    with pytest.raises(InputError, match=r"other: this kind of file cannot be read; .* pattern in quotes"):
        open_source(tmp_path / "other")
    with pytest.raises(InputError, match=r"a\.txt lies beside .*a\.jpg, and both are SOURCEs"):
        open_sources([f"{tmp_path}/a.jpg", f"{tmp_path}/a.txt"])


def test_several_sources_in_order(tmp_path: Path) -> None:
    """Proves that sources are joined in the order given, and that an id in two of them is named with both."""
    plant(tmp_path, "one/b.jpg", "two/a.jpg")
    joined = open_sources([tmp_path / "one", tmp_path / "two"], SourceConfig())
    assert [record.id for record in joined.records()] == ["b.jpg", "a.jpg"]
    assert joined.check() == 2
    assert joined.name == f"{tmp_path}/one, {tmp_path}/two"
    plant(tmp_path, "two/b.jpg")
    with pytest.raises(InputError, match=r"id 'b.jpg' stands in .*one \(.*\) and in .*two .*folder above both"):
        joined.check()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("photoz", r"no such file or folder; did you mean .*photos'"),
        ("ftp://host.example/photos", "this version does not read ftp:// sources"),
        ("hf://datasets/x", "no dataset of the hub; write hf://datasets/OWNER/NAME"),
        ("https://user:secret@host.example/m.zip?sig=secret", r"https://host\.example/m\.zip: this kind of archive"),
        ("shard.zip", r"this kind of archive is not read; unpack it .* \.tar \.tar\.gz \.tgz"),
        ("notes.md", r"this kind of file cannot be read.*\.parquet.*\.heic"),
        ("pipe.jsonl", "not a regular file"),
        ("", "SOURCE is empty"),
    ],
)
def test_what_is_no_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    """Proves that each wrong SOURCE gets an error that says the way out, and shows no secret."""
    monkeypatch.chdir(tmp_path)
    plant(tmp_path, "photos/a.jpg", "shard.zip", "notes.md")
    os.mkfifo("pipe.jsonl")
    with pytest.raises(InputError, match=message) as caught:
        open_source(name, SourceConfig())
    assert "secret" not in str(caught.value)


def test_no_source_at_all() -> None:
    """Proves that an empty list and two standard inputs are refused."""
    with pytest.raises(InputError, match="no SOURCE"):
        open_sources([], SourceConfig())
    with pytest.raises(InputError, match="only once"):
        open_sources(["-", "-"], SourceConfig())
