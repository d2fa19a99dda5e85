"""OCR and OFR: their requests, field by field, and what their responses mean."""

import hashlib
import json
from decimal import Decimal
from typing import Any

import pytest

from pipeline.config.keywords import resolve
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import adapter_of, traits_of
from pipeline.endpoints.ocr import OCR, google_pages
from pipeline.endpoints.ofr import OFR
from pipeline.endpoints.reading import Response, read_response
from pipeline.endpoints.target import Target
from pipeline.errors import ErrorKind, InputError
from pipeline.records import PDF_TYPE, Answer, Failure, ImageFacts, PreparedImage, Status, Usage
from pipeline.redaction.redactor import Redactor

MISTRAL, GOOGLE = "mistral/mistral-ocr-4-0", "google/gc-document-ai"
DATA = b"\x00\x01bytes"
BASE64 = "AAFieXRlcw=="
FACTS = ImageFacts(
    width=800, height=400, sent_width=400, sent_height=200, sent_bytes=7, source_bytes=7, sha256="0" * 64
)  # fmt: skip
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


def image(media_type: str = "image/png") -> PreparedImage:
    return PreparedImage(data=DATA, media_type=media_type, sha256=hashlib.sha256(DATA).hexdigest(), facts=FACTS)


def configured(task: str = "ocr", model: str | None = MISTRAL, **request: Any) -> RunConfig:
    overrides = {f"request.{name}": value for name, value in request.items()}
    return resolve(None, {"task": task, "model": model, "overrides": overrides})


def body(config: RunConfig, media_type: str = "image/png") -> dict[str, Any]:
    template = adapter_of(config).template(config.request, config.request.model or "", "max_tokens")
    sent: dict[str, Any] = json.loads(template.body([image(media_type)]))
    shown = json.loads(template.preview([image(media_type)]))
    assert json.dumps(shown).replace("<12 characters>", BASE64) == json.dumps(sent)
    return sent


