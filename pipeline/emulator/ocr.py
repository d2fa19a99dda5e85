"""POST ocr: a document is read as its pages, and each is answered with Markdown of what can be measured in it.

Shapes: as `endpoints/ocr.py` names them. Google's model answers 201 and has a request of its own. A page that
is white all over is blank: it has no text. Pages are billed, and no tokens.
"""

import binascii
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import pybase64
from PIL import Image

from pipeline.config.extras import has_pdf_extra
from pipeline.emulator.answers import ERROR_IN_200, caption
from pipeline.emulator.api_errors import ApiError, invalid_type, invalid_value, missing, no_pdf, prompt_blocked
from pipeline.emulator.apis import Api, Body, Made, Serves
from pipeline.emulator.billing import Billing
from pipeline.emulator.chat_request import ChatRequest, SentImage, image_bytes, model_of
from pipeline.emulator.faults import Fault
from pipeline.emulator.instances import instance
from pipeline.emulator.page_bills import meta_of, reported_pages
from pipeline.emulator.pixels import Look
from pipeline.pdf.pages import Pdf, page_count, page_size, rendered_page
from pipeline.records import PDF_TYPE, Failure

_GOOGLE: Final = "gc-document-ai"
_GOOGLE_FIELDS: Final = frozenset({"model", "document", "mimeType", "pages"})
_GOOGLE_TYPES: Final = (
    "application/pdf", "image/gif", "image/tiff", "image/jpeg", "image/png", "image/bmp", "image/webp", "text/html",
)  # fmt: skip
_SIDE: Final = 512
"""Pixels of the longer side at which a page is looked at."""
_MEMORY_MB: Final = 256
_DPI: Final = 200


