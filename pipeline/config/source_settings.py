"""Settings of `[source]`: columns, what counts in a folder, odd rows, and where images may be."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.config.setting import Setting
from pipeline.config.shards import shard_text


def _suffix(text: str) -> str:
    """A suffix in lower case, with its dot. Raises ValueError."""
    suffix = f".{text.strip().removeprefix('*').removeprefix('.')}".lower()
    if len(suffix) == 1 or any(mark in suffix for mark in "/\\*?[ \0"):
        raise ValueError(f"{text!r} is no suffix of a file; write it as .jpg")
    return suffix


def _suffixes(texts: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if texts is not None and not texts:
        raise ValueError('name at least one suffix, as [".jpg", ".png"]')
    return None if texts is None else tuple(dict.fromkeys(map(_suffix, texts)))


ImageColumn = Annotated[
    str | None, Setting("The manifest's column of images.", default_help="the first of the usual names")
]
IdColumn = Annotated[
    str | None, Setting("The manifest's column of ids.", default_help="`id`, else the image as written")
]
Pdf = Annotated[
    Literal["whole", "pages"],
    Setting("A PDF is one record, sent as a file, or each of its pages is one.", keyword="pdf", in_hash=True),
]
Extensions = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(lambda value: value.replace(",", " ").split() if isinstance(value, str) else value),
    AfterValidator(_suffixes),
    Setting(
        "The suffixes of the files that count in a folder; other files are not opened.",
        default_help="those of images, videos and PDFs, and what is an image by its first bytes",
    ),
]
Metadata = Annotated[
    bool,
    Setting("The rows of a folder's metadata (CSV, JSONL or Parquet) are its records."),
]
SidecarExtension = Annotated[
    str,
    AfterValidator(_suffix),
    Setting("The suffix of the text file beside an image that is the column `sidecar`."),
]
SkipCaptioned = Annotated[
    bool,
    Setting("Pass over images with a text file beside them that is not empty.", keyword="skip_captioned"),
]
SeveralImages = Annotated[
    bool, Setting("Records from standard input have several images; other sources show it themselves.")
]
ShardOfN = Annotated[
    Annotated[str, AfterValidator(shard_text)] | None,
    Setting(
        "Only this part of the source: shard I of N, counted from 0. An OUT belongs to one shard.",
        keyword="shard",
        metavar="I/N",
    ),
]
AllowEmpty = Annotated[
    bool,
    Setting("A source without images is no mistake: the run ends at once, with exit code 0.", keyword="allow_empty"),
]
SkipBadRows = Annotated[bool, Setting("Skip manifest rows that cannot be read.", keyword="skip_bad_rows")]
OnDuplicateId = Annotated[
    Literal["error", "first"],
    Setting("What a repeated id does: end the command, or keep the first row.", keyword="on_duplicate_id"),
]
MaxRecordKb = Annotated[
    int, Field(ge=1, le=32_768), Setting("The largest size of a row's other columns as JSON, in KiB.")
]
AllowPrivateHosts = Annotated[
    bool, Setting("Fetch images from private networks and this machine too.", keyword="allow_private_hosts")
]
PerHost = Annotated[int, Field(ge=1, le=1024), Setting("The most requests for images to one host at once.")]
Confine = Annotated[
    bool, Setting("Refuse files outside the folder that is SOURCE, or that of the manifest, also behind links.")
]