@pytest.mark.parametrize(
    ("model", "media_type", "table", "expected"),
    [
        (MISTRAL, "image/png", {}, {"type": "image_url", "image_url": f"data:image/png;base64,{BASE64}"}),
        (MISTRAL, PDF_TYPE, {}, {"type": "document_url", "document_url": f"data:{PDF_TYPE};base64,{BASE64}"}),
        ("mistral-ocr-latest", PDF_TYPE, {"pages": [0, 3]}, {"pages": "0,3"}),
        ("mistral-ocr-latest", "image/png", {"pages": "0"}, {"pages": None}),
        (
            "zhipu/glm-ocr",
            "image/png",
            {"image_limit": 0, "image_min_size": 9},
            {"image_limit": 0, "image_min_size": 9},
        ),
        (MISTRAL, "image/png", {"include_image_base64": False}, {"include_image_base64": False}),
        (MISTRAL, "image/png", {"bbox_annotation_format": FORMAT}, {"bbox_annotation_format": FORMAT}),
        (MISTRAL, "image/png", {"document_annotation_format": FORMAT}, {"document_annotation_format": FORMAT}),
        (
            MISTRAL,
            "image/png",
            {"document_annotation_prompt": "<image-0>"},
            {"document_annotation_prompt": "<image-0>"},
        ),
        (GOOGLE, "image/jpeg", {"pages": "1"}, {"document": BASE64, "mimeType": "image/jpeg", "pages": None}),
        (GOOGLE, PDF_TYPE, {"pages": "0-2"}, {"mimeType": PDF_TYPE, "pages": {"type": "range", "start": 1, "end": 3}}),
    ],
)
def test_the_request_has_the_shape_of_its_model(
    model: str, media_type: str, table: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Images and PDFs in both shapes; a field that is set is sent as it is, one that is not is left out."""
    sent = body(configured(model=model, ocr=table), media_type)
    assert sent["model"] == model
    found = sent["document"] if "type" in expected and "pages" not in expected else sent
    assert {name: found.get(name) for name in expected} == expected
    assert set(sent) <= {"model", "document", "mimeType", *(name for name in table if sent.get(name) is not None)}


def test_requests_differ_where_what_is_asked_differs() -> None:
    """Digests follow model, table and image; another name of the model at an endpoint is no other request."""
    digests = set()
    for model, table in ((MISTRAL, {}), (MISTRAL, {"image_limit": 3}), (GOOGLE, {})):
        config = configured(model=model, ocr=table)
        template = OCR.template(config.request, model, "max_tokens")
        digests |= {template.digest([image()]), template.digest([image(PDF_TYPE)])}
    assert len(digests) == 6
    template = OCR.template(configured(model=GOOGLE).request, GOOGLE, "max_tokens")
    renamed = json.loads(template.renamed(template.body([image()]), "mine"))
    assert renamed == {"model": "mine", "document": BASE64, "mimeType": "image/png"}
    vision = OFR.template(configured("ofr", None).request, "ofr", "max_tokens")
    assert vision.renamed(vision.body([image()]), "mine") == vision.body([image()])


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ("4", {"type": "indices", "indices": [5]}),
        ("0,2-3,2", {"type": "indices", "indices": [1, 3, 4]}),
        ("0,2-3", {"type": "indices", "indices": [1, 3, 4]}),
        ("2-2", {"type": "indices", "indices": [3]}),
        ("0-30", {"type": "range", "start": 1, "end": 31}),
        (None, None),
    ],
)
def test_pages_of_googles_model(pages: str | None, expected: object) -> None:
    """Counted from 1, a range or at most 15 single ones."""
    assert google_pages(pages) == expected
    with pytest.raises(InputError, match=r"`request\.ocr\.pages`.*15"):
        google_pages("0-13,20-22")


def test_the_request_of_ofr() -> None:
    """As AI/ML API's OpenAPI file has it, or with the bytes in `content`."""
    assert body(configured("ofr", None)) == {
        "image": {"source": {"imageUri": f"data:image/png;base64,{BASE64}"}},
        "features": [{"type": "LABEL_DETECTION"}],
    }
    table = {
        "features": ["FACE_DETECTION", "WEB_DETECTION"], "max_results": 3, "model": "builtin/latest",
        "image_context": {"languageHints": ["en"]}, "image_field": "content",
    }  # fmt: skip
    more = {"maxResults": 3, "model": "builtin/latest"}
    assert body(configured("ofr", None, ofr=table, extra={"parent": "x"})) == {
        "image": {"content": BASE64},
        "features": [{"type": "FACE_DETECTION", **more}, {"type": "WEB_DETECTION", **more}],
        "imageContext": {"languageHints": ["en"]},
        "parent": "x",
    }


def test_addresses_that_are_passed_on() -> None:
    """The address stands where the data URL does, in every shape; a preview leaves its signature out."""
    url = "https://example.com/a.jpg?X-Amz-Signature=s3cr3t"
    passed = PreparedImage(data=b"", media_type="", sha256="1" * 64, facts=FACTS, url=url)
    found = []
    for config in (configured(), configured(model=GOOGLE), configured("ofr", None, ofr={"image_field": "content"})):
        template = adapter_of(config).template(config.request, config.request.model or "", "max_tokens")
        found.append(json.loads(template.body([passed])))
        assert "s3cr3t" not in template.preview([passed])
        assert template.digest([passed]) != template.digest([image()])
    assert found[0]["document"] == {"type": "image_url", "image_url": url}
    assert found[1] == {"model": GOOGLE, "document": url}
    assert found[2]["image"] == {"source": {"imageUri": url}}


@pytest.mark.parametrize("base", ["https://api.aimlapi.com", "https://api.aimlapi.com/v1", "api.aimlapi.com/vision"])
def test_the_address_of_ofr(base: str) -> None:
    """It stands beside `/v1`, however the address is written; that of OCR below it."""
    target = Target.of(resolve(None, {"base_url": base}).endpoint, "k")
    assert target.url(OFR.path) == "https://api.aimlapi.com/vision"
    assert target.url(OCR.path) == "https://api.aimlapi.com/v1/ocr"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"task": "ocr", "prompt": "What is it?"}, ("`request.task=ocr`", "`request.prompt`")),
        ({"task": "ofr", "labels": {"type": "object", "properties": {}}}, ("`request.task=ofr`", "`request.labels`")),
        ({"task": "ocr", "temperature": 0.0}, ("`request.task=ocr`", "`request.temperature`")),
        ({"task": "ocr", "detail": "low"}, ("`request.task=ocr`", "`request.detail`")),
        ({"task": "ocr", "overrides": {"budget.max_tokens": 5}}, ("`request.task=ocr`", "`budget.max_tokens`")),
        ({"task": "ocr", "overrides": {"request.ofr.max_results": 5}}, ("`request.ofr`", "`request.task=ofr`")),
        ({"overrides": {"request.ocr.image_limit": 5}}, ("`request.ocr`", "`request.task=ocr`")),
        ({"task": "ocr", "overrides": {"request.ocr.pages": "1-"}}, ("request.ocr.pages", "0-2,5")),
        (
            {"task": "ofr", "overrides": {"request.ofr.features": ["SMELL"]}},
            ("request.ofr.features", "LABEL_DETECTION"),
        ),
    ],
)
def test_settings_of_another_task(settings: dict[str, Any], words: tuple[str, ...]) -> None:
    """An error that names the setting and the task, before anything is sent."""
    with pytest.raises(InputError) as raised:
        resolve(None, settings)  # type: ignore[arg-type]
    assert all(word in str(raised.value) for word in words)


