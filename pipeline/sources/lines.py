"""The physical lines of a text manifest, one at a time."""

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

from pipeline.errors import InputError

LINE_LIMIT = 32 * 1024 * 1024
"""Bytes of a line or a cell. Room for a `data:` URL of 20 MB; a file without line ends stays out of memory."""

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def opened(path: str, name: str) -> Iterator[BinaryIO]:
    """The bytes of a manifest, unpacked where its name ends in `.gz`; failures while reading become InputError."""
    try:
        with open(path, "rb", buffering=1 << 18) as file:  # noqa: PTH123 - a Path is slower and no clearer here
            if path.lower().endswith(".gz"):
                with gzip.open(file) as unpacked:
                    yield cast("BinaryIO", io.BufferedReader(unpacked, 1 << 18))
            else:
                yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{name}: not a gzip file, or cut short: {error}") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from None


def raw_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Lines with their ends, the byte order mark taken off the first."""
    first = True
    for number, line in enumerate(iter(partial(file.readline, LINE_LIMIT + 1), b""), 1):
        if len(line) > LINE_LIMIT:
            raise InputError(f"{name}:{number}: the line is longer than {LINE_LIMIT >> 20} MiB")
        if first:
            first = False
            if line.startswith(_UTF16):
                raise InputError(f"{name}: the file is UTF-16; save it as UTF-8")
            yield line.removeprefix(_BOM)
        else:
            yield line


@contextmanager
def standard_input(_path: str, _name: str) -> Iterator[BinaryIO]:
    """Standard input, which is not ours to close; a buffer of our own, since a read of it may never end."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, io.UnsupportedOperation):  # another program has replaced the stream
        yield cast("BinaryIO", sys.stdin.buffer)
        return
    with open(descriptor, "rb", closefd=False) as file:
        yield file


def folder_prefix(path: str) -> str:
    """What stands before a relative path of the manifest at `path`: its folder and a `/`, or nothing."""
    folder = os.path.dirname(path)  # noqa: PTH120 - keeps the path as it was written
    return folder if folder.endswith("/") or not folder else folder + "/"


def text_lines(lines: Iterator[bytes], flaws: list[str]) -> Iterator[str]:
    """Decoded lines. A flaw is noted and the line handed on, because a reader cannot go on after an exception."""
    for line in lines:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            flaws.append(f"not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start + 1})")
            text = line.decode(errors="replace")
        if "\0" in text:
            flaws.append("the line holds NUL bytes")
        yield text


def up_to_text(lines: Iterator[str]) -> list[str]:
    """The lines up to the first that is not blank, with it; none where all are blank."""
    leading: list[str] = []
    for line in lines:
        leading.append(line)
        if line.strip():
            return leading
    return []


def separators(header: str, delimiters: str) -> tuple[str, bool]:
    """What separates the cells of a header line, and whether a blank follows it.

    A header written "image, caption" announces rows written "a.jpg, a cat".
    """
    delimiter = max(delimiters, key=header.count)
    return delimiter, 0 < header.count(delimiter) == header.count(delimiter + " ")
