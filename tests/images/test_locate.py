"""Images opened where they lie: files, `data:` URLs, objects of the calling program."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ErrorKind
from pipeline.files import record_stamp
from pipeline.http.data_urls import decode_data_url
from pipeline.images.locate import opened, read_image
from pipeline.locations import DataUrl, InMemoryImage, LocalFile
from pipeline.records import Failure, ImageRecord

LIMIT = 1000


def failed(result: bytes | Failure) -> Failure:
    assert isinstance(result, Failure)
    assert "secret" not in result.message
    return result


def read_file(path: str, max_bytes: int) -> bytes | Failure:
    return read_image(LocalFile("shown", path), max_bytes)


# --- files ---


@pytest.mark.parametrize("size", [1, LIMIT - 1, LIMIT])
def test_a_file_is_read_whole(tmp_path: Path, size: int) -> None:
    """Proves that up to exactly the limit every byte comes."""
    content = bytes(number % 256 for number in range(size))
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_file(str(tmp_path / "a.jpg"), LIMIT) == content


def test_a_name_that_is_no_utf8_opens(tmp_path: Path) -> None:
    """Proves that surrogate escapes in a location reach the file they stand for."""
    location = str(tmp_path / "caf\udce9\n.jpg")
    Path(location).write_bytes(b"image")
    assert read_file(location, LIMIT) == b"image"


def test_what_is_no_readable_file(tmp_path: Path) -> None:
    """Proves the kind of each failure, and that a pipe without a writer does not block."""
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(bytes(LIMIT + 1))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    os.mkfifo(tmp_path / "pipe")
    expected = {
        "gone.jpg": (ErrorKind.IMAGE_MISSING, "no such file"),
        "empty/a.jpg": (ErrorKind.IMAGE_MISSING, "no such file"),
        "empty": (ErrorKind.IMAGE_EMPTY, "the file is empty"),
        ".": (ErrorKind.IMAGE_UNREADABLE, "not a file but a directory"),
        "pipe": (ErrorKind.IMAGE_UNREADABLE, "not a file but a pipe or a device"),
        "loop": (ErrorKind.IMAGE_UNREADABLE, "cannot be read: Too many levels of symbolic links"),
        "n" * 300: (
            ErrorKind.IMAGE_UNREADABLE,
            "the path is longer than one can be; an image in base64 begins with data:image/jpeg;base64,",
        ),
        "nul\0": (ErrorKind.IMAGE_UNREADABLE, "the path holds characters that no file name has"),
        "\ud800": (ErrorKind.IMAGE_UNREADABLE, "the path holds characters that no file name has"),
        "large": (ErrorKind.IMAGE_TOO_LARGE, "1,001 bytes, where at most 1,000 are read (images.max_file_mb)"),
    }
    results = {name: failed(read_file(f"{tmp_path}/{name}", LIMIT)) for name in expected}
    assert {name: (result.kind, result.message) for name, result in results.items()} == expected
    assert failed(read_file("/dev/zero", LIMIT)).message == "not a file but a pipe or a device"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file(tmp_path: Path) -> None:
    """Proves that missing permissions are reported in the system's words."""
    (tmp_path / "a.jpg").touch(mode=0)
    assert failed(read_file(str(tmp_path / "a.jpg"), LIMIT)).message == "cannot be read: Permission denied"


def test_running_out_of_handles_is_no_images_fault() -> None:
    """Proves that a process without free file handles stops, and does not blame the records."""
    code = (
        "import resource; from pipeline.images.locate import open_file; from pipeline.errors import ResourceError\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "try: open_file('a.jpg')\n"
        "except ResourceError as error: print(error)"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert "cannot open any more files" in done.stdout


# --- data: URLs ---


@given(st.binary(min_size=1, max_size=200))
def test_data_urls_bring_back_their_bytes(content: bytes) -> None:
    """Proves both encodings of RFC 2397, and that missing padding and line breaks do no harm."""
    encoded = base64.b64encode(content).decode()
    assert decode_data_url(f"data:image/png;base64,{encoded}") == content
    assert decode_data_url(f"data:image/png;base64,{encoded.rstrip('=')}") == content
    assert decode_data_url(f"data:;base64,\n{encoded[:8]}\n{encoded[8:]}") == content
    percent = "".join(f"%{byte:02x}" for byte in content)
    assert decode_data_url(f"data:image/svg+xml,{percent}") == content
    assert read_image(DataUrl("shown", f"data:;base64,{encoded}"), LIMIT) == content


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/png;base64", "the data: URL has no comma, so no content"),
        ("data:image/png;base64,", "the data: URL is empty"),
        ("data:image/png;base64,A", "the data: URL is not valid base64"),
        ("data:image/png;base64,AA*A", "the data: URL is not valid base64"),
        ("data:image/png;base64,ÄÄÄÄ", "the data: URL is not valid base64"),
        ("data:,\ud800", "the data: URL is not valid base64"),
    ],
)
def test_broken_data_urls(url: str, message: str) -> None:
    """Proves that each broken `data:` URL is an unreadable image, and one of no bytes an empty one."""
    result = failed(decode_data_url(url))
    kind = ErrorKind.IMAGE_EMPTY if "is empty" in message else ErrorKind.IMAGE_UNREADABLE
    assert (result.kind, result.message) == (kind, message)


def test_a_large_data_url() -> None:
    """Proves that the limit holds for `data:` URLs too."""
    assert failed(read_image(DataUrl("shown", "data:," + "x" * (LIMIT + 1)), LIMIT)).kind is ErrorKind.IMAGE_TOO_LARGE


# --- objects ---


def test_an_object_of_the_caller() -> None:
    """Proves that it is read when it is needed, within the limit, and that what it raises is its record's failure."""
    read: list[int] = []

    def content() -> bytes:
        read.append(1)
        return b"image"

    image = InMemoryImage("7", content, 5)
    with opened(image, LIMIT) as source:
        assert not read
        assert not isinstance(source, Failure)
        assert (source.size_bytes, source.stamp, source.read()) == (5, None, b"image")
    assert failed(read_image(image, 4)).kind is ErrorKind.IMAGE_TOO_LARGE
    broken = InMemoryImage("8", lambda: bytes(1 // 0), 5)
    assert failed(read_image(broken, LIMIT)).message == (
        "the image object cannot be read: ZeroDivisionError: integer division or modulo by zero"
    )


# --- stamps ---


def test_one_stamp_for_reading_and_for_looking_again(tmp_path: Path) -> None:
    """Proves that the stamp of an open file is the one that a later run compares, and that it follows the file."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"image")
    record = ImageRecord("a", (LocalFile("a", str(path)),))
    with opened(record.images[0], LIMIT) as source:
        assert not isinstance(source, Failure)
        assert source.stamp == record_stamp(record) is not None
    path.write_bytes(b"images")
    assert record_stamp(record) != source.stamp
    two = ImageRecord("a", (LocalFile("a", str(path)), LocalFile("b", str(tmp_path / "gone"))))
    assert record_stamp(two) not in {None, record_stamp(record)}
    assert record_stamp(ImageRecord("a", (DataUrl("a", "data:,x"),))) is None
