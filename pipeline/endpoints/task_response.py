"""What the responses of OCR and OFR have in common: a JSON object, an error inside a 200, the bill, and boxes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.endpoints.errors import excerpt, parse_json, read_error
from pipeline.endpoints.json_values import dict_of, number_of
from pipeline.endpoints.parsed import Parsed
from pipeline.endpoints.reading import Response
from pipeline.errors import ErrorKind
from pipeline.records import Answer, Failure, Status

Box = dict[str, float]
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class TaskResponse(Parsed):
    """A response of OCR or OFR."""

    is_object: bool = True
    """False where the body is something else, and `body` is empty."""

    @classmethod
    def of(cls, response: Response) -> "TaskResponse":
        parsed = parse_json(response.body)
        return cls(response, dict_of(parsed), isinstance(parsed, dict))

    @property
    def sent_size(self) -> tuple[int | None, int | None]:
        """Width and height of the image as sent; None where they are unknown."""
        images = self.response.images
        return (images[0].sent_width, images[0].sent_height) if images else (None, None)

    def answer(self, caption: str, columns: Mapping[str, Any], *, pages: int | None = None) -> Answer:
        """An answer with this text; an empty one is an answer, too: a blank page has no text."""
        bill = self.bill()
        return Answer(
            status=Status.OK,
            caption=caption,
            columns=columns,
            model=self.model,
            request_id=self.request_id,
            usage=replace(bill.usage, pages=pages),
            cost_usd=bill.cost_usd,
            doubts=bill.doubts,
            latency_s=self.response.latency_s,
        )

    def without(self, what: str) -> Answer | Failure:
        """What a body without this means: an error inside a 200, or something else than was asked for."""
        error = read_error(dict(self.body))
        if error.message is not None or error.number is not None:
            return self.error_inside(error)
        words = excerpt(self.response.body).strip() or "nothing"
        return self.failure(ErrorKind.INVALID_RESPONSE, f"HTTP {self.response.status} without {what}: {words}")


def box(sides: tuple[object, object, object, object], width: object, height: object) -> Box | None:
    """Left, top, right and bottom as shares of `width` and `height`; None where a number is missing."""
    whole = width, height, width, height
    shares = [_share(side, of) for side, of in zip(sides, whole, strict=True)]
    x0, y0, x1, y1 = shares
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return None
    return {"x0": min(x0, x1), "y0": min(y0, y1), "x1": max(x0, x1), "y1": max(y0, y1)}


def _share(side: object, of: object) -> float | None:
    number, whole = number_of(side), number_of(of)
    return None if number is None or not whole or whole < 0 else round(min(1.0, max(0.0, number / whole)), _DIGITS)
