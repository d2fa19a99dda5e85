"""The settings: each is declared here once, and read where it is used.

A configuration is frozen and holds no key of an endpoint: `keys.py` reads keys where they are used.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from pipeline.config import parameters, source_settings, tasks
from pipeline.config.base_urls import normalise_base_url
from pipeline.config.prompts import MessageConfig
from pipeline.config.setting import Setting, setting_of
from pipeline.config.shards import SourceShard
from pipeline.config.types import (
    Concurrency,
    Detail,
    MessageName,
    PerMinute,
    Seconds,
    labels_schema,
    variable_name,
)

DEFAULT_PROMPT = (
    "Describe this image in one or two sentences, as a caption for a dataset. "
    "Name what is visible; do not guess at what is not. Answer with the caption only."
)

LABELS_PROMPT = (
    "Look at this image and fill in the fields of the schema. Name what is visible; do not guess at what is not."
)
"""The prompt where labels are asked for and no other is set."""


class Section(BaseModel):
    """A table of the configuration file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EndpointConfig(Section):
    """Where requests go. `[[endpoints]]` holds several of these, and each inherits from `[endpoint]`."""

    base_url: Annotated[
        str,
        AfterValidator(normalise_base_url),
        Setting(
            "The address of the endpoint, with or without /v1.",
            keyword="base_url",
            metavar="URL",
            default_help="OPENAI_BASE_URL, else OpenAI",
        ),
    ] = "https://api.openai.com/v1"
    api: Annotated[
        str,
        Field(min_length=1),
        Setting(
            "The API of the endpoint: `chat` is OpenAI's chat/completions, `responses` its Responses API.",
            keyword="api",
            metavar="chat|responses",
            default_help="chat, and responses for models that have no chat/completions",
        ),
    ] = "auto"
    api_key_env: Annotated[
        str,
        AfterValidator(variable_name),
        Setting(
            "The environment variable that holds the key. A .env file in the working directory is read too.",
            keyword="api_key_env",
            metavar="NAME",
        ),
    ] = "OPENAI_API_KEY"
    api_key_header: Annotated[
        str, Setting("The header of the key: `Authorization` sends `Bearer KEY`, any other the key alone.")
    ] = "Authorization"
    headers: Annotated[dict[str, str], Setting("Extra HTTP headers for every request.")] = {}
    query: Annotated[dict[str, str], Setting("Extra query parameters for the address of every request.")] = {}
    proxy: Annotated[str | None, Setting("The proxy of this endpoint, in place of the environment's.")] = None
    ca_file: Annotated[Path | None, Setting("A file of certificates to trust.")] = None
    connect_timeout_s: Annotated[Seconds, Setting("The longest time to connect, in seconds.")] = 10.0
    timeout_s: Annotated[Seconds, Setting("The longest time of one request, in seconds.")] = 300.0
    first_byte_timeout_s: Annotated[
        Seconds | None, Setting("The longest wait for the first byte of an answer, in seconds.")
    ] = None
    model: Annotated[
        str | None, Setting("The name of the model at this endpoint, where it differs from `request.model`.")
    ] = None
    weight: Annotated[
        float, Field(ge=1e-6, le=1e6), Setting("The share of the requests that this endpoint gets among several.")
    ] = 1.0
    concurrency: Annotated[Concurrency | None, Setting("Replaces `limits.concurrency` at this endpoint.")] = None
    rpm: Annotated[PerMinute | None, Setting("Replaces `limits.rpm` at this endpoint.")] = None
    tpm: Annotated[PerMinute | None, Setting("Replaces `limits.tpm` at this endpoint.")] = None
    _is_from_dotenv: bool = PrivateAttr(default=False)

    @property
    def is_from_dotenv(self) -> bool:
        """Whether only a `.env` file names this address, so that only a key of the same file goes there."""
        return self._is_from_dotenv

    def marked_from_dotenv(self) -> Self:
        """Returns a copy whose address is marked as one that `.env` names."""
        marked = self.model_copy()
        marked._is_from_dotenv = True  # noqa: SLF001 - of its own class
        return marked