def test_settings_that_a_model_or_the_request_does_not_take() -> None:
    """Google's model has pages only; what a setting says is not said in `request.extra`, too."""
    for request, words in (
        (configured(model=GOOGLE, ocr={"image_limit": 1}).request, "request.ocr.image_limit"),
        (configured(extra={"document": "x"}).request, "request.extra.document"),
    ):
        with pytest.raises(InputError, match=words):
            OCR.template(request, request.model or "", "max_tokens")
    with pytest.raises(InputError, match=r"request\.extra\.features"):
        OFR.template(configured("ofr", None, extra={"features": []}).request, "ofr", "max_tokens")


def test_existing_configurations_keep_their_hash() -> None:
    """The task counts where it is no caption, and a table where it is set."""
    assert resolve(None, {"model": "gpt-4o"}).config_hash() == "7cdfc44972e12972"
    hashes = {configured(ocr=table).config_hash() for table in ({}, {"pages": "0"}, {"extract_header": True})}
    assert len(hashes | {configured("ofr").config_hash()}) == 4
    again = resolve(RunConfig.model_validate(configured(ocr={"pages": "0"}).resolved()), {})
    assert again.config_hash() == configured(ocr={"pages": "0"}).config_hash()


def read(found: object, status: int = 200, adapter: Any = OCR, **more: Any) -> Answer | Failure:
    raw = found if isinstance(found, bytes) else json.dumps(found).encode()
    response = Response(status=status, headers={}, body=raw, latency_s=0.5, images=(FACTS,), **more)
    return read_response(response, adapter.read)


def answer(found: object, status: int = 200, adapter: Any = OCR, **more: Any) -> Answer:
    result = read(found, status, adapter, **more)
    assert isinstance(result, Answer), result
    return result


def page(markdown: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "markdown": markdown, "images": [], "dimensions": None, **more}


