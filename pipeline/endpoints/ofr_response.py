"""A response of OFR -> `Answer` or `Failure`: the features that were found, and their names as a text.

Shape: Google, Cloud Vision, `AnnotateImageResponse` (v1), alone or in `responses`. Labels, landmarks, logos and texts
have a `description`, objects a `name`; a face has neither, and is called `face`. Safe search and colours have no box:
they are features whose names say what was measured. `ofr.py` says what was verified.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pipeline.endpoints.json_values import count_of, dict_of, dicts_of, number_of, string_of, word_of
from pipeline.endpoints.reading import Response
from pipeline.endpoints.task_response import Box, TaskResponse, box
from pipeline.records import Answer, Failure

_LISTS: Final[Mapping[str, str | None]] = {
    "labelAnnotations": None,
    "localizedObjectAnnotations": None,
    "landmarkAnnotations": None,
    "logoAnnotations": None,
    "faceAnnotations": "face",
    "textAnnotations": None,
}
"""Lists of features, and what their entries are called where they have no name of their own."""
_LIKELIHOODS: Final[Mapping[str, float]] = {
    "VERY_UNLIKELY": 0.0, "UNLIKELY": 0.25, "POSSIBLE": 0.5, "LIKELY": 0.75, "VERY_LIKELY": 1.0,
}  # fmt: skip
"""Google's words as scores: even steps, our choice."""
_STATUS_OF_CODE: Final[Mapping[int, int]] = {3: 400, 5: 400, 7: 400, 8: 429, 9: 400, 11: 400}
"""`google.rpc.Code`, and the HTTP status of the same meaning; the rest are errors of the server.

Such an error is about one image: what is not found (5) or not allowed (7) is its address, not the model or the key.
"""
_OTHERS: Final = frozenset(
    {"fullTextAnnotation", "safeSearchAnnotation", "imagePropertiesAnnotation", "cropHintsAnnotation", "webDetection",
     "productSearchResults"}
)  # fmt: skip

Feature = dict[str, Any]
Size = tuple[int | None, int | None]


def read_ofr(response: Response) -> Answer | Failure:
    """What a response with a 2xx status means. An image without features is an answer."""
    parsed = TaskResponse.of(response)
    found = _annotations(parsed.body) if parsed.is_object else None
    if found is None or (dict_of(found.get("error")) and not _is_annotated(found)):
        return TaskResponse(response, _numbered(found or parsed.body)).without("features")
    features = list(_features(found, parsed.sent_size))
    names = dict.fromkeys(" ".join(feature["name"].split()) for feature in features)
    return parsed.answer(", ".join(names), {"features": features}, pages=1)


def _numbered(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with the HTTP status that the number of Google's error stands for."""
    error = dict_of(body.get("error"))
    status = _STATUS_OF_CODE.get(count_of(error.get("code")) or 0)
    return body if status is None else {**body, "error": {**error, "code": status}}


def _annotations(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The object with the annotations; None where there is none. One that found nothing is empty."""
    responses = body.get("responses")
    if isinstance(responses, list) and responses:
        return dict_of(responses[0])
    has_error = "error" in body or "message" in body or "statusCode" in body
    return body if _is_annotated(body) or (not has_error and set(body) <= {"meta", "context", "usage"}) else None


def _is_annotated(body: Mapping[str, Any]) -> bool:
    return any(name in body for name in (*_LISTS, *_OTHERS))


def _features(found: Mapping[str, Any], size: Size) -> Iterator[Feature]:
    for name, called in _LISTS.items():
        for one in dicts_of(found.get(name)):
            own = string_of(one.get("description")) or string_of(one.get("name")) or called
            if own is not None:
                yield _feature(own, one, size)
    yield from _text(found)
    for kind, likelihood in dict_of(found.get("safeSearchAnnotation")).items():
        if word_of(likelihood, _LIKELIHOODS):
            yield {"name": f"{kind}: {likelihood}", "score": _LIKELIHOODS[likelihood], "box": None}
    for one in dicts_of(dict_of(dict_of(found.get("imagePropertiesAnnotation")).get("dominantColors")).get("colors")):
        yield {"name": _colour(dict_of(one.get("color"))), "score": number_of(one.get("score")), "box": None}
    for one in dicts_of(dict_of(found.get("cropHintsAnnotation")).get("cropHints")):
        yield _feature("crop hint", one, size)
    for one in dicts_of(dict_of(found.get("webDetection")).get("webEntities")):
        if (entity := string_of(one.get("description"))) is not None:
            yield {"name": entity, "score": number_of(one.get("score")), "box": None}


def _text(found: Mapping[str, Any]) -> Iterator[Feature]:
    """The text of a document, where no list holds it already."""
    text = string_of(dict_of(found.get("fullTextAnnotation")).get("text"))
    if text is not None and not found.get("textAnnotations"):
        yield {"name": text, "score": None, "box": None}


def _feature(name: str, one: Mapping[str, Any], size: Size) -> Feature:
    scores = (number_of(one.get(key)) for key in ("score", "detectionConfidence", "confidence"))
    score = next((score for score in scores if score is not None), None)
    return {"name": name, "score": score, "box": _box(one, size)}


def _box(one: Mapping[str, Any], size: Size) -> Box | None:
    """The rectangle around a polygon, whose corners are pixels of the image as sent, or shares of it.

    Google leaves out a coordinate that is 0.
    """
    polygon = dict_of(one.get("boundingPoly"))
    for key, (width, height) in (("normalizedVertices", (1, 1)), ("vertices", size)):
        corners = dicts_of(polygon.get(key))
        across = [number for corner in corners if (number := number_of(corner.get("x", 0))) is not None]
        down = [number for corner in corners if (number := number_of(corner.get("y", 0))) is not None]
        if across and down:
            return box((min(across), min(down), max(across), max(down)), width, height)
    return None


def _colour(colour: Mapping[str, Any]) -> str:
    red, green, blue = (int(min(255, max(0, number_of(colour.get(name)) or 0))) for name in ("red", "green", "blue"))
    return f"#{red:02x}{green:02x}{blue:02x}"
