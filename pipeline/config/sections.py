"""TOML, environment and flags -> one frozen `RunConfig`.

A flag beats the file, the file beats the environment, the environment beats the defaults below.
Keys of an endpoint are never part of a configuration: `api_key()` reads them where they are used.
"""

import hashlib
import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    model_validator,
)

from pipeline.config.base_urls import normalise_base_url
from pipeline.config.types import (
    Ceiling,
    Concurrency,
    Count,
    Detail,
    Dollars,
    Megabytes,
    PerMinute,
    Seconds,
    host_name,
    sendable,
    variable_name,
)

DEFAULT_PROMPT = (
    "Describe this image in one or two sentences, as a caption for a dataset. "
    "Name what is visible; do not guess at what is not. Answer with the caption only."
)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EndpointConfig(_Section):
    """Where requests go. Times are in seconds."""

    base_url: Annotated[str, AfterValidator(normalise_base_url)] = "https://api.openai.com/v1"
    api_key_env: Annotated[str, AfterValidator(variable_name)] = "OPENAI_API_KEY"
    """The environment variable that holds the key; never the key."""
    api_key_header: str = "Authorization"
    """`Authorization` sends `Bearer KEY`; any other header (Azure: `api-key`) sends the key alone."""
    headers: dict[str, str] = {}
    proxy: str | None = None
    ca_file: Path | None = None
    connect_timeout_s: Seconds = 10.0
    timeout_s: Seconds = 300.0
    """Of one request, from its first byte to the last of its answer."""
    first_byte_timeout_s: Seconds | None = None
    """The longest silence in it; None: no bound of its own, since an answer that is not streamed comes at its end."""
    model: str | None = None
    """What this endpoint calls the model of `[request]`, where it has another name for it."""
    weight: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """Its share of the requests, among several endpoints."""
    concurrency: Concurrency | None = None
    rpm: PerMinute | None = None
    tpm: PerMinute | None = None
    """These three are its own, in place of those of `[limits]`."""
    _is_from_dotenv: bool = PrivateAttr(default=False)

    @property
    def is_from_dotenv(self) -> bool:
        """Whether nothing but a `.env` file names this address, so that only a key of the same file goes there."""
        return self._is_from_dotenv

    def marked_from_dotenv(self) -> Self:
        """The same, with its address noted as one that `.env` names."""
        marked = self.model_copy()
        marked._is_from_dotenv = True  # noqa: SLF001 - of its own class
        return marked


class RequestConfig(_Section):
    """What is asked."""

    model: str | None = None
    prompt: Annotated[str, Field(min_length=1)] = DEFAULT_PROMPT
    prompt_name: Annotated[str, Field(min_length=1)] = "caption"
    system: str | None = None
    detail: Detail = "auto"
    max_tokens: Annotated[int, Field(gt=0, le=10**9)] | None = 300
    max_tokens_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """`auto` asks the catalogue what the model takes."""
    model_family: Annotated[str, Field(min_length=1)] | None = None
    """The catalogue's family that a private or deployment name belongs to (`vision-batch models` lists them)."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    extra: Annotated[dict[str, Any], AfterValidator(sendable)] = {}
    """Further fields of the request body, sent as they are (`seed`, `top_p`, `ocr_model`, ...)."""
    dedup: bool = True
    """Whether equal requests (same pixels, same question) share one answer."""
    max_failures: Annotated[int, Field(ge=1, le=1000)] = 6
    """Attempts of one record that may fail for a transient reason before its row says `failed`."""

    @property
    def choices(self) -> int:
        """How many answers one request asks for."""
        n = self.extra.get("n")
        return n if isinstance(n, int) and n > 0 else 1


class ImagesConfig(_Section):
    """How images are prepared."""

    quality: Annotated[int, Field(ge=1, le=95)] = 85
    """Of the JPEG that is sent where an image is resized or converted."""
    max_side: Annotated[int, Field(ge=16, le=10**6)] | None = None
    """A further limit for the longer side, in pixels."""
    max_image_tokens: Annotated[int, Field(ge=1, le=10**9)] | None = None
    """Images are sent smaller where the model's rule expects more tokens than this."""
    verify: Literal["structure", "full"] = "structure"
    """How an image that is sent unchanged is checked: its structure, or by decoding it."""
    keep_metadata: bool = False
    """Send EXIF (GPS!), XMP and comments of images that need no resize."""
    max_megapixels: Megabytes = 178.0
    max_file_mb: Megabytes = 256.0
    max_sent_mb: Megabytes = 4.0
    """An image that would be sent unchanged and is larger than this is sent as JPEG instead."""
    max_decoded_mb: Megabytes = 512.0
    """An image is not decoded where its file, its decoder and its pixels would take more memory than this."""
    decode_mb: Annotated[int, Field(ge=1, le=10**9)] = 256
    """Memory for images being decoded, all threads together; one that takes more is decoded alone. As much again holds
    images that are fetched, or files that are read, and not decoded yet.
    """
    prepared_mb: Annotated[int, Field(ge=1, le=10**9)] = 128
    """Memory for requests that are ready, in flight or waiting for another try."""
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    """Decoding threads; 0: one a core."""


class SourceConfig(_Section):
    """How a manifest is read. Columns are found by convention where they are not named."""

    image_column: str | None = None
    id_column: str | None = None
    skip_bad_rows: bool = False
    on_duplicate_id: Literal["error", "first"] = "error"
    """Whether an id that stands twice ends the command, or its first row counts."""
    max_record_kb: Annotated[int, Field(ge=1, le=32_768)] = 1_024
    """The most that the other columns of a row may take as JSON, in KiB; a row with more is a bad row."""


