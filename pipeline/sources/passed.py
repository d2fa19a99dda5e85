"""What a source passes over, counted by kind, and the first bytes of files whose names say nothing."""

import os
import re
import stat
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from pipeline.images.containers.sniff import sniff

WITHOUT_BYTES: Final = "without an image's first bytes"
WITHOUT_SUFFIX: Final = "without suffix"
UNREADABLE: Final = "unreadable"
SPECIAL: Final = "special (pipe, device)"
WITHOUT_ROW: Final = "without a row in the metadata"
CAPTIONED: Final = "captioned before"
BAD: Final = "bad (source.skip_bad_rows)"
LINK: Final = "stored as a link"
SPARSE: Final = "stored as a sparse file"
UNKNOWN: Final = "of an unknown kind"

_NO_IMAGES: Final = frozenset(
    b".txt .text .md .rst .rtf .log .csv .tsv .json .jsonl .ndjson .parquet .arrow .feather .xml .yaml .yml .toml .ini"
    b" .cfg .conf .html .htm .css .js .ts .py .pyc .ipynb .sh .bat .exe .dll .so .c .h .cpp .rs .go .java .doc .docx"
    b" .odt .xls .xlsx .ods .ppt .pptx .epub .zip .tar .tgz .gz .bz2 .xz .zst .7z .rar .iso .npy .npz .pt .pth .pkl"
    b" .ckpt .bin .safetensors .onnx .h5 .hdf5 .db .sqlite .lock .lnk .url .aae .xmp .mp3 .m4a .wav .flac .ogg .aac"
    b" .avi .m4v .3gp .wmv .mpg .srt .vtt .ttf .svg .caption .cls .part .partial .tmp .temp .crdownload .download .bak"
    b" .orig".split()
)
"""Suffixes of files that are not opened: no images, or images that a program has not completed or keeps a copy of."""
_TABLES: Final = frozenset({".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".gz", ".tar", ".tgz", ".arrow"})
_COPIES: Final = (b"~", b"_original")
"""How suffixes of copies end that editors keep: `a.jpg~`, and ExifTool's `a.jpg_original`."""
_SUFFIX: Final = re.compile(rb"[^.](\.[a-z0-9_~-]{1,12})$")
_FIRST_BYTES: Final = 512
_MOST_KINDS: Final = 1_000
_OTHER: Final = "with other suffixes"
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(slots=True)
class PassedOver:
    """Files that a source passes over, by kind: a suffix (`.fits`), or what is wrong with them."""

    by_kind: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, files: int = 1) -> None:
        known = kind in self.by_kind or len(self.by_kind) < _MOST_KINDS
        self.by_kind[kind if known else _OTHER] += files


@runtime_checkable
class PassesOver(Protocol):
    """A source that passes over some of what it finds."""

    @property
    def passed_over(self) -> Counter[str]:
        """Files by kind, as the latest complete pass of `check` has counted them."""


def passed_over(source: object) -> Counter[str]:
    """What `check` of a source has passed over, bad rows too; nothing where it takes all that it finds."""
    found = source.passed_over if isinstance(source, PassesOver) else Counter[str]()
    skipped = getattr(source, "skipped", 0)
    return found if not skipped or BAD in found else found + Counter({BAD: skipped})


def tables_hint(by_kind: Mapping[str, int]) -> str:
    """The way to files that hold records, where those are what a folder holds."""
    found = [kind for kind in by_kind if kind in _TABLES]
    return f". Files of records ({' '.join(sorted(found))}) are SOURCEs of their own: name them" if found else ""


def suffix_of(name: bytes) -> str | None:
    """The suffix of a file's name, in lower case; None where it has none."""
    found = _SUFFIX.search(name.lower())
    return None if found is None else found[1].decode("ascii")


def is_no_image(suffix: str | None) -> bool:
    """Whether files with this suffix are passed over unopened."""
    return suffix is not None and ((name := suffix.encode()) in _NO_IMAGES or name.endswith(_COPIES))


def flaw_of_file(path: bytes) -> str | None:
    """Why a file is no image by its first bytes; None where it is one. Never waits for a pipe or a device."""
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return UNREADABLE
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return SPECIAL
        return None if sniff(os.read(descriptor, _FIRST_BYTES)) is not None else WITHOUT_BYTES
    except OSError:
        return UNREADABLE
    finally:
        os.close(descriptor)
