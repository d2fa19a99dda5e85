"""The settings of images: `[images]`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.sections import Section
from pipeline.config.setting import Setting
from pipeline.config.types import Megabytes, Seconds


class ImagesConfig(Section):
    """How images are prepared."""

    quality: Annotated[
        int, Field(ge=1, le=95), Setting("The JPEG quality of images that are resized or converted.", in_hash=True)
    ] = 85
    max_side: Annotated[
        Annotated[int, Field(ge=16, le=10**6)] | None,
        Setting("The longest side of an image that is sent, in pixels.", in_hash=True),
    ] = None
    unknown_max_side: Annotated[
        Annotated[int, Field(ge=16, le=10**6)] | None,
        Setting(
            "The longest side of an image for a model whose token rule is unknown, in pixels.",
            default_help="2048; 1536 in the presets of local servers",
        ),
    ] = None
    max_image_tokens: Annotated[
        Annotated[int, Field(ge=1, le=10**9)] | None,
        Setting(
            "Send images smaller, so that each takes at most N tokens.",
            keyword="max_image_tokens",
            metavar="N",
            in_hash=True,
        ),
    ] = None
    frames: Annotated[
        int,
        Field(ge=1, le=1000),
        Setting(
            "The most images that one video, animation or multi-page file gives.",
            keyword="frames",
            metavar="N",
            default_help="1: of a video the middle, else the first",
            in_hash=True,
        ),
    ] = 1
    frame_interval_s: Annotated[
        Annotated[float, Field(gt=0, le=1e9)] | None,
        Setting("Take a frame every N seconds from the beginning, and at most `images.frames`.", in_hash=True),
    ] = None
    page_dpi: Annotated[
        int,
        Field(ge=36, le=1200),
        Setting("The resolution at which a page of a PDF counts as an image, in pixels an inch.", in_hash=True),
    ] = 200
    verify: Annotated[
        Literal["structure", "full"],
        Setting("The check of an unchanged image: `structure` reads the parts of the file, `full` decodes all pixels."),
    ] = "structure"
    truncated: Annotated[
        Literal["fail", "show"],
        Setting(
            "A JPEG or PNG file that is cut off: `fail` gives its row an error, `show` sends what is there, as "
            "browsers show it.",
            in_hash=True,
        ),
    ] = "fail"
    keep_metadata: Annotated[bool, Setting("Send EXIF (with GPS), XMP and comments of images that need no resize.")] = (
        False
    )
    max_megapixels: Annotated[Megabytes, Setting("The largest image that is decoded, in megapixels.")] = 256.0
    max_file_mb: Annotated[Megabytes, Setting("The largest image file that is read, in MB.")] = 256.0
    max_sent_mb: Annotated[
        Megabytes, Setting("The largest file that is sent unchanged, in MB; a larger one is sent as JPEG.")
    ] = 4.0
    max_decoded_mb: Annotated[
        Megabytes, Setting("The most memory that one image may take while it is decoded, in MB.")
    ] = 512.0
    decode_timeout_s: Annotated[
        Seconds,
        Setting("The longest that decoding an image may take; then it is tried once in a process of its own."),
    ] = 120.0
    decode_mb: Annotated[
        int,
        Field(ge=1, le=10**9),
        Setting("Memory for images being decoded, and as much again for files not decoded yet, in MB."),
    ] = 256
    prepared_mb: Annotated[
        int, Field(ge=1, le=10**9), Setting("Memory for prepared requests, including those in flight, in MB.")
    ] = 128
    threads: Annotated[int, Field(ge=0, le=1024), Setting("Decoding threads; 0 means one per core.")] = 0

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.frame_interval_s is not None and "frames" not in self.model_fields_set:
            raise ValueError("`images.frame_interval_s` needs a bound: set `images.frames` too, for example to 16")
        return self