def parse_ocr(payload: object, serves: Serves, _billing: Billing) -> ChatRequest:
    """A request as one about images: each page is one. Raises ApiError."""
    if not isinstance(payload, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    model = model_of(payload, serves)
    if payload.get("document") is None:
        raise missing("document")
    data, is_document, param = _google(payload) if is_google(model) else _mistral(payload)
    images = _pages(data, _chosen(payload), param) if is_document else [SentImage(data, "auto", param)]
    return ChatRequest(model=model, messages=0, texts=(), images=tuple(images))


def is_google(model: str) -> bool:
    return model.lower().rpartition("/")[2].startswith(_GOOGLE)


def _mistral(payload: Mapping[str, Any]) -> tuple[bytes, bool, str]:
    document = payload["document"]
    if not isinstance(document, dict):
        raise invalid_type("document", "an object", document)
    kind = document.get("type")
    if kind not in ("image_url", "document_url"):
        raise invalid_value("document.type", kind, ("image_url", "document_url"))
    param = f"document.{kind}"
    url = document.get(kind)
    if not isinstance(url, str):
        raise invalid_type(param, "a string", url)
    if kind == "image_url":
        return image_bytes(url, param), False, param
    head, _, encoded = url.partition(",")
    if head.lower() != f"data:{PDF_TYPE};base64":
        raise no_pdf(param, f"{head[:60]!r}")
    return _decoded(encoded, param), True, param


def _google(payload: Mapping[str, Any]) -> tuple[bytes, bool, str]:
    if unknown := next((name for name in payload if name not in _GOOGLE_FIELDS), None):
        raise ApiError(400, f"Unrecognized key(s) in object: '{unknown}'", param=unknown)
    document, kind = payload["document"], payload.get("mimeType", PDF_TYPE)
    if not isinstance(document, str):
        raise invalid_type("document", "a string", document)
    if kind not in _GOOGLE_TYPES:
        raise invalid_value("mimeType", kind, _GOOGLE_TYPES)
    return _decoded(document, "document"), kind == PDF_TYPE, "document"


def _decoded(encoded: str, param: str) -> bytes:
    try:
        return pybase64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise no_pdf(param, "a value that is not base64") from None


def _chosen(payload: Mapping[str, Any]) -> list[int] | None:
    """The pages that a request asks for, from 0; None: all of them. Raises ApiError."""
    pages = payload.get("pages")
    try:
        if pages is None:
            return None
        if isinstance(pages, dict):
            return _google_pages(pages)
        text = ",".join(map(str, pages)) if isinstance(pages, list) else str(pages)
        parts = (part.partition("-") for part in text.split(","))
        return [number for first, _, last in parts for number in range(int(first), int(last or first) + 1)]
    except (KeyError, TypeError, ValueError):
        raise invalid_type("pages", "page numbers and ranges", pages) from None


def _google_pages(pages: Mapping[str, Any]) -> list[int] | None:
    if pages["type"] == "indices":
        return [int(number) - 1 for number in pages["indices"]]
    if pages["type"] == "range":
        return list(range(int(pages["start"]) - 1, int(pages["end"])))
    return list(range(int(pages["end"]))) if pages["type"] == "end" else None


def _pages(data: bytes, chosen: list[int] | None, param: str) -> list[SentImage]:
    """Each page as a picture; where no renderer is installed the document, whose pages are only counted."""
    if not has_pdf_extra():
        return [SentImage(data, "auto", param, is_document=True)]
    pdf = Pdf(object(), read=lambda: data)
    count = page_count(pdf)
    if isinstance(count, Failure):
        raise no_pdf(param, f"a PDF that cannot be read ({count.message})")
    wanted = range(count) if chosen is None else [number for number in chosen if number < count]
    return [SentImage(_picture(pdf, number + 1, param), "auto", param) for number in wanted]


def _picture(pdf: Pdf, page: int, param: str) -> bytes:
    size = page_size(pdf, page)
    if not isinstance(size, Failure):
        scale = _SIDE / max(size.width_pt, size.height_pt, 1)
        sides = max(1, round(size.width_pt * scale)), max(1, round(size.height_pt * scale))
        pixels = rendered_page(pdf, page, sides, _MEMORY_MB)
        if not isinstance(pixels, Failure):
            file = BytesIO()
            Image.frombytes("RGB", sides, pixels).save(file, "PNG", compress_level=1)
            return file.getvalue()
        size = pixels
    raise no_pdf(param, f"a page that cannot be rendered ({size.message})")


def ocr_body(made: Made, usd_per_page: float | None) -> Body:
    """The pages, as Mistral's and AI/ML API's documents have them."""
    if made.answer.refusal is not None or made.answer.finish_reason == "content_filter":
        raise prompt_blocked()
    pages = list(_written(made))
    processed = reported_pages(len(pages), made.fault)
    body: Body = {
        "pages": pages,
        "model": made.asked.model,
        "usage_info": {"pages_processed": processed, "doc_size_bytes": sum(len(one.data) for one in made.asked.images)},
        **meta_of(len(pages), usd_per_page),
    }
    schema = (made.payload.get("document_annotation_format") or {}).get("json_schema")
    if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
        annotation = instance(schema["schema"], made.answer.content.encode() if made.answer.content else b"", "a page")
        body["document_annotation"] = json.dumps(annotation)
    return body


def _written(made: Made) -> list[dict[str, Any]]:
    if made.fault is Fault.EMPTY_CHOICES:
        return []
    said = made.answer.content or ""
    looks = [page for look in made.looks for page in _each_page(look)] or [Look(0, 0, said)]
    texts = [_markdown(number, look) for number, look in enumerate(looks, 1)]
    if said != caption(made.looks):  # a fault has changed the answer
        texts = [said] + [""] * (len(looks) - 1)
    wanted = _chosen(made.payload) or range(len(looks))
    return [_page(index, text, look) for index, text, look in zip(wanted, texts, looks, strict=False)]


def _each_page(look: Look) -> list[Look]:
    if not look.pages:
        return [look]
    return [Look(0, 0, f"Page {number} of {look.caption}") for number in range(1, look.pages + 1)]


def _markdown(number: int, look: Look) -> str:
    return "" if look.is_blank else f"# Page {number}\n\n{look.caption}"


def _page(index: int, text: str, look: Look) -> dict[str, Any]:
    """A page with a picture in its middle, where it has a size."""
    width, height = look.width, look.height
    corners = {
        "top_left_x": width // 4, "top_left_y": height // 4,
        "bottom_right_x": width - width // 4, "bottom_right_y": height - height // 4,
    }  # fmt: skip
    images = [{"id": "img-0.jpeg", **corners, "image_base64": None}] if text and width else []
    dimensions = {"dpi": _DPI, "height": height, "width": width} if width else None
    return {"index": index, "markdown": text, "images": images, "dimensions": dimensions}


def ocr_api(usd_per_page: float | None) -> Api:
    """OCR that states what a page costs, or does not."""
    return Api(
        parse_ocr,
        lambda made: ocr_body(made, usd_per_page),
        lambda _, __: [],
        ERROR_IN_200,
        list,
        bills_tokens=False,
        status=lambda asked: 201 if is_google(asked.model) else 200,
    )
