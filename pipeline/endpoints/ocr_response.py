"""A response of OCR -> `Answer` or `Failure`: the Markdown of all pages, and each page with its boxes.

Shape: AI/ML API's `Vision.v1.OCRResponseDTO` and Mistral's `OCRResponse`; see `ocr.py` for what was verified. The
blocks of Mistral OCR 4 (`include_blocks`) are in Mistral's client alone. A server that gives one `text` or `markdown`
without pages is taken to have read one page: no document names such a shape.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.endpoints.json_values import count_of, dict_of, dicts_of, string_of
from pipeline.endpoints.reading import Response
from pipeline.endpoints.task_response import TaskResponse, box
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure

SEPARATOR = "\n\n"
"""Between the pages in `caption`: as between two paragraphs of Markdown."""


def read_ocr(response: Response) -> Answer | Failure:
    """What a response with a 2xx status means. A page without text is an answer, a document without pages is none."""
    parsed = TaskResponse.of(response)
    stated = parsed.body.get("pages")
    if not isinstance(stated, list):
        text = next((value for name in ("markdown", "text") if isinstance(value := parsed.body.get(name), str)), None)
        if text is None:
            return parsed.without("pages")
        stated = [{"markdown": text}]
    if not stated:
        return parsed.failure(ErrorKind.EMPTY_ANSWER, "an answer without pages")
    pages = [_page(at, page, parsed.sent_size) for at, page in enumerate(dicts_of(stated))]
    if len({page["index"] for page in pages}) == len(pages):  # else the numbers say nothing of the order
        pages.sort(key=lambda page: int(page["index"]))
    columns: dict[str, Any] = {"pages": pages}
    if (annotation := _annotation(parsed.body.get("document_annotation"))) is not None:
        columns["document_annotation"] = annotation
    return parsed.answer(joined([page["markdown"] for page in pages]), columns, pages=_billed(parsed, len(pages)))


def _annotation(stated: object) -> str | None:
    """JSON, as the documents have it; a gateway that gives the object itself is taken at its word."""
    return json.dumps(stated, ensure_ascii=False) if isinstance(stated, dict | list) else string_of(stated)


def joined(pages: Sequence[str]) -> str:
    """One text of all pages, in order; blank pages leave no gap."""
    return SEPARATOR.join(text for page in pages if (text := page.strip()))


def _billed(parsed: TaskResponse, pages: int) -> int:
    """Pages as billed; those of the answer, where the response states fewer, or none that can be."""
    return max(pages, count_of(dict_of(parsed.body.get("usage_info")).get("pages_processed")) or 0)


def _page(at: int, page: Mapping[str, Any], sent_size: tuple[int | None, int | None]) -> dict[str, Any]:
    dimensions = dict_of(page.get("dimensions"))
    width, height = count_of(dimensions.get("width")), count_of(dimensions.get("height"))
    index, markdown = count_of(page.get("index")), page.get("markdown")
    size = (width, height) if width and height else sent_size
    images, blocks = dicts_of(page.get("images")), dicts_of(page.get("blocks"))
    return {
        "index": at if index is None else index,
        "markdown": markdown if isinstance(markdown, str) else "",
        "width": width,
        "height": height,
        "boxes": [
            *(_box(image, image.get("id"), _annotation(image.get("image_annotation")), size) for image in images),
            *(_box(block, block.get("type"), block.get("content"), size) for block in blocks),
        ],
    }


def _box(found: Mapping[str, Any], name: object, text: object, size: tuple[int | None, int | None]) -> dict[str, Any]:
    """An image on a page by its id, or a block of text by its kind."""
    names = ("top_left_x", "top_left_y", "bottom_right_x", "bottom_right_y")
    left, top, right, bottom = (found.get(one) for one in names)
    return {
        "name": string_of(name),
        "text": string_of(text),
        "image": string_of(found.get("image_base64")),
        "box": box((left, top, right, bottom), *size),
    }