class RequestConfig(Section):
    """What the model is asked."""

    task: tasks.Task = "caption"
    ocr: tasks.Ocr = tasks.OcrTable()
    ofr: tasks.Ofr = tasks.OfrTable()
    model: Annotated[
        str | None,
        Setting(
            "The model to ask.",
            keyword="model",
            metavar="NAME",
            default_help="the endpoint's, where it serves only one",
            in_hash=True,
        ),
    ] = None
    prompt: Annotated[
        str,
        Field(min_length=1),
        Setting(
            "The prompt that goes with every image.",
            keyword="prompt",
            metavar="TEXT",
            default_help="a caption of one or two sentences",
            in_hash=True,
        ),
    ] = DEFAULT_PROMPT
    prompt_name: Annotated[
        str, Field(min_length=1), Setting("The name of the prompt in the column `prompt_name`.", in_hash=True)
    ] = "caption"
    system: Annotated[str | None, Setting("The system prompt.", keyword="system", metavar="TEXT", in_hash=True)] = None
    system_name: Annotated[MessageName | None, Setting("The `name` of the system message.", in_hash=True)] = None
    user_name: Annotated[MessageName | None, Setting("The `name` of user messages.", in_hash=True)] = None
    messages: Annotated[
        tuple[MessageConfig, ...],
        Setting("A conversation before the prompt: tables of `role`, `text` and `images`.", in_hash=True),
    ] = ()
    image_position: Annotated[
        Literal["auto", "after", "before"],
        Setting("Images after or before the text; `auto`: after one prompt, before several.", in_hash=True),
    ] = "auto"
    message_layout: Annotated[
        Literal["together", "apart"],
        Setting("Text and images in one user message, or apart in two.", in_hash=True),
    ] = "together"
    labels: Annotated[
        str | None,
        BeforeValidator(labels_schema),
        Setting(
            "The schema of the answers: a JSON Schema file, or a pydantic model as `package.module:Model`.",
            keyword="labels",
            metavar="SCHEMA",
            in_hash=True,
        ),
    ] = None
    labels_mode: Annotated[
        Literal["auto", "json_schema", "json_object", "prompt"],
        Setting("How the schema is sent: as `response_format`, in the prompt with JSON mode, or in the prompt only."),
    ] = "auto"
    detail: Annotated[
        Detail, Setting("The resolution at which the model reads images.", keyword="detail", in_hash=True)
    ] = "auto"
    pass_urls: parameters.PassUrls = False
    max_tokens: parameters.MaxTokens = 300
    max_tokens_field: parameters.MaxTokensField = "auto"
    model_family: parameters.ModelFamily = None
    temperature: parameters.Temperature = None
    top_p: parameters.TopP = None
    n: parameters.Choices = 1
    stop: parameters.Stop = None
    seed: parameters.Seed = None
    presence_penalty: parameters.PresencePenalty = None
    frequency_penalty: parameters.FrequencyPenalty = None
    logit_bias: parameters.LogitBias = None
    user: parameters.User = None
    logprobs: parameters.Logprobs = False
    top_logprobs: parameters.TopLogprobs = None
    reasoning_effort: parameters.ReasoningEffort = None
    reasoning_allowance: parameters.ReasoningAllowance = None
    ocr_model: parameters.OcrModel = None
    service_tier: parameters.ServiceTier = None
    service_tier_fallback: parameters.ServiceTierFallback = "wait"
    stream: parameters.Stream = False
    keep_thinking: parameters.KeepThinking = False
    adapt: parameters.Adapt = False
    extra: parameters.Extra = {}
    dedup: parameters.Dedup = True
    max_failures: parameters.MaxFailures = 6

    @model_validator(mode="before")
    @classmethod
    def _from_extra(cls, data: Any) -> Any:  # noqa: ANN401 - whatever was in the file
        return parameters.without_extra(data, parameter_names() - {"temperature"})

    @model_validator(mode="before")
    @classmethod
    def _prompt_of_labels(cls, data: Any) -> Any:  # noqa: ANN401 - whatever was in the file
        if isinstance(data, dict) and data.get("labels") is not None and "prompt" not in data:
            return {**data, "prompt": LABELS_PROMPT}
        return data

    @property
    def message_texts(self) -> tuple[str | None, ...]:
        """The text of each message; None where it is not sent."""
        apart = ("",) if self.message_layout == "apart" else ()
        return self.system, *(message.text for message in self.messages), self.prompt, *apart

    @property
    def choices(self) -> int:
        """The number of answers that one request asks for."""
        return self.n

    @property
    def sent_parameters(self) -> dict[str, Any]:
        """The parameters that are not at their defaults, as a request has them."""
        fields = RequestConfig.model_fields
        each = ((name, getattr(self, name)) for name in fields if name in parameter_names())
        return {name: value for name, value in each if value != fields[name].default}