def test_an_answer_of_ocr() -> None:
    """As AI/ML API's page shows one: Markdown, pages, boxes as shares, pages as billed, the provider's own cost."""
    picture = {
        "id": "img-0.jpeg", "top_left_x": 20, "top_left_y": 10, "bottom_right_x": 100, "bottom_right_y": 50,
        "image_base64": "data:image/jpeg;base64,AA==", "image_annotation": '{"a":1}',
    }  # fmt: skip
    block = {
        "type": "title",
        "content": "One",
        "top_left_x": 0,
        "top_left_y": 0,
        "bottom_right_x": 900,
        "bottom_right_y": 1,
    }
    result = answer(
        {
            "pages": [
                page("# One\n", images=[picture], blocks=[block], dimensions={"dpi": 200, "height": 100, "width": 200}),
                page("  ", 1),
                page("Two", 2, images=[{**picture, "image_base64": None}]),
            ],
            "model": "mistral-ocr-2503-completion",
            "document_annotation": '{"total":3}',
            "usage_info": {"pages_processed": 3, "doc_size_bytes": None},
            "meta": {"usage": {"credits_used": 12000, "usd_spent": 0.006}},
        },
        201,
    )
    assert (result.status, result.caption, result.model) == (Status.OK, "# One\n\nTwo", "mistral-ocr-2503-completion")
    assert (result.usage, result.cost_usd) == (Usage(pages=3), Decimal("0.006"))
    first, blank, last = result.columns["pages"]
    assert (first["markdown"], first["width"], first["height"]) == ("# One\n", 200, 100)
    assert [box["name"] for box in first["boxes"]] == ["img-0.jpeg", "title"]
    assert first["boxes"][0]["box"] == {"x0": 0.1, "y0": 0.1, "x1": 0.5, "y1": 0.5}
    assert (first["boxes"][0]["text"], first["boxes"][0]["image"]) == ('{"a":1}', "data:image/jpeg;base64,AA==")
    assert first["boxes"][1]["box"] == {"x0": 0.0, "y0": 0.0, "x1": 1.0, "y1": 0.01}
    assert (blank["index"], blank["markdown"], blank["width"]) == (1, "  ", None)
    assert last["boxes"][0]["box"] == {"x0": 0.05, "y0": 0.05, "x1": 0.25, "y1": 0.25}
    assert result.columns["document_annotation"] == '{"total":3}'


@pytest.mark.parametrize(
    ("found", "caption", "pages"),
    [
        ({"pages": [page("")], "usage_info": {"pages_processed": 1}}, "", 1),
        ({"pages": [page("a"), page("b", 1)]}, "a\n\nb", 2),
        ({"pages": [page("a")], "usage_info": {"pages_processed": -1}}, "a", 1),
        ({"pages": [page("a")], "usage_info": {"pages_processed": 1e300}}, "a", 1),
        ({"pages": [page("a")], "usage_info": {"pages_processed": 7}}, "a", 7),
        ({"pages": [{"markdown": None}, 3, {"index": "x"}]}, "", 2),
        ({"text": "plain"}, "plain", 1),
    ],
)
def test_pages_and_what_is_billed(found: object, caption: str, pages: int) -> None:
    """A blank page is an answer; pages are billed as stated, and no fewer than there are."""
    result = answer(found)
    assert (result.status, result.caption, result.usage.pages) == (Status.OK, caption, pages)


@pytest.mark.parametrize("adapter", [OCR, OFR])
@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (b"<html>gateway</html>", ErrorKind.INVALID_RESPONSE),
        (b"[]", ErrorKind.INVALID_RESPONSE),
        ({"error": {"message": "upstream", "code": 502}}, ErrorKind.SERVER_ERROR),
        ({"message": "busy", "statusCode": 429}, ErrorKind.RATE_LIMITED),
        ({"error": {"message": "no", "code": "content_filter"}}, ErrorKind.CONTENT_FILTER),
    ],
)
def test_responses_that_are_no_answer(adapter: Any, found: object, kind: ErrorKind) -> None:
    """HTML, another shape, an error inside a 200: as of chat/completions."""
    result = read(found, adapter=adapter)
    assert (result.error_kind if isinstance(result, Answer) else result.kind) is kind


def test_pages_out_of_order() -> None:
    """Pages stand in the order of their numbers, in the text too; where two have the same one, as they came."""
    mixed = answer({"pages": [page("c", 2), page("a", 0), page("b", 1)]})
    assert mixed.caption == "a\n\nb\n\nc"
    assert [one["index"] for one in mixed.columns["pages"]] == [0, 1, 2]
    assert answer({"pages": [page("x", 1), page("y", 0), page("z", 0)]}).caption == "x\n\ny\n\nz"


def test_annotations_as_objects() -> None:
    """An annotation that a gateway gives as an object, not as JSON in a string, is kept as JSON."""
    found = answer({"pages": [page("a", images=[{"id": "i", "image_annotation": {"b": "ü"}}])],
                    "document_annotation": {"total": 3}})  # fmt: skip
    assert found.columns["document_annotation"] == '{"total": 3}'
    assert found.columns["pages"][0]["boxes"][0]["text"] == '{"b": "ü"}'


