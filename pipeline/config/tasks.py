"""The task of a run, and the tables of those tasks that are no chat: `[request.ocr]` and `[request.ofr]`.

Each field is sent under its own name where it is set. Sources: AI/ML API's pages on OCR and OFR, and its OpenAPI file
(api-docs, commit f14fa72); Mistral's Python client (`OCRRequest`, commit 05629d2).
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from pipeline.config.prompts import Table
from pipeline.config.setting import Setting
from pipeline.config.types import page_numbers, sendable

Feature = Literal[
    "FACE_DETECTION",
    "LANDMARK_DETECTION",
    "LOGO_DETECTION",
    "LABEL_DETECTION",
    "TEXT_DETECTION",
    "DOCUMENT_TEXT_DETECTION",
    "SAFE_SEARCH_DETECTION",
    "IMAGE_PROPERTIES",
    "CROP_HINTS",
    "WEB_DETECTION",
    "PRODUCT_SEARCH",
    "OBJECT_LOCALIZATION",
]
Sendable = Annotated[dict[str, Any], AfterValidator(sendable)]
_Count = Annotated[int, Field(ge=0, le=10**9)]


class _TaskTable(Table):
    """A table whose fields are written, and hashed, where they are set: one that is added later changes no hash."""

    @model_serializer(mode="wrap")
    def _only_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = serialise(self)
        fields = type(self).model_fields
        return {name: value for name, value in written.items() if getattr(self, name) != fields[name].default}


class OcrTable(_TaskTable):
    """What OCR is asked beside the image: `[request.ocr]`."""

    pages: Annotated[str | None, BeforeValidator(page_numbers)] = None
    """Of a PDF that is sent whole: `"0-2,5"`, or a list, counted from 0; None: all of them."""
    include_image_base64: bool | None = None
    image_limit: _Count | None = None
    image_min_size: _Count | None = None
    bbox_annotation_format: Sendable | None = None
    document_annotation_format: Sendable | None = None
    document_annotation_prompt: str | None = None
    table_format: Literal["markdown", "html"] | None = None
    extract_header: bool | None = None
    extract_footer: bool | None = None
    include_blocks: bool | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What is set, but for `pages`, as a request has it."""
        return {name: value for name, value in self if value is not None and name != "pages"}


class OfrTable(_TaskTable):
    """What is looked for in an image: `[request.ofr]`."""

    features: Annotated[tuple[Feature, ...], Field(min_length=1)] = ("LABEL_DETECTION",)
    max_results: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Of each feature."""
    model: Literal["builtin/stable", "builtin/latest"] | None = None
    image_context: Sendable | None = None
    """`imageContext` as the API has it: language hints, aspect ratios."""
    image_field: Literal["imageUri", "content"] = "imageUri"
    """Where the image goes: as a data URL into `image.source.imageUri`, or as base64 into `image.content`."""


TASKS = {"ocr": OcrTable(), "ofr": OfrTable()}
"""The tasks that have tables of their own, and these at their defaults."""

Task = Annotated[
    Literal["caption", "ocr", "ofr"],
    Setting(
        "What is asked of images: `caption` a model by prompt, `ocr` their text, `ofr` the features in them.",
        keyword="task",
        in_hash=True,
    ),
]
Ocr = Annotated[
    OcrTable,
    Setting("With `request.task=ocr`: the table of what OCR takes, see ocr.md.", default_help="not set", in_hash=True),
]
Ofr = Annotated[
    OfrTable,
    Setting(
        "With `request.task=ofr`: the table of the features to look for, see ocr.md.",
        default_help="labels of the image",
        in_hash=True,
    ),
]
