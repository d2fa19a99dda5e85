"""The size of a picture in HEVC, by its sequence parameter set. Source: ITU-T H.265, 7.3.2.2, 7.3.3 and 9.2."""

from typing import NamedTuple

from pipeline.images.containers.values import BrokenFileError

_MOST_ZEROS = 32
_GENERAL_BITS = 96
"""Profile, tier, level and constraints of the whole sequence."""
_LAYER_PROFILE_BITS, _LAYER_LEVEL_BITS = 88, 8
_ALL_LAYERS = 8
_CHROMA_444 = 3
_CHROMA_SAMPLES = {0: 0.0, 1: 0.5, 2: 1.0}
"""For each of brightness, by `chroma_format_idc`."""
_CROPS = 4
_MOST_SIDE = 1 << 17


class _Bits:
    """Reads bits from the first on. Raises BrokenFileError behind the last."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise BrokenFileError("a parameter set is cut short", cut=True)
        return self._value >> self._left & ((1 << count) - 1)

    def exponential(self) -> int:
        """An unsigned number in the code of Golomb (9.2)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _MOST_ZEROS:
                raise BrokenFileError("a parameter set holds an impossible number")
        return (1 << zeros) - 1 + self.take(zeros)


class CodedPicture(NamedTuple):
    """What a decoder with a parameter set allocates."""

    width: int
    height: int
    pixel_bytes: float
    """Of its planes: brightness and colours, in one byte or two a sample."""


def coded_picture(unit: bytes) -> CodedPicture:
    """By a sequence parameter set, before any crop."""
    # Three bytes of a marker are kept apart in a unit by one more (7.3.1.1).
    bits = _Bits(unit[2:512].replace(b"\0\0\x03", b"\0\0"))
    bits.take(4)
    layers = bits.take(3)
    bits.take(1 + _GENERAL_BITS)
    present = [(bits.take(1), bits.take(1)) for _ in range(layers)]
    if layers:
        bits.take(2 * (_ALL_LAYERS - layers))
    for has_profile, has_level in present:
        bits.take(_LAYER_PROFILE_BITS * has_profile + _LAYER_LEVEL_BITS * has_level)
    bits.exponential()
    chroma = bits.exponential()
    if chroma == _CHROMA_444:
        bits.take(1)
    width, height = bits.exponential(), bits.exponential()
    if not 0 < width < _MOST_SIDE or not 0 < height < _MOST_SIDE:
        raise BrokenFileError("a parameter set gives no size")
    if bits.take(1):
        for _ in range(_CROPS):
            bits.exponential()
    is_deep = bool(bits.exponential() + bits.exponential())
    return CodedPicture(width, height, (1 + _CHROMA_SAMPLES.get(chroma, 2)) * (1 + is_deep))
