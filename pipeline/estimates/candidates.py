"""What an estimate compares: the models, presets and files that the caller names, each as a configuration."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.catalogue import family_named, family_of, seller_in
from pipeline.config.keywords import resolve
from pipeline.config.loading import load_config, presets
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Settings
from pipeline.errors import InputError
from pipeline.estimates.job import DEFAULT_PRESETS, Candidate, is_configuration, provider_and_model

PathLike = str | Path


def split_names(models: str | Sequence[str]) -> list[str]:
    given = models.split(",") if isinstance(models, str) else [*models]
    names = [name.strip() for name in given if name.strip()]
    if given and not names:
        said = ",".join(given)
        raise InputError(f"`models=` {said!r} names no model; write for example `models=gpt-4o,gemini-2.5-flash`")
    return names


def candidates_of(
    names: list[str], configs: Sequence[PathLike | RunConfig | None], settings: Settings
) -> tuple[list[Candidate], tuple[str, ...]]:
    """What is compared, and what has to be said of it."""
    if len(configs) > 1:
        if names:
            raise InputError(
                "with `models=`, one `config=` is the basis of all; name further configurations in `models=`"
            )
        return _compared([_name_of(one) for one in configs], None, settings)
    base = configs[0] if configs else None
    if names:
        candidates, unused = _compared(names, base, settings)
        return candidates, (*_unsold(candidates), *unused)
    resolved = resolve(base, settings)
    named = base is not None or "base_url" in resolved.endpoint.model_fields_set or bool(resolved.endpoints)
    model = resolved.request.model
    if model or named:
        return [Candidate(name=model or "(the server's model)", config=resolved, anywhere=not named)], ()
    note = f"no model was named: these are the presets {', '.join(DEFAULT_PRESETS)}; `models=` compares others"
    return [candidate(name, None, settings) for name in DEFAULT_PRESETS], (note,)


def _name_of(config: PathLike | RunConfig | None) -> str:
    """As `models=` writes it: a `Path` is a file, whatever its name."""
    return str(config.absolute() if isinstance(config, Path) else config)


def _compared(
    names: list[str], base: PathLike | RunConfig | None, settings: Settings
) -> tuple[list[Candidate], tuple[str, ...]]:
    """The candidates of these names. Of several, `model_family=` applies to those that no family claims."""
    said = settings.get("model_family")
    if len(names) == 1:
        return [candidate(names[0], base, settings)], ()
    without: Settings = {**settings, "model_family": None}
    claimed = [_by_its_name(name, candidate(name, base, without)) for name in names]
    if said is None:
        return claimed, ()
    family_named(said, resolve(base, settings).catalogue.file)
    found = [
        candidate(name, base, settings) if one.family() is None else one
        for name, one in zip(names, claimed, strict=True)
    ]
    unused = f"`model_family={said}` is meant for models that no family claims, and there is none here"
    return found, (unused,) if found == claimed else ()


def _by_its_name(name: str, one: Candidate) -> Candidate:
    """The same without the family that a configuration which all share says of its own model, where the name tells."""
    request, own = one.config.request, one.config.catalogue.file
    if request.model_family is None or is_configuration(name) or family_of(one.model, own) is None:
        return one
    plain = request.model_copy(update={"model_family": None})
    return replace(one, config=one.config.model_copy(update={"request": plain}))


def candidate(name: str, base: PathLike | RunConfig | None, settings: Settings) -> Candidate:
    if is_configuration(name):
        resolved = resolve(name, settings)
        model = resolved.request.model or "(the server's model)"
        return Candidate(name=f"{model} ({Path(name).stem})", config=resolved)
    provider, model = provider_and_model(name)
    preset, _, at_preset = name.partition(":")
    if provider is None and at_preset and preset in presets():
        there: Settings = {**settings, "model": at_preset, "overrides": _at(preset, settings)}
        return Candidate(name=name, config=resolve(base, there))
    named: Settings = {**settings, "model": model}
    anywhere = base is None and not settings.get("base_url")
    resolved = _without_own_names(resolve(base, named))
    return Candidate(name=name, config=resolved, provider=provider, anywhere=anywhere and not provider)


def _without_own_names(config: RunConfig) -> RunConfig:
    """The same without what its endpoints call another model than the one that is asked for now."""
    endpoint = config.endpoint.model_copy(update={"model": None})
    endpoints = tuple(one.model_copy(update={"model": None}) for one in config.endpoints)
    return config.model_copy(update={"endpoint": endpoint, "endpoints": endpoints})


def _at(preset: str, settings: Settings) -> dict[str, Any]:
    """The settings' own overrides over a preset's endpoint."""
    endpoint = load_config(preset).endpoint
    there = {f"endpoint.{key}": getattr(endpoint, key) for key in endpoint.model_fields_set}
    return {**there, **(settings.get("overrides") or {})}


def _unsold(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """What stands before a colon and sells nothing that is known."""
    found = {seller_in(one.model, one.config.catalogue.file): one.name for one in candidates if one.provider is None}
    return tuple(f"{name}: {seller} is no provider whose prices are known" for seller, name in found.items() if seller)
