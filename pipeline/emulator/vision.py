"""POST vision: an image is answered with features, as Google's Vision names them, of what can be measured in it.

Shapes: as `endpoints/ofr.py` names them. The features that cannot be measured are empty lists.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import pybase64

from pipeline.emulator.answers import ERROR_IN_200
from pipeline.emulator.api_errors import ApiError, invalid_type, invalid_value, missing, prompt_blocked
from pipeline.emulator.apis import Api, Body, Made, Serves
from pipeline.emulator.billing import Billing
from pipeline.emulator.chat_request import ChatRequest, SentImage, image_bytes
from pipeline.emulator.faults import Fault
from pipeline.emulator.page_bills import meta_of
from pipeline.emulator.pixels import Look

_LISTS: Final[Mapping[str, str]] = {
    "FACE_DETECTION": "faceAnnotations",
    "LANDMARK_DETECTION": "landmarkAnnotations",
    "LOGO_DETECTION": "logoAnnotations",
    "LABEL_DETECTION": "labelAnnotations",
    "TEXT_DETECTION": "textAnnotations",
    "DOCUMENT_TEXT_DETECTION": "textAnnotations",
    "SAFE_SEARCH_DETECTION": "safeSearchAnnotation",
    "IMAGE_PROPERTIES": "imagePropertiesAnnotation",
    "CROP_HINTS": "cropHintsAnnotation",
    "WEB_DETECTION": "webDetection",
    "PRODUCT_SEARCH": "productSearchResults",
    "OBJECT_LOCALIZATION": "localizedObjectAnnotations",
}
_FIELDS: Final = frozenset({"image", "features", "imageContext"})
_MODEL: Final = "ofr"


def parse_vision(payload: object, _serves: Serves, _billing: Billing) -> ChatRequest:
    """A request as one about its image. Raises ApiError."""
    if not isinstance(payload, dict):
        raise ApiError(400, "The JSON body of your request must be an object.")
    if unknown := next((name for name in payload if name not in _FIELDS), None):
        raise ApiError(400, f"Unrecognized key(s) in object: '{unknown}'", param=unknown)
    features = payload.get("features")
    if not isinstance(features, list) or not features:
        raise missing("features") if features is None else invalid_type("features", "an array of objects", features)
    for number, one in enumerate(features):
        kind = one.get("type") if isinstance(one, dict) else one
        if kind not in _LISTS:
            raise invalid_value(f"features[{number}].type", kind, tuple(_LISTS))
    return ChatRequest(model=_MODEL, messages=0, texts=(), images=(_image(payload.get("image")),))


def _image(image: object) -> SentImage:
    if not isinstance(image, dict):
        raise missing("image")
    if isinstance(content := image.get("content"), str):
        try:
            return SentImage(pybase64.b64decode(content, validate=True), "auto", "image.content")
        except ValueError:
            raise invalid_type("image.content", "base64", content) from None
    source = image.get("source")
    url = source.get("imageUri") if isinstance(source, dict) else None
    if not isinstance(url, str):
        raise missing("image.source.imageUri")
    return SentImage(image_bytes(url, "image.source.imageUri"), "auto", "image.source.imageUri")


def vision_body(made: Made, usd_per_page: float | None) -> Body:
    """One list or object for each feature that is asked for."""
    if made.answer.refusal is not None or made.answer.finish_reason == "content_filter":
        raise prompt_blocked()
    found: Body = {}
    for asked in made.payload["features"]:
        name, most = _LISTS[asked["type"]], asked.get("maxResults")
        make = _MAKERS.get(asked["type"])
        features = [] if make is None or made.fault is Fault.EMPTY_CHOICES else make(made)
        found[name] = features[:most] if isinstance(features, list) else features
    return {**found, **meta_of(1, usd_per_page)}


def _labels(made: Made) -> list[Body]:
    """What stands between the commas of the sentence about the image."""
    parts = [part.strip(" .") for part in (made.answer.content or "").split(",")]
    return [
        {"mid": f"/m/{number:03}", "description": part, "score": round(0.99 - number / 100, 2), "topicality": 0.5}
        for number, part in enumerate(filter(None, parts))
    ]


def _objects(made: Made) -> list[Body]:
    """The picture itself, in the middle half of the image."""
    corners = [{"x": 0.25, "y": 0.25}, {"x": 0.75, "y": 0.25}, {"x": 0.75, "y": 0.75}, {"x": 0.25, "y": 0.75}]
    one = {"mid": "/m/0", "name": "Picture", "score": 0.9, "boundingPoly": {"normalizedVertices": corners}}
    return [one for _ in made.looks]


def _texts(made: Made) -> list[Body]:
    return [{"description": made.answer.content or "", "boundingPoly": _whole(look)} for look in made.looks]


def _whole(look: Look) -> Body:
    """The whole image in pixels; a coordinate that is 0 is left out, as Google does."""
    width, height = look.width, look.height
    return {"vertices": [{}, {"x": width}, {"x": width, "y": height}, {"y": height}]}


def _safety(_made: Made) -> Body:
    return dict.fromkeys(("adult", "spoof", "medical", "violence", "racy"), "VERY_UNLIKELY")


_MAKERS: Final[Mapping[str, Callable[[Made], Any]]] = {
    "LABEL_DETECTION": _labels,
    "OBJECT_LOCALIZATION": _objects,
    "TEXT_DETECTION": _texts,
    "DOCUMENT_TEXT_DETECTION": _texts,
    "SAFE_SEARCH_DETECTION": _safety,
}


def vision_api(usd_per_page: float | None) -> Api:
    """OFR that states what an image costs, or does not."""
    return Api(
        parse_vision,
        lambda made: vision_body(made, usd_per_page),
        lambda _, __: [],
        ERROR_IN_200,
        list,
        bills_tokens=False,
    )
