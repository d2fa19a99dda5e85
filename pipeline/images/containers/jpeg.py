"""JPEG, read from segment to segment.

Sources: ITU-T T.81, annex B (markers, frames, scans); ITU-T T.871 (JFIF, APP0); CIPA DC-008 (Exif, APP1);
ICC.1, annex B.4 (profiles, APP2); Adobe Technical Note 5116 (APP14); CIPA DC-007 (MPO: further images follow EOI).
"""

import re
import struct
from collections.abc import Iterator

from pipeline.images.containers import exif
from pipeline.images.containers.jpeg_tables import Tables
from pipeline.images.containers.values import MAX_PROFILE_BYTES, BrokenFileError, Facts, Format, bounded, ends_inside

_SOI, _EOI, _SOS, _DQT, _DHT, _DAC, _COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xCC, 0xFE
_APP0, _APP1, _APP2, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEE, 0xEF
_JPEG_LS = 0xF7
FRAMES = frozenset({*range(0xC0, 0xD0), _JPEG_LS}) - {_DHT, 0xC8, _DAC}
"""Markers of frame headers (T.81, table B.1; T.87), which give bits of a sample, height and width."""
_DEEP = range(9, 17)
"""Bits of a sample that a sound file may have besides 8."""
_HUFFMAN_DCT = frozenset({0xC0, 0xC1, 0xC2})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ARITHMETIC = frozenset(range(0xC9, 0xD0)) - {_DAC}
_KNOWN = FRAMES | {_DHT, _DAC, _SOS, _DQT, 0xDC, 0xDD, _COM} | frozenset(range(_APP0, _APP15 + 1))
_PICTURE_APPS = {_APP0: b"JFIF\0", _APP2: b"ICC_PROFILE\0", _APP14: b"Adobe"}
_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""In a scan 0xFF is followed by a stuffed zero or a restart marker; anything else ends it (T.81, B.1.1.5)."""

SCAN_MARKER = b"\xff\xda"
_SCAN_BEGIN = re.compile(rb"\xff+\xda")
"""Any marker may have fill bytes before it (T.81, B.1.1.2)."""

_MAX_PROFILE_PARTS = MAX_PROFILE_BYTES >> 16
_MAX_APP_BYTES = 64
"""Of a segment about colours, which has twelve."""
_MAX_FACTOR = 4
_COEFFICIENT_BYTES = 2


def walk(data: bytes, facts: Facts, *, checked: bool) -> Iterator[tuple[int, int, bool]]:
    """See `values.Walk`. The facts are settled at the first scan; `checked` looks into the coding tables."""
    yield 0, 2, True
    seen: set[int] = set()
    tables = Tables() if checked else None
    oriented = False
    at = 2
    while True:
        marker, body, end = _segment(data, at)
        if marker == _EOI:
            if _SOS not in seen:
                raise BrokenFileError("it has no scan")
            yield at, end, True
            return
        if marker in FRAMES:
            if seen & FRAMES:
                raise BrokenFileError("it has two frame headers")
            _read_frame(data[body:end], marker, facts)
        elif marker == _SOS:
            _read_scan(data[body:end], facts)
        elif marker in (_APP0, _APP1):
            oriented = _read_application(data[body:end], facts, oriented=oriented)
        if tables is not None and facts.common:
            _check(tables, marker, data[body:end])
        seen.add(marker)
        yield at, end, _needed(data, marker, body, end)
        at = end
        if marker == _SOS:
            at = _scan_end(data, end)
            yield end, at, True


def coding_not_read(marker: int, bits: int) -> str:
    """How a picture with this frame header is coded, where it may be whole and no decoder here knows it."""
    if marker == _JPEG_LS:
        return "JPEG-LS"
    return f"{bits} bits a sample" if bits in _DEEP else ""


def scan_count(data: bytes) -> int:
    """Scans up to the end mark; where the structure breaks, everything behind that may be one counts."""
    count = at = 0
    try:
        for start, end, _ in bounded(walk(data, Facts(format=Format.JPEG), checked=False)):
            count += end > start and _SCAN_BEGIN.match(data, start) is not None
            at = end
    except BrokenFileError:
        return count + data.count(SCAN_MARKER, at)
    return count


def _check(tables: Tables, marker: int, body: bytes) -> None:
    if marker in FRAMES:
        tables.read_frame(body, progressive=marker in _PROGRESSIVE)
    elif marker == _DHT:
        tables.read_huffman(body)
    elif marker == _DQT:
        tables.read_quantisation(body)
    elif marker == _SOS:
        tables.check_scan(body)


def _segment(data: bytes, at: int) -> tuple[int, int, int]:
    """(marker, start of its parameters, end) of the segment at `at`."""
    mark = at
    while data[mark : mark + 1] == b"\xff":
        mark += 1
    if mark >= len(data):
        raise ends_inside("a marker")
    if mark == at:
        raise BrokenFileError("there is no marker where a segment should begin")
    marker = data[mark]
    if marker == _EOI:
        return marker, mark + 1, mark + 1
    if marker not in _KNOWN:
        raise BrokenFileError(f"marker 0x{marker:02X} is out of place")
    length = int.from_bytes(data[mark + 1 : mark + 3], "big")
    end = mark + 1 + length
    if mark + 3 > len(data) or end > len(data):
        raise ends_inside("a segment")
    if length < 2:  # noqa: PLR2004 - the length counts its own two bytes
        raise BrokenFileError(f"segment 0x{marker:02X} has no length")
    return marker, mark + 3, end


def _read_frame(frame: bytes, marker: int, facts: Facts) -> None:
    try:
        bits, height, width, components = struct.unpack_from(">BHHB", frame)
        factors = [divmod(pair, 16) for _, pair, _ in struct.iter_unpack("BBB", frame[6 : 6 + 3 * components])]
    except (struct.error, IndexError):
        raise BrokenFileError("its frame header is too short") from None
    if len(factors) < components:
        raise BrokenFileError("its frame header is too short")
    if not width or not height or not factors:
        raise BrokenFileError("its frame header gives no size")
    if not all(1 <= factor <= _MAX_FACTOR for pair in factors for factor in pair):
        raise BrokenFileError("its frame header gives impossible sampling factors")
    facts.width, facts.height, facts.bits, facts.components = width, height, bits, components
    facts.arithmetic, facts.not_read = marker in _ARITHMETIC, coding_not_read(marker, bits)
    facts.common = marker in _HUFFMAN_DCT and bits == 8 and components in (1, 3)  # noqa: PLR2004 - 8-bit grey or colour
    if marker in _PROGRESSIVE:
        facts.buffered_bytes = _coefficient_bytes(width, height, factors)


def _read_application(part: bytes, facts: Facts, *, oriented: bool) -> bool:
    """Whether an orientation has been read, here or before."""
    if part.startswith(b"JFIF\0") and any(part[12:14]):
        facts.thumbnail = True
    if oriented or not part.startswith(b"Exif\0\0"):
        return oriented
    facts.orientation = exif.orientation(part)
    return True


def _coefficient_bytes(width: int, height: int, factors: list[tuple[int, int]]) -> int:
    widest, highest = max(h for h, _ in factors), max(v for _, v in factors)
    samples = sum(h * v for h, v in factors) * width * height / (widest * highest)
    return int(samples * _COEFFICIENT_BYTES)


def _read_scan(scan: bytes, facts: Facts) -> None:
    if not facts.width or not scan:
        raise BrokenFileError("a scan comes without its header")
    if not facts.settled and not facts.buffered_bytes and scan[0] < facts.components:
        # The components come one after the other: a decoder holds the coefficients as for progressive files.
        facts.buffered_bytes = facts.width * facts.height * facts.components * _COEFFICIENT_BYTES
    facts.settled = True


def _scan_end(data: bytes, at: int) -> int:
    found = _SCAN_END.search(data, at)
    if found is None:
        raise ends_inside("a scan")
    return found.start()


def _needed(data: bytes, marker: int, body: int, end: int) -> bool:
    if marker == _COM:
        return False
    if not _APP0 <= marker <= _APP15:
        return True
    mark = _PICTURE_APPS.get(marker)
    if mark is None or not data.startswith(mark, body):
        return False
    if marker == _APP2:  # number and count of its parts
        return all(0 < one <= _MAX_PROFILE_PARTS for one in data[body + len(mark) : min(body + len(mark) + 2, end)])
    return end - body <= _MAX_APP_BYTES or marker == _APP0
