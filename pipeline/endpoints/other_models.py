"""Models that an endpoint asks beside the one that is named, and bills without counting their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pipeline.catalogue.facts import on_host


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherModel:
    """When another model is involved: by a field of the request, or by the model's name at some hosts."""

    field: str | None = None
    """A field of the request body that names the other model."""
    model: str | None = None
    """A shell pattern of model names that stand for two models."""
    hosts: tuple[str, ...] = ()
    """Where `model` is so; subdomains count."""
    source: str = ""
    """Who documents it."""

    def is_involved(self, extra: Mapping[str, Any], model: str, host: str) -> bool:
        """Whether a request with these further fields to this model involves it."""
        if self.field is not None and self.field in extra:
            return True
        return self.model is not None and fnmatchcase(model, self.model) and on_host(self.hosts, host)
