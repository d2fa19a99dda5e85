"""The parameters of a chat request beside its messages, checked as OpenAI checks them.

What a family does not take is of the catalogue. Sources: OpenAI's API specification for types and ranges, and its error
messages as users report them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.catalogue import Family
from pipeline.catalogue.tiers import tier_named, tiers_of
from pipeline.emulator.api_errors import ApiError, invalid_type, invalid_value

_MAX_STOPS = 4
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_INTEGERS = {"n": (1, 128), "top_logprobs": (0, 20), "seed": (-(2**63), 2**63 - 1)}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast")
_NO_REASONING = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What of a request's parameters changes an answer here."""

    stop: tuple[str, ...] = ()
    effort: str | None = None
    """None: the request names none."""
    thinks: bool = True
    """False where the request ends all thinking by a field of its provider."""
    logprobs: bool = False
    top_logprobs: int = 0
    tier: str = "default"
    stream: bool = False
    include_usage: bool = False


NO_OPTIONS = Options()


def read_options(payload: Mapping[str, object], model: str, family: Family | None) -> Options:
    """The parameters of a body. Raises ApiError with OpenAI's codes."""
    for name, (least, most) in _RANGES.items():
        _check_number(payload, name, least, most)
    for name, (least, most) in _INTEGERS.items():
        read_integer(payload, name, least, most)
    _check_kinds(payload)
    if family is not None:
        _check_family(payload, family)
    _check_tier(payload.get("service_tier"), model)
    if payload.get("top_logprobs") is not None and not payload.get("logprobs"):
        raise ApiError(400, "'top_logprobs' is only allowed when 'logprobs' is true.", param="top_logprobs")
    stream = _flag(payload, "stream")
    return Options(
        stop=_stops(payload),
        effort=_text(payload.get("reasoning_effort")),
        thinks=payload.get("enable_thinking") is not False,
        logprobs=_flag(payload, "logprobs"),
        top_logprobs=read_integer(payload, "top_logprobs", 0) or 0,
        tier=tier_named(_text(payload.get("service_tier"))),
        stream=stream,
        include_usage=_include_usage(payload, stream=stream),
    )


def read_integer(payload: Mapping[str, object], name: str, least: int, most: int | None = None) -> int | None:
    """A whole number within its range; None where the body has none."""
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise invalid_type(name, "an integer", value)
    if value < least or (most is not None and value > most):
        side, bound, sign = ("below minimum", least, ">=") if value < least else ("above maximum", most, "<=")
        raise ApiError(
            400,
            f"Invalid '{name}': integer {side} value. Expected a value {sign} {bound}, but got {value} instead.",
            code=f"integer_{'below_min' if value < least else 'above_max'}_value",
            param=name,
        )
    return value


def _check_number(payload: Mapping[str, object], name: str, least: int, most: int) -> None:
    value = payload.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid_type(name, "a decimal", value)
    if not least <= value <= most:
        message = f"Invalid '{name}': expected a value from {least} to {most}, but got {value} instead."
        raise ApiError(400, message, code="decimal_out_of_range", param=name)


def _check_kinds(payload: Mapping[str, object]) -> None:
    bias = payload.get("logit_bias")
    if bias is not None and not isinstance(bias, dict):
        raise invalid_type("logit_bias", "an object", bias)
    user = payload.get("user")
    if user is not None and not isinstance(user, str):
        raise invalid_type("user", "a string", user)
    for name, known in (("reasoning_effort", _EFFORTS), ("service_tier", _TIERS)):
        value = payload.get(name)
        if value is not None and value not in known:
            raise invalid_value(name, value, known)


def _check_family(payload: Mapping[str, object], family: Family) -> None:
    """What the model itself does not take."""
    known, reasoning = family.parameters, family.reasoning
    effort = payload.get("reasoning_effort") or (reasoning.default if reasoning else None)
    for name in known.rejects:
        if payload.get(name) not in (None, False):
            raise _unsupported_parameter(name)
    for name in known.only_without_reasoning:
        if payload.get(name) not in (None, False) and effort != _NO_REASONING:
            raise _unsupported_parameter(name)
    for name, value in known.fixed.items():
        if payload.get(name) not in (None, value):
            raise _only_default(name, payload[name], value)
    asked = payload.get("reasoning_effort")
    if asked is not None and reasoning is not None and reasoning.efforts and asked not in reasoning.efforts:
        supported = ", ".join(f"'{name}'" for name in reasoning.efforts)
        message = f"Unsupported value: '{asked}' is not supported with this model. Supported values are: {supported}."
        raise ApiError(400, message, code="unsupported_value", param="reasoning_effort")


def _unsupported_parameter(name: str) -> ApiError:
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return ApiError(400, message, code="unsupported_parameter", param=name)


def _only_default(name: str, got: object, default: float) -> ApiError:
    message = (
        f"Unsupported value: '{name}' does not support {got} with this model. "
        f"Only the default ({default:g}) value is supported."
    )
    return ApiError(400, message, code="unsupported_value", param=name)


def _check_tier(asked: object, model: str) -> None:
    tiers = tiers_of(model)
    tier = tier_named(_text(asked))
    if tiers and tier in {"flex", "priority"} and tier not in tiers:
        message = f"Invalid service_tier argument: {tier} is not available for this model."
        raise ApiError(400, message, param="service_tier")


def _stops(payload: Mapping[str, object]) -> tuple[str, ...]:
    stop = payload.get("stop")
    stops = [stop] if isinstance(stop, str) else stop
    if stops is None:
        return ()
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise invalid_type("stop", "one of a string or array of strings", stop)
    if len(stops) > _MAX_STOPS:
        message = f"Invalid 'stop': array too long. Expected an array with maximum length {_MAX_STOPS}."
        raise ApiError(400, message, code="array_above_max_length", param="stop")
    return tuple(stops)


def _include_usage(payload: Mapping[str, object], *, stream: bool) -> bool:
    options = payload.get("stream_options")
    if options is None:
        return False
    if not stream:
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise ApiError(400, message, param="stream_options")
    if not isinstance(options, dict):
        raise invalid_type("stream_options", "an object", options)
    return options.get("include_usage") is True


def _flag(payload: Mapping[str, object], name: str) -> bool:
    value = payload.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid_type(name, "a boolean", value)
    return value is True


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
