"""What a calling program gives as records: items, their sequences, and pictures as files."""

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from operator import index
from typing import Any, Final, SupportsIndex

from PIL import Image

from pipeline.errors import InputError

SourceLike = str | os.PathLike[str] | Iterable[Any]
"""A SOURCE of the command line, or records in memory."""
_PNG_MODES: Final = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})


def source_list(given: SourceLike) -> list[SourceLike]:
    """One SOURCE or several: a list of paths names several, anything else that can be iterated is one.

    An iterator is read to its end here.
    """
    if isinstance(given, str | os.PathLike):
        return [os.fspath(given)]
    if isinstance(given, list) and not given:
        return [given]  # no records; no SOURCE is an empty tuple
    if isinstance(given, list | tuple) and not any(_is_item(one) for one in given):
        return [os.fspath(one) if isinstance(one, str | os.PathLike) else _repeatable(one) for one in given]
    return [_repeatable(given)]


def _repeatable(items: Iterable[Any]) -> Iterable[Any]:
    """The items of an iterator as a list: a source is read several times. Raises InputError where they are none."""
    if hasattr(items, "columns") and hasattr(items, "to_dict"):
        raise InputError(
            'a DataFrame is no list of records: give `frame.to_dict("records")` (pandas) or `frame.to_dicts()` (polars)'
        )
    if not isinstance(items, Mapping):
        with suppress(TypeError):  # a sequence may have no more than `__getitem__`
            return list(items) if iter(items) is items else items
    raise InputError(f"records in memory are a list or another sequence, not one {type(items).__name__}")


def _is_item(value: object) -> bool:
    """Whether a list with this value in it is a list of records."""
    return isinstance(value, Mapping | Image.Image | bytes) or not isinstance(value, str | os.PathLike | Iterable)


def encoded(image: Image.Image) -> bytes:
    """The image as a file without any loss; its EXIF orientation and colour profile are kept."""
    buffer = io.BytesIO()
    if image.mode == "HSV":  # which no file holds
        image = image.convert("RGB")
    if image.mode in _PNG_MODES:
        image.save(buffer, "PNG", compress_level=1, exif=image.getexif(), icc_profile=image.info.get("icc_profile"))
    else:
        image.save(buffer, "TIFF", exif=image.getexif(), icc_profile=image.info.get("icc_profile"))
    return buffer.getvalue()


def indexed(items: Iterable[Any]) -> Any:  # noqa: ANN401 - any sequence
    """The items as a sequence: a `list` and a `datasets.Dataset` as they are, anything else made a list."""
    return _undecoded(items) if _is_sequence(items) else list(items)


def _is_sequence(items: object) -> bool:
    return isinstance(items, Sequence) or (hasattr(items, "__len__") and hasattr(items, "__getitem__"))


def _undecoded(items: Any) -> Any:  # noqa: ANN401 - any sequence
    """A `datasets.Dataset` that gives the files of its images instead of decoding each in every pass."""
    features = getattr(items, "features", None)
    if not isinstance(features, Mapping) or not hasattr(items, "cast_column"):
        return items
    for name, feature in features.items():
        if type(feature).__name__ == "Image" and getattr(feature, "decode", False):
            items = items.cast_column(name, type(feature)(decode=False))
    return items


def plain_number(given: object) -> object:
    """A whole number of NumPy as one of Python; anything else as it is."""
    if isinstance(given, SupportsIndex) and not isinstance(given, bool):
        with suppress(TypeError):  # a truth value of NumPy is none
            return index(given)
    return given
