"""Which model a run asks for, and which family of the catalogue it belongs to."""

from dataclasses import replace
from datetime import date
from urllib.parse import urlsplit

from pipeline.catalogue import Family, family_of, first_family, host_of, rule_of
from pipeline.config.families import family_for
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import other_model, traits_of
from pipeline.endpoints.models import also_known_as, list_models
from pipeline.endpoints.target import Target
from pipeline.errors import EndpointStoppedError, ErrorKind, InputError
from pipeline.limits.decision import FINAL_STOPS, stop_message
from pipeline.records import Failure
from pipeline.redaction.addresses import public_url
from pipeline.tokens import TokenRule, UnknownRule
from pipeline.tokens.analysed import AnalysedRule
from pipeline.tokens.pages import BY_PAGE

NAMED_MODELS = 8
"""How many of a server's models an error message names."""


async def with_model(config: RunConfig, target: Target) -> RunConfig:
    """The same with a model: a server that serves just one is not asked which."""
    if config.request.model is not None:
        return await _with_family(config, config.request.model, target)
    if (named := traits_of(config).model) is not None:
        return _with_named(config, named)
    found = await list_models(target)
    if isinstance(found, Failure):
        raise EndpointStoppedError(no_list_message(found))
    if len(found) != 1:
        names = ", ".join(found[:NAMED_MODELS]) + (" ..." if len(found) > NAMED_MODELS else "")
        where = public_url(config.all_endpoints[0].base_url)
        raise InputError(f"name a model with `request.model`; {where} serves {names or 'none'}")
    return await _with_family(_with_named(config, found[0]), found[0], target)


def _with_named(config: RunConfig, model: str) -> RunConfig:
    return config.model_copy(update={"request": config.request.model_copy(update={"model": model})})


def no_list_message(failure: Failure) -> str:
    """Why no model is known: the list of models does not come, in the server's words."""
    is_of_the_list = failure.kind not in {*FINAL_STOPS, ErrorKind.UNREACHABLE}
    words = failure.message.removesuffix(".") if is_of_the_list else stop_message(failure)
    return (
        f"no model is named, and the endpoint's list of models cannot be read: {words}; "
        "name the model with `request.model`"
    )


async def _with_family(config: RunConfig, model: str, target: Target) -> RunConfig:
    """The same with the family of a private name, where the catalogue lacks it and the server's list has it."""
    if family_for(config) is not None:
        return config
    family = first_family(await also_known_as(target, model), config.catalogue.file)
    if family is None:
        return config
    return config.model_copy(update={"request": config.request.model_copy(update={"model_family": family.name})})


def rule_for(config: RunConfig, today: date, host: str) -> TokenRule:
    """How the images of a run are billed on a day at a host, whichever model looks at them."""
    if traits_of(config).bills_pages:
        return BY_PAGE
    family, own = family_for(config), config.catalogue.file
    reader = other_model(config, config.all_endpoints[0])
    if reader is None:
        return _at_most(rule_of(family, today, host), config.images.unknown_max_side)
    return AnalysedRule(rule_of(family_of(reader, own), today, host), family.rule(today, host) if family else None)


def _at_most(rule: TokenRule, max_side: int | None) -> TokenRule:
    """The rule of an unknown model with the user's own choice of what it looks at; any other rule as it is."""
    if max_side is None or not isinstance(rule, UnknownRule):
        return rule
    return replace(rule, max_side=max_side)


def reader_notes(config: RunConfig) -> list[str]:
    """What the user should know of a model that reads the images first."""
    reader, family = other_model(config, config.all_endpoints[0]), family_for(config)
    if reader is None:
        return []
    model, setting = config.request.model, config.request.ocr_model
    line = f"{reader} reads each image before {model} is asked, and is billed too: its part of the cost is predicted"
    notes = [f"{line}, unless the endpoint states the cost"]
    if family is not None and family.rules:
        way_out = "name it without -ocr" if setting is None else "leave `request.ocr_model` out"
        notes.append(f"{model} reads images itself, so that {reader} does its work twice: {way_out}")
    return notes


def most_images(config: RunConfig, family: Family | None) -> int | None:
    """Images that one request may hold, by the model and by every endpoint's host; None where nothing is published."""
    names = {config.rules_host, *(urlsplit(one.base_url).hostname or "" for one in config.all_endpoints[1:])}
    hosts = [host_of(name) for name in names]
    found = [
        traits_of(config).max_images,
        family.limits.max_images if family else None,
        *(host.limits.max_images for host in hosts if host),
    ]
    return min((most for most in found if most is not None), default=None)


def emulating(config: RunConfig, rules_host: str) -> list[str]:
    """The arguments of `vision-batch emulate` with which it bills as the model does at `rules_host`."""
    family, own = family_for(config), config.catalogue.file
    words = ["--fetch-urls"] if config.request.pass_urls else []
    words += [] if own is None else ["--catalogue", str(own)]
    words += [] if family is None else ["--model-family", family.name]
    return [*words, "--rules-of", rules_host] if rules_host else words


def emulated(config: RunConfig, url: str, rules_host: str) -> RunConfig:
    """The same asked at an emulator, which stands for the first endpoint and bills by the rules of `rules_host`."""
    changed = {
        "endpoint": config.all_endpoints[0].model_copy(update={"base_url": url}),
        "endpoints": (),
        "catalogue": config.catalogue.model_copy(update={"host": rules_host or None}),
    }
    return config.model_copy(update=changed)