@pytest.mark.parametrize(
    ("code", "kind"),
    [(3, ErrorKind.BAD_REQUEST), (7, ErrorKind.BAD_REQUEST), (8, ErrorKind.RATE_LIMITED), (14, ErrorKind.SERVER_ERROR),
     (400, ErrorKind.BAD_REQUEST)],
)  # fmt: skip
def test_googles_numbers_of_errors(code: int, kind: ErrorKind) -> None:
    """An error of one image has a number of `google.rpc.Code`: a bad image is not asked again and again."""
    result = read({"responses": [{"error": {"code": code, "message": "Bad image data."}}]}, adapter=OFR)
    assert isinstance(result, Failure)
    assert (result.kind, result.message) == (kind, "Bad image data.")


def test_no_pages_at_all() -> None:
    """A document without a page gave no answer."""
    result = read({"pages": []})
    assert isinstance(result, Failure)
    assert result.kind is ErrorKind.EMPTY_ANSWER


def test_an_answer_of_ofr() -> None:
    """Google's lists become features: names, scores, and boxes from pixels of what was sent, or from shares."""
    vertices = {"vertices": [{}, {"x": 200}, {"x": 200, "y": 100}, {"y": 100}]}
    result = answer(
        {
            "responses": [
                {
                    "labelAnnotations": [{"mid": "/m/1", "description": "Quay", "score": 0.97}],
                    "localizedObjectAnnotations": [
                        {
                            "name": "Boat",
                            "score": 0.9,
                            "boundingPoly": {"normalizedVertices": [{"x": 0.25}, {"y": 0.5}]},
                        }
                    ],
                    "faceAnnotations": [{"boundingPoly": vertices, "detectionConfidence": 0.8}],
                    "textAnnotations": [{"description": "STOP\nNOW", "boundingPoly": vertices}],
                    "fullTextAnnotation": {"text": "STOP\nNOW"},
                    "safeSearchAnnotation": {"adult": "VERY_UNLIKELY", "racy": "LIKELY", "version": 3},
                    "imagePropertiesAnnotation": {
                        "dominantColors": {"colors": [{"color": {"red": 255, "blue": 16}, "score": 0.5}]}
                    },
                    "cropHintsAnnotation": {"cropHints": [{"boundingPoly": {}, "confidence": 0.7}]},
                    "webDetection": {"webEntities": [{"description": "Harbour", "score": 1.2}, {"score": 1}]},
                }
            ]
        },
        adapter=OFR,
    )
    features = result.columns["features"]
    assert result.caption == (
        "Quay, Boat, face, STOP NOW, adult: VERY_UNLIKELY, racy: LIKELY, #ff0010, crop hint, Harbour"
    )
    assert [feature["score"] for feature in features] == [0.97, 0.9, 0.8, None, 0.0, 0.75, 0.5, 0.7, 1.2]
    assert features[1]["box"] == {"x0": 0.0, "y0": 0.0, "x1": 0.25, "y1": 0.5}
    assert features[2]["box"] == {"x0": 0.0, "y0": 0.0, "x1": 0.5, "y1": 0.5}
    assert features[7]["box"] is None
    assert result.usage == Usage(pages=1)
    nothing = answer({"meta": {"usage": {"usd_spent": 0.001}}}, adapter=OFR)
    assert (nothing.caption, nothing.columns, nothing.cost_usd) == ("", {"features": []}, Decimal("0.001"))


def test_a_key_that_a_page_repeats() -> None:
    """Secrets are masked in columns as they are in captions."""
    secret = "sk-a-very-secret-key-0123456789"  # noqa: S105 - it is none
    found = answer({"pages": [page(f"key: {secret}")]}, redactor=Redactor([secret]))
    assert secret not in f"{found}"


def test_traits_of_a_chat_model() -> None:
    """An adapter without traits is like a chat model; a task brings its own adapter, whatever the endpoint's."""
    assert traits_of(resolve(None, {"model": "m"})).columns == ()
    assert traits_of(configured()).bills_pages
    two = {"endpoints": [{"base_url": "http://127.0.0.1:1", "api": name} for name in ("chat", "other")]}
    assert adapter_of(RunConfig.model_validate({**two, "request": {"task": "ocr"}})) is OCR
