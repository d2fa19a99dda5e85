"""What a JPEG's scans rely on: that each is preceded by whole tables of its own components.

Source: ITU-T T.81, B.2.2 to B.2.4 and annex C; G.1.1.1 for progressive scans. Only Huffman-coded files are checked.
"""

from dataclasses import dataclass, field

from pipeline.images.containers.values import BrokenFileError

_DC, _AC = 0, 1
_CODE_LENGTHS = 16
_SLOTS = 4
_LAST_COEFFICIENT = 63
_MAX_DC_SYMBOL, _MAX_SHIFT = 15, 13


@dataclass(slots=True)
class Tables:
    """The tables defined so far, by class and slot, and the components that the frame names."""

    progressive: bool = False
    quantisation_slots: dict[int, int] = field(default_factory=dict)
    """By component."""
    _huffman: set[tuple[int, int]] = field(default_factory=set)
    _quantisation: set[int] = field(default_factory=set)

    def read_frame(self, frame: bytes, *, progressive: bool) -> None:
        """`frame` are the parameters of a frame header that is long enough for its components."""
        self.progressive = progressive
        self.quantisation_slots = {frame[at]: frame[at + 2] for at in range(6, 6 + 3 * frame[5], 3)}
        if len(self.quantisation_slots) != frame[5]:
            raise BrokenFileError("its frame header names a component twice")

    def read_huffman(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            kind, slot = divmod(body[at], 16)
            counts = body[at + 1 : at + 1 + _CODE_LENGTHS]
            symbols = body[at + 1 + _CODE_LENGTHS :][: sum(counts)]
            if kind > _AC or slot >= _SLOTS or len(symbols) < sum(counts) or not _codes_fit(counts):
                raise BrokenFileError("a Huffman table is wrong")
            if kind == _DC and symbols and max(symbols) > _MAX_DC_SYMBOL:
                raise BrokenFileError("a Huffman table is wrong")
            self._huffman.add((kind, slot))
            at += 1 + _CODE_LENGTHS + len(symbols)

    def read_quantisation(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            precision, slot = divmod(body[at], 16)
            at += 1 + 64 * (precision + 1)
            if precision > 1 or slot >= _SLOTS or at > len(body):
                raise BrokenFileError("a quantisation table is wrong")
            self._quantisation.add(slot)

    def check_scan(self, scan: bytes) -> None:
        """`scan` are the parameters of a scan header."""
        count = scan[0]
        if not 1 <= count <= _SLOTS or len(scan) != 4 + 2 * count:
            raise BrokenFileError("a scan header has the wrong length")
        first, last, approximation = scan[-3:]
        if not self._band_is_right(first, last, approximation, count):
            raise BrokenFileError("a scan header names impossible coefficients")
        for component, slots in zip(scan[1:-3:2], scan[2:-3:2], strict=True):
            if self.quantisation_slots.get(component) not in self._quantisation:
                raise BrokenFileError("a scan names a component that is not defined")
            if not self._needed(first, last, approximation, slots) <= self._huffman:
                raise BrokenFileError("a scan lacks its Huffman table")

    def _band_is_right(self, first: int, last: int, approximation: int, count: int) -> bool:
        if not self.progressive:
            return True  # Decoders take no notice of it.
        high, low = divmod(approximation, 16)
        if low > _MAX_SHIFT or (high and low != high - 1):
            return False
        return last == 0 if first == 0 else first <= last <= _LAST_COEFFICIENT and count == 1

    def _needed(self, first: int, last: int, approximation: int, slots: int) -> set[tuple[int, int]]:
        dc, ac = (_DC, slots >> 4), (_AC, slots & 15)
        if not self.progressive:
            return {dc, ac}
        if first == 0:
            return set() if approximation >> 4 else {dc}
        return {ac} if last else set()


def _codes_fit(counts: bytes) -> bool:
    code = 0
    for length, count in enumerate(counts, 1):
        code = 2 * code + count
        if count and code >= 1 << length:  # A code of ones alone is reserved.
            return False
    return len(counts) == _CODE_LENGTHS
