"""How the endpoints of a run are asked for labels: by the catalogue, as the user says, and with how much text."""

from collections.abc import Callable
from dataclasses import replace

from pipeline.config.families import family_for
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.adapter import LabelsTemplate, RequestTemplate, api_of
from pipeline.endpoints.labels import EndpointLabels
from pipeline.errors import InputError
from pipeline.labels.sending import Correction, LabelsMode, LabelsRequest, lowest, mode_of
from pipeline.records import Answer, PreparedRequest
from pipeline.tokens.text import message_tokens, most_message_tokens


def mode_at(config: RunConfig, one: EndpointConfig) -> LabelsMode:
    """How one endpoint is asked first."""
    family = family_for(config, one)
    return mode_of(config.request.labels_mode, "unknown" if family is None else family.json_schema)


def common_mode(config: RunConfig) -> LabelsMode:
    """How prepared requests ask, which all endpoints share."""
    return lowest([mode_at(config, one) for one in config.all_endpoints])


def schema_words(config: RunConfig) -> str | None:
    """The text that the schema adds to each prompt; None without labels."""
    labels = config.labels
    return None if labels is None else LabelsRequest.of(labels).words(common_mode(config))


def longest_schema_words(config: RunConfig) -> str | None:
    """No less than that, however the endpoints turn out to take schemas."""
    labels = config.labels
    return None if labels is None else LabelsRequest.of(labels).longest_words


def label_notes(config: RunConfig) -> list[str]:
    """What the user should know of the schema before anything is sent."""
    labels = config.labels
    return [] if labels is None else LabelsRequest.of(labels).notes(common_mode(config))


def readers_of(
    config: RunConfig, template: RequestTemplate, names: list[str], say: Callable[[str], None]
) -> list[EndpointLabels | None]:
    """For each endpoint, how it is asked and its answers are read; None without labels.

    Raises InputError where the kind of endpoint cannot ask for labels.
    """
    labels = config.labels
    if labels is None:
        return [None] * len(names)
    if not isinstance(template, LabelsTemplate):
        raise InputError(
            f"`request.labels`: endpoints of the kind {api_of(config, config.all_endpoints[0])!r} cannot ask for labels"
        )
    from pipeline.labels.reading import LabelReader  # noqa: PLC0415 - jsonschema is imported with labels only

    read, is_fixed = LabelReader(LabelsRequest.of(labels).schema).read, config.request.labels_mode != "auto"
    return [
        EndpointLabels(template.adapted, read, mode_at(config, one), name=name, is_fixed=is_fixed, say=say)
        for one, name in zip(config.all_endpoints, names, strict=True)
    ]


def corrected(request: PreparedRequest, answer: Answer) -> PreparedRequest:
    """The request that repeats an answer with invalid labels, and what is wrong with them."""
    texts = answer.caption or "", Correction(answer.caption or "", answer.problems).words
    predicted, most = request.predicted_prompt_tokens, request.most_prompt_tokens
    return replace(
        request,
        corrects=answer,
        predicted_prompt_tokens=None if predicted is None else predicted + message_tokens(*texts),
        most_prompt_tokens=None if most is None else most + most_message_tokens(*texts),
    )
