"""What a response means, for every kind of endpoint: its status, its limits, its secrets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pipeline.endpoints.errors import read_failure
from pipeline.endpoints.ratelimit_headers import rate_limit_info
from pipeline.errors import ErrorKind
from pipeline.limits.budget import Amounts
from pipeline.limits.decision import SUCCESSES
from pipeline.records import Answer, Failure, ImageFacts, Status, Usage
from pipeline.redaction.redactor import NOTHING_SECRET, Redactor


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A response as it came."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive, or in lower case."""
    body: bytes
    latency_s: float
    """Seconds from sending to the last byte."""
    redactor: Redactor = NOTHING_SECRET
    """Cleans texts before they are cut short; what `read_response` returns is clean throughout."""
    most: Amounts | None = None
    """The predicted upper bound of the request: usage far beyond it is not believed."""
    images: tuple[ImageFacts, ...] = ()
    """Of the request."""
    keep_thinking: bool = False
    """Whether thoughts stay in the text (`request.keep_thinking`)."""


def read_response(response: Response, read: Callable[[Response], Answer | Failure]) -> Answer | Failure:
    """What one response means; `read` is the adapter's, for a 2xx status.

    A refusal, of the model or of a content filter, is an Answer with status REFUSED: it is final, and may have been
    billed. Usage and the provider's own cost are kept of failures, too.
    """
    if response.status in SUCCESSES:
        result = read(response)
    else:
        failure = read_failure(response.status, response.headers, response.body, response.redactor)
        result = refused_or_failed(failure, response.latency_s)
    result = response.redactor.result(result)
    limits = rate_limit_info(response.headers)
    return result if limits is None else replace(result, limits=limits)


def refused_or_failed(failure: Failure, latency_s: float) -> Answer | Failure:
    """The failure, or the refusal that a content filter's rejection is."""
    if failure.kind is not ErrorKind.CONTENT_FILTER:
        return failure
    return Answer(
        status=Status.REFUSED,
        caption=None,
        model=failure.model,
        request_id=failure.request_id,
        usage=failure.usage or Usage(),
        cost_usd=failure.cost_usd,
        doubts=failure.doubts,
        latency_s=latency_s,
        error_kind=failure.kind,
        error_message=failure.message,
    )
