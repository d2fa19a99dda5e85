"""TOML, environment and flags -> one frozen `RunConfig`.

A flag beats the file, the file beats the environment, the environment beats the defaults below.
Keys of an endpoint are never part of a configuration: `api_key()` reads them where they are used.
"""

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WrapValidator, model_validator

from pipeline.errors import InputError

DEFAULT_PROMPT = (
    "Describe this image in one or two sentences, as a caption for a dataset. "
    "Name what is visible; do not guess at what is not. Answer with the caption only."
)
PRESET_DIRS = (Path(__file__).parent / "configs", Path(__file__).parent.parent / "configs")

Detail = Literal["low", "high", "auto", "original"]


def normalise_base_url(url: str) -> str:
    """The address up to and without `/chat/completions`; a bare host gets `/v1`, where all of them listen."""
    if "://" not in url:
        url = f"http://{url}" if is_loopback(f"//{url}") else f"https://{url}"
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http(s) address")
    if parts.username or parts.password:
        raise ValueError("an address does not hold a key: put it into the environment variable of api_key_env")
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    return urlunsplit((parts.scheme, parts.netloc, path or "/v1", parts.query, ""))


def _host_name(name: str) -> str:
    if re.fullmatch(r"[\w-]+(\.[\w-]+)*", name) is None:
        raise ValueError("not a host's name: write it without https:// and path, for example siliconflow.cn")
    return name.lower()


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _concurrency(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("auto, or a number from 1 on")


Concurrency = Annotated[int | Literal["auto"], WrapValidator(lambda value, _: _concurrency(value))]


class EndpointConfig(_Section):
    """Where requests go. Times are in seconds."""

    base_url: Annotated[str, AfterValidator(normalise_base_url)] = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; never the key."""
    api_key_header: str = "Authorization"
    """`Authorization` sends `Bearer KEY`; any other header (Azure: `api-key`) sends the key alone."""
    headers: dict[str, str] = {}
    proxy: str | None = None
    ca_file: Path | None = None
    connect_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    first_byte_timeout_s: Annotated[float, Field(gt=0)] = 120.0
    timeout_s: Annotated[float, Field(gt=0)] = 300.0
    model: str | None = None
    """What this endpoint calls the model of `[request]`, where it has another name for it."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its share of the requests, among several endpoints."""
    concurrency: Concurrency | None = None
    rpm: Annotated[float, Field(gt=0)] | None = None
    tpm: Annotated[float, Field(gt=0)] | None = None
    """These three are its own, in place of those of `[limits]`."""


class RequestConfig(_Section):
    """What is asked."""

    model: str | None = None
    prompt: Annotated[str, Field(min_length=1)] = DEFAULT_PROMPT
    prompt_name: Annotated[str, Field(min_length=1)] = "caption"
    system: str | None = None
    detail: Detail = "auto"
    max_tokens: Annotated[int, Field(gt=0)] | None = 300
    max_tokens_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    """`auto` asks the catalogue what the model takes."""
    model_family: Annotated[str, Field(min_length=1)] | None = None
    """The catalogue's family that a private or deployment name belongs to (`vision-batch models` lists them)."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    extra: dict[str, Any] = {}
    """Further fields of the request body, sent as they are (`seed`, `top_p`, `ocr_model`, ...)."""
    dedup: bool = True
    """Whether equal requests (same pixels, same question) share one answer."""
    max_failures: Annotated[int, Field(ge=1)] = 6
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
    max_side: Annotated[int, Field(ge=16)] | None = None
    """A further limit for the longer side, in pixels."""
    max_image_tokens: Annotated[int, Field(ge=1)] | None = None
    """Images are sent smaller where the model's rule expects more tokens than this."""
    verify: Literal["structure", "full"] = "structure"
    """How an image that is sent unchanged is checked: its structure, or by decoding it."""
    keep_metadata: bool = False
    """Send EXIF (GPS!), XMP and comments of images that need no resize."""
    max_megapixels: Annotated[float, Field(gt=0)] = 178.0
    max_file_mb: Annotated[float, Field(gt=0)] = 256.0
    max_sent_mb: Annotated[float, Field(gt=0)] = 4.0
    """An image that would be sent unchanged and is larger than this is sent as JPEG instead."""
    decode_mb: Annotated[int, Field(ge=1)] = 256
    """Memory for images being decoded, all threads together."""
    prepared_mb: Annotated[int, Field(ge=1)] = 128
    """Memory for requests that are ready, in flight or waiting for another try."""
    threads: Annotated[int, Field(ge=0)] = 0
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
    rpm: Annotated[float, Field(gt=0)] | None = None
    """Requests a minute. What the endpoint tells in its headers tightens this and `tpm`, and never loosens them."""
    tpm: Annotated[float, Field(gt=0)] | None = None
    """Tokens a minute."""
    count_tokens: Literal["auto", "requested", "billed"] = "auto"
    """What the endpoint counts as tokens: the prompt and `max_tokens`, or what it bills; `auto` asks the catalogue."""
    straggler_s: Annotated[float, Field(gt=0)] = 10.0
    """No request is given up sooner; beyond it, at four times what nearly all answers take."""
    max_wait_s: Annotated[float, Field(gt=0)] = 3600.0
    """The longest wait that an endpoint may ask for; beyond it the run stops."""
    max_error_rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of the last 200 records that may fail alike before the run stops."""
    outage_s: Annotated[float, Field(gt=0)] = 1800.0
    first_contact_s: Annotated[float, Field(gt=0)] = 10.0
    """How long to try an endpoint that has never answered in this run."""
    grace_s: Annotated[float, Field(ge=0)] = 60.0
    """How long what is in flight may take to come home after Ctrl-C."""


class BudgetConfig(_Section):
    """What a run may spend at most. A ceiling that is reached ends the run with exit code 3; it can go on later."""

    max_cost_usd: Annotated[Decimal, Field(gt=0)] | None = None
    """Of this run, its resumes included."""
    max_cost_total_usd: Annotated[Decimal, Field(gt=0)] | None = None
    """Of all runs on this OUT."""
    max_requests: Annotated[int, Field(gt=0)] | None = None
    """Of this run, as `max_tokens`."""
    max_tokens: Annotated[int, Field(gt=0)] | None = None
    max_time_s: Annotated[float, Field(gt=0)] | None = None
    """Of this command."""


class OutputConfig(_Section):
    """How answers reach `data/`."""

    rows_per_part: Annotated[int, Field(ge=1)] = 50_000
    seal_interval_s: Annotated[float, Field(gt=0)] = 30.0
    """How soon an answer that is kept shows in `data/`."""


class OwnPrice(_Section):
    """What one model costs, as the user knows it: US dollars. It counts before every published price."""

    model: Annotated[str, Field(min_length=1)]
    """A name, or a shell pattern, with or without a gateway's prefix."""
    base_url: Annotated[str, AfterValidator(normalise_base_url)] | None = None
    """Only at this endpoint; None: wherever it is asked."""
    input_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    """A million tokens; so the next two."""
    output_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    cached_usd_per_mtok: Annotated[Decimal, Field(ge=0)] | None = None
    usd_per_image: Annotated[Decimal, Field(ge=0)] | None = None
    usd_per_request: Annotated[Decimal, Field(ge=0)] | None = None
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

    usd_per_hour: Annotated[Decimal, Field(gt=0)] | None = None
    """Of the machines that serve the model, where tokens cost nothing."""
    models: tuple[OwnPrice, ...] = ()
    """The first one that matches counts."""


class CatalogueConfig(_Section):
    """What is known of models, beyond what ships with the package."""

    file: Path | None = None
    """Families in the format of the package's own files; they count before those."""
    host: Annotated[str, AfterValidator(_host_name)] | None = None
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


def presets() -> dict[str, Path]:
    """The configurations that ship with the package, by name."""
    return {file.stem: file for folder in PRESET_DIRS for file in sorted(folder.glob("*.toml"))}


def load_config(
    name_or_file: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    given_as: Mapping[str, str] | None = None,
) -> RunConfig:
    """Join environment, file and flags. `overrides` are dotted: `{"request.model": "gpt-4o"}`.

    A path in the file starts at the file's folder, one in `overrides` at the working directory.
    Raises InputError that names the file, the key and the nearest known one; of an override what `given_as` calls it
    (`{"limits.rpm": "--rpm"}`).
    """
    env = environment() if environ is None else environ
    merged: dict[str, Any] = {}
    if env.get("OPENAI_BASE_URL"):
        merged["endpoint"] = {"base_url": env["OPENAI_BASE_URL"]}
    where = "the command line"
    if name_or_file is not None:
        path = find_config(name_or_file)
        where = str(path)
        _merge(merged, _located(_read_toml(path), path.parent))
    for dotted, value in (overrides or {}).items():
        _merge(merged, _located(_nested(dotted, value), Path()))
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        named = {**dict.fromkeys(overrides or {}, "the command line"), **(given_as or {})}
        raise InputError(_explain(error, where, named)) from None


def find_config(name_or_file: str | Path) -> Path:
    """A file, or the preset of that name."""
    path = Path(name_or_file)
    if path.is_file():
        return path
    known = presets()
    if str(name_or_file) in known:
        return known[str(name_or_file)]
    near = difflib.get_close_matches(str(name_or_file), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise InputError(
        f"configuration {str(name_or_file)!r}: no such file, and no preset of that name{hint} "
        f"Presets: {', '.join(known)}"
    )


def environment() -> dict[str, str]:
    """The process's environment over the `.env` file of the working directory."""
    from_file = {key: value for key, value in dotenv_values(".env").items() if value is not None}
    return {**from_file, **os.environ}


def is_loopback(base_url: str) -> bool:
    host = urlsplit(base_url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.") or host.endswith(".localhost")


def api_key(endpoint: EndpointConfig, environ: Mapping[str, str] | None = None) -> str | None:
    """The key of an endpoint, from the environment or `.env`; a server on this machine needs none."""
    env = environment() if environ is None else environ
    key = env.get(endpoint.api_key_env, "").strip()
    if key:
        return key
    if is_loopback(endpoint.base_url):
        return None
    raise InputError(
        f"no key for {endpoint.base_url}: the environment variable {endpoint.api_key_env} is not set. "
        f"Set it (export {endpoint.api_key_env}=...), put it into a .env file here, "
        "or name another variable with --api-key-env. To try without a key: --emulator"
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not valid TOML: the file is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _nested(dotted: str, value: object) -> dict[str, Any]:
    *sections, key = dotted.split(".")
    nested: dict[str, Any] = {key: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def _located(what: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The same with absolute paths, so that OUT's own copy of it means the same files."""
    found = dict(what)
    for section, key in (("catalogue", "file"), ("endpoint", "ca_file"), ("endpoints", "ca_file")):
        entry = found.get(section)
        if isinstance(entry, list):
            found[section] = [_with_path(one, key, folder) for one in entry]
        elif entry is not None:
            found[section] = _with_path(entry, key, folder)
    return found


def _with_path(table: object, key: str, folder: Path) -> object:
    if not isinstance(table, Mapping) or not isinstance(table.get(key), str | Path):
        return table
    return {**table, key: folder.absolute() / table[key]}


def _merge(into: dict[str, Any], what: Mapping[str, Any]) -> None:
    for key, value in what.items():
        current = into.get(key)
        if isinstance(value, Mapping) and isinstance(current, dict):
            _merge(current, value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _known_keys() -> list[str]:
    keys: list[str] = []
    for section, info in RunConfig.model_fields.items():
        keys.append(section)
        model = info.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            keys.extend(f"{section}.{key}" for key in model.model_fields)
    return keys


def _explain(error: ValidationError, where: str, given_as: Mapping[str, str]) -> str:
    by_place: dict[str, list[str]] = {}
    for item in error.errors(include_url=False, include_input=True):
        by_place.setdefault(_given_as(item["loc"], given_as) or where, []).append(_explain_one(dict(item)))
    # `--set images.quality` names the key already.
    return "; ".join(
        f"{place}: {'; '.join(line.removeprefix(place.removeprefix('--set ') + ': ') for line in lines)}"
        for place, lines in by_place.items()
    )


def _given_as(path: Sequence[object], given_as: Mapping[str, str]) -> str | None:
    """What an override is called that holds this key, or part of which it is."""
    dotted = [".".join(map(str, path[:length])) for length in range(len(path), 0, -1)]
    return next((given_as[key] for key in dotted if key in given_as), None)


def _shown(value: object) -> str:
    """A value in a message: short, and without the user and password of an address."""
    return re.sub(r"//[^/@\s]+@", "//...@", repr(value))[:80]


def _explain_one(item: dict[str, Any]) -> str:
    dotted = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{dotted!r} is missing"
    if item["type"] == "tuple_type" and isinstance(item["input"], Mapping):
        return f"{dotted}: write [[{dotted}]] in two brackets: there may be several"
    if item["type"] != "extra_forbidden":
        return f"{dotted}: {item['msg'].removeprefix('Value error, ')} (got {_shown(item['input'])})"
    if "key" in dotted.rsplit(".", 1)[-1]:
        return (
            f"unknown key {dotted!r}. If this is the endpoint's secret, take it out of the file: "
            "it is read only from the environment (see endpoint.api_key_env)"
        )
    if any(isinstance(part, int) for part in item["loc"]) and item["loc"][0] == "prices":
        return f"unknown key {dotted!r}; known: {', '.join(OwnPrice.model_fields)}"
    known = _known_keys()
    near = difflib.get_close_matches(dotted, known, n=1, cutoff=0.5) or [
        name for name in known if name.rsplit(".", 1)[-1] == dotted.rsplit(".", 1)[-1]
    ]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {dotted!r}{hint}"
