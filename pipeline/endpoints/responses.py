"""OpenAI's Responses API, which Azure, OpenRouter, vLLM and others serve at the same path."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.config.sections import RequestConfig
from pipeline.endpoints.other_models import OtherModel
from pipeline.endpoints.reading import Response
from pipeline.endpoints.responses_answer import read_answer
from pipeline.endpoints.responses_request import LACKS, ResponsesTemplate
from pipeline.records import Answer, Failure


@dataclass(frozen=True, slots=True)
class ResponsesAdapter:
    """The adapter `responses`."""

    path: str = "responses"
    other_models: tuple[OtherModel, ...] = ()
    lacks: Sequence[str] = LACKS

    def template(self, request: RequestConfig, model: str, _max_tokens_field: str) -> ResponsesTemplate:
        return ResponsesTemplate(request, model)

    def read(self, response: Response) -> Answer | Failure:
        return read_answer(response)


RESPONSES: Final = ResponsesAdapter()
