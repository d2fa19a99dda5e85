"""Models that an endpoint asks beside the one that is named, and bills without counting their tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pipeline.catalogue.facts import on_host


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherModel:
    """When another model is involved, and which: by a field of the request, or by the model's name at some hosts."""

    field: str | None = None
    """A field of the request body that names the other model."""
    model: str | None = None
    """A shell pattern of model names that stand for two models."""
    default: str | None = None
    """The other model where the request does not name it."""
    hosts: tuple[str, ...] = ()
    """Where `model` is so; subdomains count."""
    source: str = ""
    """Who documents it."""

    def name(self, fields: Mapping[str, Any], model: str, host: str) -> str | None:
        """The other model of a request with these fields to this model; None where none is involved."""
        named = fields.get(self.field) if self.field is not None else None
        if named:
            return str(named)
        is_meant = self.model is not None and fnmatchcase(model, self.model) and on_host(self.hosts, host)
        return self.default if is_meant else None
