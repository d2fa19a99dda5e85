"""TOML, environment and flags -> one frozen `RunConfig`.

A flag beats the file, the file beats the environment, the environment beats the defaults below.
Keys of an endpoint are never part of a configuration: `api_key()` reads them where they are used.
"""

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WrapValidator,
    model_validator,
)

from pipeline.config.base_urls import is_loopback, normalise_base_url, origin
from pipeline.config.environment import DOTENV, PROCESS, Environment, Variable, read_environment
from pipeline.config.nesting import DEEPEST, is_too_deep
from pipeline.errors import InputError
from pipeline.redaction.addresses import public_url
from pipeline.redaction.redactor import is_secret_name, is_variable_name, shown_variable

DEFAULT_PROMPT = (
    "Describe this image in one or two sentences, as a caption for a dataset. "
    "Name what is visible; do not guess at what is not. Answer with the caption only."
)
PRESET_DIRS = tuple(folder / "configs" for folder in Path(__file__).parents[1:3])
"""In the wheel, else in a checkout; the first that exists counts."""
BASE_URL_VARIABLE = "OPENAI_BASE_URL"

Detail = Literal["low", "high", "auto", "original"]


def _host_name(name: str) -> str:
    if re.fullmatch(r"[\w-]+(\.[\w-]+)*", name) is None:
        raise ValueError("not a host's name: write it without https:// and path, for example siliconflow.cn")
    return name.lower()


def _variable_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise ValueError(
            "not the name of an environment variable. If it is the key itself: put it into a variable, "
            "for example OPENAI_API_KEY, and name that"
        )
    return name


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


MOST_CONCURRENCY = 65_536
"""More connections than one machine has ports to one address; a larger number means this one."""
# Bounds far beyond any use, below which no arithmetic, timer or ledger column overflows.
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Megabytes = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(gt=0, le=10**12)]
PerMinute = Annotated[float, Field(ge=1e-3, le=1e12)]
Dollars = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=18)]
Ceiling = Annotated[Decimal, Field(gt=0, le=10**9, decimal_places=9)]


