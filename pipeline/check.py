"""One small request that tells whether a run would work: address, key, model, and that the image is seen."""

import hashlib
import io
from dataclasses import asdict, dataclass
from decimal import Decimal

from PIL import Image, ImageDraw

from pipeline.config import ImagesConfig, RunConfig, api_key
from pipeline.edges.chat import ChatEndpoint
from pipeline.errors import EndpointStoppedError
from pipeline.policy.retry import stop_message
from pipeline.records import Answer, Failure, ImageFacts, ImageRecord, PreparedImage, PreparedRequest
from pipeline.stages import Clock
from pipeline.steps import Preparer, PricedChat, price_for, with_model
from pipeline.wire import open_session

PROMPT = "Which colour is the large shape in this image? Answer with the colour only."
COLOUR = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """What one request told."""

    endpoint: str
    model: str
    answer: str | None
    sees_images: bool
    """The answer names the colour of the picture."""
    prompt_tokens: int | None
    predicted_prompt_tokens: int | None
    completion_tokens: int | None
    cost_usd: Decimal | None
    latency_s: float

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; money as text."""
        return asdict(self) | {"cost_usd": None if self.cost_usd is None else str(self.cost_usd)}

    def lines(self) -> list[str]:
        """The same for people."""
        predicted = "" if self.predicted_prompt_tokens is None else f" ({self.predicted_prompt_tokens:,} predicted)"
        cost = "unknown" if self.cost_usd is None else f"${self.cost_usd:.6f}"
        seen = "yes" if self.sees_images else f"not certain: the picture is {COLOUR}"
        return [
            f"endpoint    {self.endpoint}: reachable, the request was accepted",
            f"model       {self.model}",
            f"sees images {seen}; it answered {self.answer!r}",
            f"tokens      {_number(self.prompt_tokens)} in{predicted}, {_number(self.completion_tokens)} out",
            f"cost        {cost}",
            f"latency     {self.latency_s:.2f} s",
        ]


def _number(count: int | None) -> str:
    return "not told" if count is None else f"{count:,}"


async def check_endpoint(config: RunConfig, *, emulated: bool = False) -> CheckReport:
    """Ask about one picture drawn here. Raises EndpointStoppedError in the provider's words."""
    async with open_session(config.endpoint, connections=1) as session:
        chat = ChatEndpoint(session, config.endpoint, api_key(config.endpoint))
        config = await with_model(config, chat)
        question = config.request.model_copy(update={"prompt": PROMPT, "system": None})
        config = config.model_copy(update={"request": question})
        prepared = Preparer.build(config, Clock().utc().date()).request(
            ImageRecord("check", "check", "check"), drawn(config.images)
        )
        result = await PricedChat(chat, price_for(config, config.endpoint, emulated=emulated))(prepared)
    if isinstance(result, Failure):
        raise EndpointStoppedError(stop_message(result))
    return _report(config, prepared, result, emulated=emulated)


def drawn(images: ImagesConfig) -> PreparedImage:
    """A red square with a white edge, 256 x 256 pixels, as JPEG."""
    picture = Image.new("RGB", (256, 256), "white")
    ImageDraw.Draw(picture).rectangle((16, 16, 239, 239), fill=COLOUR)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=images.quality)
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    facts = ImageFacts(
        width=256, height=256, sent_width=256, sent_height=256,
        sent_bytes=len(data), source_bytes=len(data), sha256=sha256,
    )  # fmt: skip
    return PreparedImage(data=data, media_type="image/jpeg", sha256=sha256, facts=facts)


def _report(config: RunConfig, prepared: PreparedRequest, answer: Answer, *, emulated: bool) -> CheckReport:
    return CheckReport(
        endpoint="emulator" if emulated else config.endpoint.base_url,
        model=answer.model or config.request.model or "",
        answer=answer.caption,
        sees_images=COLOUR in (answer.caption or "").lower(),
        prompt_tokens=answer.usage.prompt_tokens,
        predicted_prompt_tokens=prepared.predicted_prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        cost_usd=answer.cost_usd,
        latency_s=answer.latency_s,
    )
