"""One run as declared: all sections together, and the hash of what the model is asked."""

import hashlib
import json
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import model_validator
from pydantic_core import to_jsonable_python

from pipeline.config.cluster import ClusterConfig
from pipeline.config.images import ImagesConfig
from pipeline.config.limits import BudgetConfig, LimitsConfig
from pipeline.config.prices import CatalogueConfig, PricesConfig
from pipeline.config.prompts import PromptConfig
from pipeline.config.sections import (
    LABELS_PROMPT,
    EndpointConfig,
    OutputConfig,
    RequestConfig,
    Section,
    SourceConfig,
    parameter_names,
)
from pipeline.config.setting import Declared, declared_in
from pipeline.config.task_settings import check_task

_HASHED_AS = {
    f"{section}.{name}": name
    for section, names in {
        "request": ("model", "prompt", "prompt_name", "system", "detail", "max_tokens", "temperature", "extra"),
        "images": ("quality", "max_side", "max_image_tokens"),
    }.items()
    for name in names
}
"""Names in the hash of settings that datasets were made with before names in the hash were keys."""


_ALWAYS_HASHED = _HASHED_AS.keys() - {"images.max_image_tokens"}
"""Settings that are part of every dataset's hash, also at their defaults."""


class RunConfig(Section):
    """One run as declared. `config.toml` in OUT holds it as resolved."""

    endpoint: EndpointConfig = EndpointConfig()
    endpoints: tuple[EndpointConfig, ...] = ()
    """Several to share the work, each with what it does not say itself from `endpoint`."""
    request: RequestConfig = RequestConfig()
    prompts: tuple[PromptConfig, ...] = ()
    """Several, each asked of every image and each a row, in place of `request.prompt`."""
    images: ImagesConfig = ImagesConfig()
    source: SourceConfig = SourceConfig()
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig = BudgetConfig()
    output: OutputConfig = OutputConfig()
    engine: ClusterConfig = ClusterConfig()
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

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        names = self.prompt_names
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"`prompts`: the name {twice!r} stands twice; each prompt has a name of its own")
        schemas = {prompt.labels for prompt in self.prompts if prompt.labels is not None}
        if len(schemas) > 1 or (schemas and self.request.labels is not None):
            raise ValueError(
                "`prompts`: there are several schemas of labels, and the column `labels` has one; give one prompt "
                "`labels`, or the same to several, and leave `request.labels` out"
            )
        given = {"prompt", "prompt_name"} & self.request.model_fields_set
        if self.request.prompt == LABELS_PROMPT:  # the default of a labelling run
            given -= {"prompt"}
        if self.prompts and given:
            raise ValueError(
                f"`request.{min(given)}` and [[prompts]] are both set; to ask one prompt take out [[prompts]], to ask "
                "several add an entry of [[prompts]] with `name` and `text`"
            )
        return self

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        check_task(self.request, names_prompts=bool(self.prompts))
        unused = {"budget.max_tokens": self.budget.max_tokens, "images.max_image_tokens": self.images.max_image_tokens}
        if self.request.task != "caption" and (key := next((key for key, value in unused.items() if value), None)):
            raise ValueError(f"`{key}` counts tokens, and `request.task={self.request.task}` takes none: take it out")
        return self

    @property
    def all_prompts(self) -> tuple[PromptConfig, ...]:
        """Every prompt that an image is asked, in order."""
        return self.prompts or (PromptConfig(name=self.request.prompt_name, text=self.request.prompt),)

    @property
    def prompt_names(self) -> tuple[str, ...]:
        """The names of `all_prompts`."""
        return tuple(prompt.name for prompt in self.prompts) or (self.request.prompt_name,)

    @property
    def requests(self) -> tuple[RequestConfig, ...]:
        """The request of each prompt, in order."""
        shared: dict[str, Any] = {}
        if len(self.prompts) > 1 and self.request.image_position == "auto":
            shared["image_position"] = "before"  # providers cache what the requests of an image begin with
        changes = [
            {
                **shared,
                "prompt": prompt.text,
                "prompt_name": prompt.name,
                "labels": prompt.labels or self.request.labels,
            }
            for prompt in self.prompts
        ]
        return tuple(self.request.model_copy(update=change) for change in changes) or (self.request,)

    @property
    def labels(self) -> str | None:
        """The one schema of labels, of all prompts or of some of them."""
        return next((one.labels for one in self.requests if one.labels is not None), None)

    def resolved(self) -> dict[str, Any]:
        """All settings as JSON holds them; read again they are the same configuration."""
        found: dict[str, Any] = self.model_dump(mode="json")
        if self.prompts:
            found["request"] = {k: v for k, v in found["request"].items() if k not in {"prompt", "prompt_name"}}
        return found

    @property
    def all_endpoints(self) -> tuple[EndpointConfig, ...]:
        return self.endpoints or (self.endpoint,)

    @property
    def rules_host(self) -> str:
        """The host whose own token rules count, where there are any."""
        return self.catalogue.host or urlsplit(self.all_endpoints[0].base_url).hostname or ""

    def identity(self) -> dict[str, Any]:
        """The settings that decide what the model is asked. Rows with equal identities are comparable.

        A setting that is added later counts only where it is not at its default: existing datasets keep their hash.
        """
        asked = (one for one in settings() if one.setting.in_hash)
        found = {one.key: getattr(getattr(self, one.section), one.name) for one in asked}
        default = {one.key: one.default for one in settings()}
        found["request.messages"] = [message.named() for message in self.request.messages] or ()
        counted = {key: value for key, value in found.items() if key in _ALWAYS_HASHED or value != default[key]}
        plain = to_jsonable_python(counted)
        parameters = {
            key for key in plain.keys() - _HASHED_AS.keys() if key.removeprefix("request.") in parameter_names()
        }
        identity = {_HASHED_AS.get(key, key): value for key, value in plain.items() if key not in parameters}
        # Datasets were made with these in `extra`, before each was a setting.
        once_extra = {key.removeprefix("request."): plain[key] for key in parameters}
        of_all = {**identity, "extra": {**identity["extra"], **once_extra}}
        if not self.prompts:
            return of_all
        of_each = {name: value for name, value in of_all.items() if name not in {"prompt", "prompt_name"}}
        in_order = sorted(self.prompts, key=lambda prompt: prompt.name)
        return {**of_each, "prompts": [prompt.model_dump(mode="json", exclude_defaults=True) for prompt in in_order]}

    def config_hash(self) -> str:
        """16 hexadecimal digits of the declared question; prices and token rules are not part of it."""
        text = json.dumps(self.identity(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def settings() -> tuple[Declared, ...]:
    """Every setting, in the order of the sections."""
    return tuple(declared_in(RunConfig))
