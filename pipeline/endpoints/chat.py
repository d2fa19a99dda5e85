"""OpenAI's chat/completions, which gateways, Gemini, Anthropic's compatible layer and local servers share."""

from dataclasses import dataclass
from typing import Final

from pipeline.config.sections import RequestConfig
from pipeline.endpoints.chat_request import ChatTemplate
from pipeline.endpoints.chat_response import read_answer
from pipeline.endpoints.other_models import OtherModel
from pipeline.endpoints.reading import Response
from pipeline.records import Answer, Failure


@dataclass(frozen=True, slots=True)
class ChatAdapter:
    """The adapter `chat`."""

    path: str = "chat/completions"
    other_models: tuple[OtherModel, ...] = (
        OtherModel(field="ocr_model", source="302.AI, Image analysis: the model that reads the image first"),
        OtherModel(
            model="*-ocr",
            default="gpt-4o-mini",
            hosts=("302.ai",),
            source="302.AI, Image analysis: the same, by the model's name",
        ),
    )

    def template(self, request: RequestConfig, model: str, max_tokens_field: str) -> ChatTemplate:
        return ChatTemplate(request, model, max_tokens_field)

    def read(self, response: Response) -> Answer | Failure:
        return read_answer(response)


CHAT: Final = ChatAdapter()