@cache
def parameter_names() -> frozenset[str]:
    """The settings of `[request]` that are parameters of the API."""
    fields = RequestConfig.model_fields
    return frozenset(name for name, field in fields.items() if setting_of(field).is_parameter)


class SourceConfig(Section):
    """How a folder or a manifest is read."""

    image_column: source_settings.ImageColumn = None
    id_column: source_settings.IdColumn = None
    extensions: source_settings.Extensions = None
    metadata: source_settings.Metadata = True
    sidecar_extension: source_settings.SidecarExtension = ".txt"
    skip_captioned: source_settings.SkipCaptioned = False
    pdf: source_settings.Pdf = "whole"
    group_by: Annotated[
        str | None,
        Setting(
            "Joins neighbouring rows with the same value of this column into one record of several images.",
            keyword="group_by",
            metavar="COLUMN",
        ),
    ] = None
    several_images: source_settings.SeveralImages = False
    allow_empty: source_settings.AllowEmpty = False
    skip_bad_rows: source_settings.SkipBadRows = False
    on_duplicate_id: source_settings.OnDuplicateId = "error"
    max_record_kb: source_settings.MaxRecordKb = 1_024
    allow_private_hosts: source_settings.AllowPrivateHosts = False
    per_host: source_settings.PerHost = 16
    confine: source_settings.Confine = False
    shard: source_settings.ShardOfN = None

    @property
    def own_shard(self) -> SourceShard | None:
        """The shard that a run reads; None: all of the source."""
        return SourceShard.of(self.shard)


class OutputConfig(Section):
    """How answers reach `data/`."""

    rows_per_part: Annotated[int, Field(ge=1, le=10**8), Setting("Rows per Parquet file.")] = 50_000
    seal_interval_s: Annotated[
        Seconds, Setting("The longest time until a committed answer is in `data/`, in seconds.")
    ] = 30.0
    metrics: Annotated[
        Path | None,
        Setting(
            "Write the figures of the run to this file for Prometheus, every few seconds and at the end.",
            keyword="metrics",
            metavar="FILE",
        ),
    ] = None


class Settings(TypedDict, total=False):
    """The settings that are keywords of `pipeline.run` and the other functions, for type checkers.

    A keyword follows from its `Setting`; a test compares the two. None leaves a setting as it is.
    """

    task: str | None
    model: str | None
    model_family: str | None
    prompt: str | None
    system: str | None
    labels: str | Path | Mapping[str, Any] | type[BaseModel] | None
    """A JSON Schema file, a schema as a dictionary, or a pydantic model."""
    detail: str | None
    pass_urls: bool | None
    max_image_tokens: int | None
    frames: int | None
    max_tokens: int | None
    temperature: float | None
    base_url: str | Sequence[str] | None
    """One address, or several endpoints that share the requests."""
    api: str | None
    api_key_env: str | None
    concurrency: int | Literal["auto"] | None
    rpm: float | None
    tpm: float | None
    max_cost: Decimal | float | str | None
    max_cost_total: Decimal | float | str | None
    max_requests: int | None
    max_time: float | str | None
    divide_limits: bool | None
    pdf: str | None
    group_by: str | None
    allow_private_hosts: bool | None
    skip_captioned: bool | None
    allow_empty: bool | None
    skip_bad_rows: bool | None
    on_duplicate_id: str | None
    shard: str | None
    engine: str | None
    shards: int | None
    dedup: bool | None
    grace_s: float | None
    metrics: str | Path | None
    overrides: Mapping[str, Any]
    """Any setting by its key: `{"images.quality": 90}`."""
