"""A successful response and the JSON object in it: its bill, and what it means where it holds no answer."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.endpoints.errors import ErrorBody, classify, request_id, status_inside
from pipeline.endpoints.reading import Response, refused_or_failed
from pipeline.endpoints.usage import StatedBill, believed
from pipeline.errors import ErrorKind
from pipeline.http.values import retry_after
from pipeline.records import Answer, Failure, Usage
from pipeline.redaction.redactor import one_line


@dataclass(frozen=True, slots=True)
class Parsed:
    """A response and the JSON object in it; an empty one where its body is something else."""

    response: Response
    body: Mapping[str, Any]

    @property
    def model(self) -> str | None:
        """The model as served."""
        model = self.body.get("model")
        return model if isinstance(model, str) and model else None

    @property
    def request_id(self) -> str | None:
        return request_id(self.response.headers, self.body)

    def bill(self, *, has_text: bool = False) -> StatedBill:
        """What the response states of usage and cost, as far as it is believed."""
        response = self.response
        bill = believed(self.body, response.headers, response.most, has_text=has_text)
        if not bill.doubts:
            return bill
        return replace(bill, doubts=tuple(one_line(doubt, response.redactor) for doubt in bill.doubts))

    def failure(self, kind: ErrorKind, message: str, param: str | None = None) -> Failure:
        """What it is where it holds no answer; its bill is kept."""
        bill = self.bill()
        return Failure(
            kind=kind,
            message=one_line(message, self.response.redactor),
            status=self.response.status,
            retry_after_s=retry_after(self.response.headers),
            request_id=self.request_id,
            model=self.model,
            usage=None if bill.usage == Usage() else bill.usage,
            cost_usd=bill.cost_usd,
            doubts=bill.doubts,
            param=param,
        )

    def error_inside(self, error: ErrorBody) -> Answer | Failure:
        """What an error in its body means: a failure, or a refusal."""
        message = error.message or "an error inside a successful response, without a message"
        failure = self.failure(classify(status_inside(error), error), message, error.param)
        return refused_or_failed(failure, self.response.latency_s)