def _concurrency(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return min(value, MOST_CONCURRENCY)
    raise ValueError("auto, or a number from 1 on")


def _sendable(extra: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(extra, allow_nan=False)
        orjson.dumps(extra)  # writes it into OUT, and has integers of 64 bits
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"not possible in JSON: {error}") from None
    return extra


Concurrency = Annotated[int | Literal["auto"], WrapValidator(lambda value, _: _concurrency(value))]


class EndpointConfig(_Section):
    """Where requests go. Times are in seconds."""

    base_url: Annotated[str, AfterValidator(normalise_base_url)] = "https://api.openai.com/v1"
    api: Annotated[str, Field(min_length=1)] = "chat"
    """The kind of endpoint: which path, body and response it has. `chat` is OpenAI's chat/completions."""
    api_key_env: Annotated[str, AfterValidator(_variable_name)] = "OPENAI_API_KEY"
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
    extra: Annotated[dict[str, Any], AfterValidator(_sendable)] = {}
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
    folder = next((folder for folder in PRESET_DIRS if folder.is_dir()), PRESET_DIRS[0])
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


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
    merged: dict[str, Any] = {}
    where = "the command line"
    if name_or_file is not None:
        path = find_config(name_or_file)
        where = str(path)
        _merge(merged, _located(_read_toml(path), path.parent))
    for dotted, value in (overrides or {}).items():
        _merge(merged, _located(_nested(dotted, value), Path()))
    if is_too_deep(merged):
        raise InputError(f"{where}: nested deeper than {DEEPEST} levels")
    _check_text(merged, ())
    named = {**dict.fromkeys(overrides or {}, "the command line"), **(given_as or {})}
    environment = read_environment() if environ is None else Environment(environ)
    address = _default_address(merged, environment)
    if address is not None:
        _merge(merged, {"endpoint": {"base_url": address.value}})
        named["endpoint.base_url"] = f"{BASE_URL_VARIABLE} ({address.place})"
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        raise InputError(_explain(error, where, named)) from None
    return _marked(config, merged) if address is not None and address.place == DOTENV else config


def _default_address(merged: Mapping[str, Any], environment: Environment) -> Variable | None:
    """The environment's address, where nothing else names one."""
    shared = merged.get("endpoint", {})
    if not isinstance(shared, Mapping) or "base_url" in shared:
        return None
    return environment.find(BASE_URL_VARIABLE)


def _marked(config: RunConfig, merged: Mapping[str, Any]) -> RunConfig:
    """The same, with those endpoints marked whose address is the default one, which `.env` names."""
    endpoints = [
        one if "base_url" in given else one.marked_from_dotenv()
        for one, given in zip(config.endpoints, merged.get("endpoints", ()), strict=True)
    ]
    changed = {"endpoints": tuple(endpoints)} if endpoints else {}
    return config.model_copy(update={"endpoint": config.endpoint.marked_from_dotenv(), **changed})


def marked_as(config: RunConfig, before: RunConfig) -> RunConfig:
    """The same, with those addresses marked that are marked in an earlier form of this configuration."""
    marked = {one.base_url for one in (before.endpoint, *before.endpoints) if one.is_from_dotenv}
    if not marked:
        return config
    endpoint, *endpoints = (
        one.marked_from_dotenv() if one.base_url in marked else one for one in (config.endpoint, *config.endpoints)
    )
    return config.model_copy(update={"endpoint": endpoint, "endpoints": tuple(endpoints)})


def find_config(name_or_file: str | Path) -> Path:
    """The preset of a bare name; else a file, which has a suffix or a slash (a `Path` is always a file).

    A file in the working directory never takes the place of a preset.
    """
    name, path = str(name_or_file), Path(name_or_file)
    is_name = isinstance(name_or_file, str) and "/" not in name and not path.suffix
    if not is_name and path.is_file():
        return path
    known = presets()
    if is_name and name in known:
        return known[name]
    raise InputError(f"configuration {name!r}: {_no_config(name, path, known, is_name=is_name)}")


def _no_config(name: str, path: Path, known: Mapping[str, Path], *, is_name: bool) -> str:
    if is_name and path.is_file():
        return f"no preset of that name. For the file of that name write ./{name}. Presets: {', '.join(known)}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"no such file, and no preset of that name{hint} Presets: {', '.join(known)}"


def find_key(endpoint: EndpointConfig, environment: Environment | None = None) -> Variable | None:
    """The key of an endpoint and where it is from; None for a server on this machine, which needs none.

    An address that only `.env` names is given a key of the same file and no other, on this machine as well.
    Raises InputError where there is no key, or none that may be sent there.
    """
    found = environment or read_environment()
    if endpoint.is_from_dotenv:
        key = found.find_in_dotenv(endpoint.api_key_env)
        _check_dotenv_address(endpoint, found, key)
        return key
    key = found.find(endpoint.api_key_env)
    if key is None and not is_loopback(endpoint.base_url):
        raise InputError(_no_key(endpoint))
    return key


def _no_key(endpoint: EndpointConfig) -> str:
    where, name = public_url(endpoint.base_url), endpoint.api_key_env
    if not is_variable_name(name):
        return (
            f"no key for {where}: --api-key-env (endpoint.api_key_env) names an environment variable that is not set "
            "and is not shown, because it may be the key itself. Name the variable that holds the key, for example "
            "OPENAI_API_KEY"
        )
    return (
        f"no key for {where}: the environment variable {name} is not set. "
        f"Set it (export {name}=...), put it into a .env file here, "
        "or name another variable with --api-key-env. To try without a key: --emulator"
    )


def _check_dotenv_address(endpoint: EndpointConfig, found: Environment, key: Variable | None) -> None:
    """Raises InputError where an address that `.env` names would be sent what is not of that file."""
    address, name = public_url(endpoint.base_url), shown_variable(endpoint.api_key_env)
    way_out = f"To ask this address, name it: --base-url {address}, or export {BASE_URL_VARIABLE}={address}"
    if endpoint.headers:
        raise InputError(
            f"the address {address} is from {DOTENV}, and endpoint.headers is from the configuration: "
            f"headers are not sent to an address of {DOTENV}. {way_out}"
        )
    if key is not None or is_loopback(endpoint.base_url):
        return
    elsewhere = f"is from {PROCESS}" if found.find(endpoint.api_key_env) else "is set nowhere"
    raise InputError(
        f"the address {address} is from {DOTENV}, and the key {name} {elsewhere}: an address of {DOTENV} is used only "
        f"with a key of the same file. {way_out}. To use both from {DOTENV}, add {name}=... to it"
    )


def api_key(endpoint: EndpointConfig, environ: Mapping[str, str] | None = None) -> str | None:
    """The value of `find_key`. Raises InputError as that does."""
    key = find_key(endpoint, None if environ is None else Environment(environ))
    return None if key is None else key.value


def destination(endpoint: EndpointConfig, key: Variable | None) -> str:
    """Where requests go and which key goes with them, for people: `https://host, key NAME from the environment`."""
    named = f" (address from {DOTENV})" if endpoint.is_from_dotenv else ""
    with_key = "no key" if key is None else f"key {shown_variable(endpoint.api_key_env)} from {key.place}"
    return f"{origin(endpoint.base_url)}{named}, {with_key}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not valid TOML: the file is not UTF-8") from None
    except ValueError as error:  # numbers of thousands of digits are no TOMLDecodeError
        raise InputError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: nested deeper than {DEEPEST} levels") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _nested(dotted: str, value: object) -> dict[str, Any]:
    *sections, key = dotted.split(".")
    if len(sections) > DEEPEST:
        raise InputError(f"{dotted[:80]!r}: nested deeper than {DEEPEST} levels")
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


def _check_text(value: object, path: tuple[str, ...]) -> None:
    """Raises InputError for text that cannot be written down: bytes of a command line that are no UTF-8."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(str(key), path)
            _check_text(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for item in value:
            _check_text(item, path)
    elif isinstance(value, str | Path) and not _is_text(str(value)):
        dotted = ".".join(path).encode("utf-8", "backslashreplace").decode()
        raise InputError(f"{dotted}: a NUL byte, or characters that are no valid Unicode text")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


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


def _got(path: str, value: object) -> str:
    """A value in a message: short, without the secrets of an address; nothing of a field that may hold a key."""
    named = path.split(".")
    if (
        {"headers", "proxy", "api_key_env"} & set(named)
        or is_secret_name(named[-1])
        or isinstance(value, Mapping | list)
    ):
        return ""
    return f" (got {(repr(public_url(value)) if isinstance(value, str) else repr(value))[:80]})"


def _explain_one(item: dict[str, Any]) -> str:
    dotted = ".".join(str(part) for part in item["loc"])
    if item["type"] == "missing":
        return f"{dotted!r} is missing"
    if item["type"] == "tuple_type" and isinstance(item["input"], Mapping):
        return f"{dotted}: write [[{dotted}]] in two brackets: there may be several"
    if item["type"] != "extra_forbidden":
        return f"{dotted}: {item['msg'].removeprefix('Value error, ')}{_got(dotted, item['input'])}"
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
