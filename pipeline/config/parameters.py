"""The parameters of a request under the API's own names: types, bounds and descriptions, which `sections.py` lists.

Each is sent under its own name where it is not at its default. Source: OpenAI's API specification, chat/completions.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from pipeline.config.setting import Setting
from pipeline.config.types import sendable

_64_BITS = Field(ge=-(2**63), le=2**63 - 1)
_WORD = Field(pattern=r"^[a-z0-9_-]+$", max_length=40)


def _no_limit(value: object) -> object:
    return None if value == "none" else value


MaxTokens = Annotated[
    Annotated[int, Field(gt=0, le=10**9)] | None,
    BeforeValidator(_no_limit),
    PlainSerializer(lambda value: "none" if value is None else value, when_used="json"),
    Setting(
        "The longest answer, in tokens; none sends no limit.", keyword="max_tokens", metavar="N|none", in_hash=True
    ),
]
PassUrls = Annotated[
    bool,
    Setting(
        "Send public http(s) addresses of images as they are, for the provider to fetch; others are sent as bytes.",
        keyword="pass_urls",
        in_hash=True,
    ),
]
Temperature = Annotated[
    Annotated[float, Field(ge=0, le=2)] | None,
    Setting(
        "The sampling temperature.",
        keyword="temperature",
        metavar="X",
        default_help="the model's own",
        in_hash=True,
        is_parameter=True,
    ),
]
TopP = Annotated[
    Annotated[float, Field(gt=0, le=1)] | None,
    Setting(
        "Sample from the likeliest tokens that have this share of the probability.", in_hash=True, is_parameter=True
    ),
]
Choices = Annotated[
    Annotated[int, Field(ge=1, le=128)],
    Setting(
        "The number of answers to each request; above 1 the column `captions` holds all.",
        in_hash=True,
        is_parameter=True,
    ),
]
Stop = Annotated[
    str | tuple[str, ...] | None,
    Setting("A text, or several, at which the answer ends.", in_hash=True, is_parameter=True),
]
Seed = Annotated[
    Annotated[int, _64_BITS] | None,
    Setting("Asks the provider to sample alike each time, as far as it can.", in_hash=True, is_parameter=True),
]
PresencePenalty = Annotated[
    Annotated[float, Field(ge=-2, le=2)] | None,
    Setting("Above 0 it makes tokens less likely that the answer has already.", in_hash=True, is_parameter=True),
]
FrequencyPenalty = Annotated[
    Annotated[float, Field(ge=-2, le=2)] | None,
    Setting(
        "Above 0 it makes tokens less likely, the more often the answer has them.", in_hash=True, is_parameter=True
    ),
]
LogitBias = Annotated[
    dict[str, Annotated[int, Field(ge=-100, le=100)]] | None,
    Setting("A bias from -100 to 100 for tokens, by their number.", in_hash=True, is_parameter=True),
]
User = Annotated[str | None, Setting("A name of the end user, for the provider's checks of abuse.", is_parameter=True)]
ReasoningEffort = Annotated[
    Annotated[str, _WORD] | None,
    Setting(
        "How much the model reasons before it answers.",
        default_help="the lowest effort that the catalogue has for the model",
        in_hash=True,
        is_parameter=True,
    ),
]
Logprobs = Annotated[
    bool,
    Setting(
        "Ask for the probability of each token; the column `confidence` holds the answer's mean.",
        in_hash=True,
        is_parameter=True,
    ),
]
TopLogprobs = Annotated[
    Annotated[int, Field(ge=0, le=20)] | None,
    Setting("With `request.logprobs`: likely tokens to report at each place.", in_hash=True, is_parameter=True),
]
OcrModel = Annotated[
    Annotated[str, Field(min_length=1)] | None,
    Setting(
        "The model that reads each image for a text model (302.AI); both are billed.", in_hash=True, is_parameter=True
    ),
]
ServiceTier = Annotated[
    Annotated[str, _WORD] | None,
    Setting("The provider's service tier: OpenAI has `flex`, `priority`, `default` and `auto`.", is_parameter=True),
]
ServiceTierFallback = Annotated[
    Literal["wait", "default"],
    Setting("Where the service tier has no capacity: wait for it, or send the request at the default tier."),
]
ReasoningAllowance = Annotated[
    Annotated[int, Field(ge=0, le=10**9)] | None,
    Setting(
        "Tokens for reasoning, which are added to `request.max_tokens`.",
        default_help="by the catalogue, for the model and its effort",
    ),
]
Stream = Annotated[bool, Setting("Ask for a streamed answer, for gateways that only stream; it is read whole.")]
KeepThinking = Annotated[
    bool, Setting("Leave what stands between `<think>` and `</think>` in the caption.", in_hash=True)
]
Adapt = Annotated[
    bool, Setting("Leave out parameters that the model or the endpoint does not take, instead of ending with an error.")
]
MaxTokensField = Annotated[
    Literal["auto", "max_tokens", "max_completion_tokens"],
    Setting("The request's name for `request.max_tokens`; `auto` looks it up in the catalogue."),
]
ModelFamily = Annotated[
    Annotated[str, Field(min_length=1)] | None,
    Setting(
        "The model family to assume for a model name of your own; `vision-batch models` lists the families.",
        keyword="model_family",
        metavar="NAME",
    ),
]
Extra = Annotated[
    dict[str, Any],
    AfterValidator(sendable),
    Setting("Further fields of the request, sent as they are: `top_k`, ...", in_hash=True),
]
Dedup = Annotated[
    bool,
    Setting(
        "Send equal requests (same pixels, same prompt) once and share the answer.",
        keyword="dedup",
        off_help="Send every request, equal ones too.",
    ),
]
MaxFailures = Annotated[
    int, Field(ge=1, le=1000), Setting("Transient failures of one record before its row is `failed`.")
]


def without_extra(data: Any, parameters: frozenset[str]) -> Any:  # noqa: ANN401 - whatever was in the file
    """`[request]` with the parameters that `extra` held before they had settings of their own."""
    if not isinstance(data, dict) or not isinstance(data.get("extra"), dict):
        return data
    moved = {name: value for name, value in data["extra"].items() if name in parameters}
    twice = next((name for name in moved if name in data), None)
    if twice is not None:
        raise ValueError(f"{twice} is set, and extra.{twice} too: leave extra.{twice} out")
    extra = {name: value for name, value in data["extra"].items() if name not in moved}
    return {**data, **moved, "extra": extra} if moved else data