class LimitsConfig(_Section):
    """What the endpoint, and the user, allow."""

    concurrency: Concurrency = "auto"
    """Requests in flight; `auto` finds how many the endpoint can use."""
    rpm: PerMinute | None = None
    """Requests a minute. What the endpoint tells in its headers tightens this and `tpm`, and never loosens them."""
    tpm: PerMinute | None = None
    """Tokens a minute."""
    count_tokens: Literal["auto", "requested", "billed"] = "auto"
    """What the endpoint counts as tokens: the prompt and `max_tokens`, or what it bills; `auto` asks the catalogue."""
    straggler_s: Seconds = 10.0
    """No request is given up sooner; beyond it, at four times what nearly all answers take."""
    max_wait_s: Seconds = 3600.0
    """The longest wait that an endpoint may ask for; beyond it the run stops."""
    max_error_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of the last 200 records that may fail alike before the run stops."""
    outage_s: Seconds = 1800.0
    first_contact_s: Seconds = 10.0
    """How long to try an endpoint that has never answered in this run."""
    grace_s: Annotated[float, Field(ge=0, le=1e9)] = 60.0
    """How long what is in flight may take to come home after Ctrl-C."""


class BudgetConfig(_Section):
    """What a run may spend at most. A ceiling that is reached ends the run with exit code 3; it can go on later."""

    max_cost_usd: Ceiling | None = None
    """Of this run, its resumes included."""
    max_cost_total_usd: Ceiling | None = None
    """Of all runs on this OUT."""
    confirm_usd: Dollars = Decimal(10)
    """What a run without a ceiling may be expected to cost unasked; where that is unknown, its ceiling."""
    max_requests: Count | None = None
    """Of this run, as `max_tokens`."""
    max_tokens: Count | None = None
    max_time_s: Seconds | None = None
    """Of this command."""


class OutputConfig(_Section):
    """How answers reach `data/`."""

    rows_per_part: Annotated[int, Field(ge=1, le=10**8)] = 50_000
    seal_interval_s: Seconds = 30.0
    """How soon an answer that is kept shows in `data/`."""


class OwnPrice(_Section):
    """What one model costs, as the user knows it: US dollars. It counts before every published price."""

    model: Annotated[str, Field(min_length=1)]
    """A name, or a shell pattern, with or without a gateway's prefix."""
    base_url: Annotated[str, AfterValidator(normalise_base_url)] | None = None
    """Only at this endpoint; None: wherever it is asked."""
    input_usd_per_mtok: Dollars | None = None
    """A million tokens; so the next two."""
    output_usd_per_mtok: Dollars | None = None
    cached_usd_per_mtok: Dollars | None = None
    usd_per_image: Dollars | None = None
    usd_per_request: Dollars | None = None
    source: str = "own price"
    checked_on: date | None = None

    @model_validator(mode="after")
    def _says_a_price(self) -> Self:
        by_token = self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None
        half = (self.input_usd_per_mtok is None) != (self.output_usd_per_mtok is None)
        if half or not (by_token or self.usd_per_image is not None or self.usd_per_request is not None):
            raise ValueError(
                f"the price of {self.model!r} needs input_usd_per_mtok and output_usd_per_mtok, "
                "or usd_per_image, or usd_per_request"
            )
        return self


class PricesConfig(_Section):
    """What nobody publishes: the user's own contracts, and machines of one's own."""

    usd_per_hour: Ceiling | None = None
    """Of the machines that serve the model, where tokens cost nothing."""
    models: tuple[OwnPrice, ...] = ()
    """The first one that matches counts."""


class CatalogueConfig(_Section):
    """What is known of models, beyond what ships with the package."""

    file: Path | None = None
    """Families in the format of the package's own files; they count before those."""
    host: Annotated[str, AfterValidator(host_name)] | None = None
    """Whose rules count, where the endpoint's address does not tell: a gateway that passes on to `siliconflow.cn`."""


class RunConfig(_Section):
    """One run as declared. `config.toml` in OUT holds it as resolved."""

    endpoint: EndpointConfig = EndpointConfig()
    endpoints: tuple[EndpointConfig, ...] = ()
    """Several to share the work, each with what it does not say itself from `endpoint`."""
    request: RequestConfig = RequestConfig()
    images: ImagesConfig = ImagesConfig()
    source: SourceConfig = SourceConfig()
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig = BudgetConfig()
    output: OutputConfig = OutputConfig()
    prices: PricesConfig = PricesConfig()
    catalogue: CatalogueConfig = CatalogueConfig()

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, data: Any) -> Any:  # noqa: ANN401 - whatever was in the file
        if (
            isinstance(data, dict)
            and isinstance(data.get("endpoints"), list)
            and isinstance(data.get("endpoint", {}), dict)
        ):
            shared = {**data.get("endpoint", {})}
            data = {
                **data,
                "endpoints": [{**shared, **one} if isinstance(one, dict) else one for one in data["endpoints"]],
            }
        return data

    @property
    def all_endpoints(self) -> tuple[EndpointConfig, ...]:
        return self.endpoints or (self.endpoint,)

    @property
    def rules_host(self) -> str:
        """The host whose own token rules count, where there are any."""
        return self.catalogue.host or urlsplit(self.all_endpoints[0].base_url).hostname or ""

    def identity(self) -> dict[str, Any]:
        """What makes two rows comparable: the question, not the way it travelled."""
        travel = {"max_failures", "max_tokens_field", "model_family", "dedup"}
        request = self.request.model_dump(mode="json", exclude=travel)
        images = self.images.model_dump(mode="json", include={"quality", "max_side"})
        limit = self.images.max_image_tokens
        return {**request, **images, **({} if limit is None else {"max_image_tokens": limit})}

    def config_hash(self) -> str:
        """16 hexadecimal digits of the declared question; prices and token rules are not part of it."""
        text = json.dumps(self.identity(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
