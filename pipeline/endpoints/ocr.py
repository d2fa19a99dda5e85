"""OCR: a document in, Markdown of each page out. AI/ML API, Mistral and gateways that follow Mistral share the path.

Verified against documents, and against no live endpoint: AI/ML API's pages and OpenAPI files of `mistral-ocr-*`,
`mistral/mistral-ocr-4-0`, `zhipu/glm-ocr` and `google/gc-document-ai` (api-docs, commit f14fa72), and Mistral's Python
client (`OCRRequest`, `OCRResponse`, commit 05629d2), whose `POST /v1/ocr` is the same.
Not verified: that Google's model takes plain base64 as `document` (its schema says "a URI or a string").
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.config.sections import RequestConfig
from pipeline.endpoints.ocr_response import read_ocr
from pipeline.endpoints.one_image import OneImageTemplate
from pipeline.endpoints.other_models import OtherModel
from pipeline.endpoints.reading import Response
from pipeline.endpoints.traits import Traits
from pipeline.errors import InputError
from pipeline.records import Answer, Failure

_GOOGLE: Final = "gc-document-ai"
"""How the name of Google's model begins, behind a vendor's prefix; its requests have another shape."""
MOST_INDICES: Final = 15
"""Single pages that Google's takes in one request."""
DOCUMENT: Final = "application/pdf"

_TRAITS: Final = Traits(columns=("pages", "document_annotation"), bills_pages=True, max_images=1)


@dataclass(frozen=True, slots=True)
class OcrAdapter:
    """The adapter of the task `ocr`."""

    path: str = "ocr"
    other_models: tuple[OtherModel, ...] = ()
    traits: Traits = _TRAITS

    def template(self, request: RequestConfig, model: str, max_tokens_field: str) -> OneImageTemplate:  # noqa: ARG002
        fields = _checked(request, model)
        pages = request.ocr.pages
        if is_google(model):
            return OneImageTemplate(_google(model, google_pages(pages), fields), model)
        return OneImageTemplate(_mistral(model, pages, fields), model)

    def read(self, response: Response) -> Answer | Failure:
        return read_ocr(response)


OCR: Final = OcrAdapter()


def is_google(model: str) -> bool:
    """Whether requests to this model have Google's shape."""
    return model.lower().rpartition("/")[2].startswith(_GOOGLE)


def _checked(request: RequestConfig, model: str) -> Mapping[str, Any]:
    """The fields beside the document. Raises InputError for one that the model does not have, or that is set twice."""
    fields = request.ocr.fields
    if fields and is_google(model):
        raise InputError(f"`request.ocr.{next(iter(fields))}`: {model} takes `request.ocr.pages` only; take it out")
    own = {"model", "document", "mimeType", "pages", *fields}
    if twice := next((name for name in request.extra if name in own), None):
        raise InputError(f"request.extra.{twice}: a setting of its own says it; take it out of `request.extra`")
    return {**fields, **request.extra}


def _mistral(model: str, pages: str | None, fields: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a `Body`
    def body(media_type: str, base64: str, address: str | None) -> Mapping[str, Any]:
        kind = "document_url" if media_type == DOCUMENT else "image_url"
        chosen = {"pages": pages} if pages is not None and media_type == DOCUMENT else {}
        document = {"type": kind, kind: address or f"data:{media_type};base64,{base64}"}
        return {"model": model, "document": document, **chosen, **fields}

    return body


def _google(model: str, pages: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
    def body(media_type: str, base64: str, address: str | None) -> Mapping[str, Any]:
        if address is not None:
            return {"model": model, "document": address, **fields}
        chosen = {"pages": pages} if pages is not None and media_type == DOCUMENT else {}
        return {"model": model, "document": base64, "mimeType": media_type, **chosen, **fields}

    return body


def google_pages(pages: str | None) -> Mapping[str, Any] | None:
    """`request.ocr.pages` as Google's model has them, counted from 1. Raises InputError for too many single ones."""
    if pages is None:
        return None
    first, _, last = pages.partition("-")
    if first.isdecimal() and last.isdecimal() and int(first) < int(last):
        return {"type": "range", "start": int(first) + 1, "end": int(last) + 1}
    indices = list(dict.fromkeys(number + 1 for number in page_numbers(pages)))
    if len(indices) > MOST_INDICES:
        raise InputError(f"`request.ocr.pages`: this model takes one range, or {MOST_INDICES} single pages at most")
    return {"type": "indices", "indices": indices}


def page_numbers(pages: str) -> Iterator[int]:
    """The pages that `request.ocr.pages` names, counted from 0."""
    for part in pages.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
