"""RAW photographs for tests: the directories that cameras write around a preview, with samples that are none."""

import struct
from collections.abc import Mapping, Sequence

CFA = 32803

Entries = Mapping[int, tuple[int, int, int]]
"""By tag: type, count and value."""


def _directory(order: str, entries: Entries, following: int = 0) -> bytes:
    body = b"".join(
        struct.pack(f"{order}HHII", tag, kind, count, _placed(order, kind, count, value))
        for tag, (kind, count, value) in sorted(entries.items())
    )
    return struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", following)


def _placed(order: str, kind: int, count: int, value: int) -> int:
    """A short number stands in the first bytes of its field."""
    return value << 16 if order == ">" and kind == 3 and count == 1 else value


def _file(magic: bytes, directories: Sequence[Entries], preview: bytes, *, order: str = "<", at: int = 8) -> bytes:
    """Directories one after the other, each 512 bytes from the last; the preview follows at 4096."""
    data = bytearray(4096)
    data[: len(magic)] = magic
    for number, entries in enumerate(directories):
        packed = _directory(order, entries)
        start = at + 512 * number
        data[start : start + len(packed)] = packed
    return bytes(data) + preview


def cr2(preview: bytes, orientation: int = 6) -> bytes:
    first = {
        256: (3, 1, 6000),
        257: (3, 1, 4000),
        259: (3, 1, 6),
        273: (4, 1, 4096),
        274: (3, 1, orientation),
        279: (4, 1, len(preview)),
    }
    return _file(b"II*\0\x10\0\0\0CR\x02\0", [first], preview, at=16)


def dng(preview: bytes, orientation: int = 6, *, order: str = "<") -> bytes:
    """As NEF, ARW and DNG have it: a thumbnail first; preview and samples in directories of their own."""
    first = {
        256: (4, 1, 16),
        257: (4, 1, 16),
        274: (3, 1, orientation),
        330: (4, 1, 520),
        50706: (1, 4, 0x00000401),
        34665: (4, 1, 1032),
    }
    inner = {254: (4, 1, 1), 513: (4, 1, 4096), 514: (4, 1, len(preview))}
    sensor = {256: (4, 1, 6000), 257: (4, 1, 4000), 262: (3, 1, CFA), 259: (3, 1, 1)}
    magic = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return _file(magic, [first, inner, sensor], preview, order=order)


def without_preview() -> bytes:
    samples = {256: (4, 1, 60), 257: (4, 1, 40), 262: (3, 1, CFA), 259: (3, 1, 1)}
    return _file(b"II*\0\x08\0\0\0", [samples], b"")


def rw2(preview: bytes) -> bytes:
    return _file(b"IIU\0\x08\0\0\0", [{46: (7, len(preview), 4096), 274: (3, 1, 1)}], preview)


def orf(preview: bytes) -> bytes:
    """The preview is named in Olympus's own notes, whose offsets count from their beginning."""
    first = {274: (3, 1, 1), 34665: (4, 1, 520)}
    data = bytearray(_file(b"IIRO\x08\0\0\0", [first, {37500: (7, 600, 1100)}], preview))
    camera = {0x0101: (4, 1, 4096 - 1100), 0x0102: (4, 1, len(preview))}
    note = b"OLYMPUS\0II\x03\0" + _directory("<", {0x2020: (13, 1, 200)})
    data[1100 : 1100 + len(note)] = note
    packed = _directory("<", camera)
    data[1300 : 1300 + len(packed)] = packed
    return bytes(data)


def raf(preview: bytes) -> bytes:
    head = b"FUJIFILMCCD-RAW 0201".ljust(84, b"\0") + struct.pack(">II", 200, len(preview))
    return head.ljust(200, b"\0") + preview


def cr3(preview: bytes, orientation: int = 8) -> bytes:
    def box(kind: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return struct.pack(">I4s", 8 + len(body), kind) + body

    canon = bytes.fromhex("85c0b687820f11e08111f4ce462b6a48")
    shown = bytes.fromhex("eaf42b5e1c984b88b9fbb7dc406e4d16")
    turn = b"II*\0\x08\0\0\0" + _directory("<", {274: (3, 1, orientation)})
    moov = box(b"moov", box(b"uuid", canon, box(b"CMT1", turn)))
    small = box(b"PRVW", struct.pack(">IHHHHI", 0, 1, 8, 8, 1, len(preview)), preview)
    return box(b"ftyp", b"crx ", bytes(4), b"crx isom") + moov + box(b"uuid", shown, bytes(8), small)
