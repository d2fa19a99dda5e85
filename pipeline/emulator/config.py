"""What an emulator can be told: limits, latency, and the faults to show, all of them seeded."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite

from pipeline.errors import InputError


class Fault(StrEnum):
    """What can go wrong on demand. In brackets: whether the request is billed all the same."""

    RATE_LIMITED = "429"
    """429 with `retry-after` and `retry-after-ms` [no]."""
    RATE_LIMITED_UNTOLD = "429_no_retry_after"
    """429 that does not say how long to wait [no]."""
    SERVER_ERROR = "500"
    """500 with OpenAI's `server_error` [no]."""
    OVERLOADED = "503"
    """503, the engine is overloaded [no]."""
    SLOW = "slow"
    """The right answer, `slow_ms` later [yes]."""
    DISCONNECT = "disconnect"
    """The connection is reset before anything is answered [no]."""
    DISCONNECT_MID = "disconnect_mid"
    """The connection is closed in the middle of the answer's body [yes]."""
    BROKEN_JSON = "broken_json"
    """A whole response whose JSON stops in the middle [yes]."""
    ERROR_IN_200 = "error_in_200"
    """An error object under status 200, as OpenRouter sends it [no]."""
    EMPTY_CHOICES = "empty_choices"
    """`choices` is an empty list [yes, the prompt]."""
    EMPTY = "empty"
    """The answer's text is empty [yes]."""
    REFUSAL = "refusal"
    """`message.refusal` instead of an answer [yes]."""
    CONTENT_FILTER = "content_filter"
    """`finish_reason` content_filter, and no text [yes]."""
    TRUNCATE = "truncate"
    """Half the text, and `finish_reason` length [yes]."""
    WRONG_USAGE = "wrong_usage"
    """`usage` reports ten times the prompt tokens that were billed, and a total that contradicts it [yes]."""


def parse_faults(settings: Iterable[str]) -> dict[Fault, float]:
    """`["500=0.03", "disconnect=0.01"]` -> rates by fault, each between 0 and 1.

    Raises InputError that names the setting, and the known faults.
    """
    rates: dict[Fault, float] = {}
    for setting in settings:
        name, _, rate = setting.partition("=")
        try:
            rates[_known_fault(name.strip())] = float(rate)
        except ValueError:
            raise InputError(f"fault {setting!r}: expected NAME=RATE, for example 500=0.03") from None
    return rates


def _known_fault(name: str) -> Fault:
    try:
        return Fault(name)
    except ValueError:
        near = difflib.get_close_matches(name, list(Fault), n=1)
        hint = f"did you mean {str(near[0])!r}? " if near else ""
        raise InputError(f"no fault is called {name!r}; {hint}Known: {', '.join(Fault)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatorConfig:
    """How an emulator behaves. Raises InputError where a value makes no sense."""

    rpm: float | None = None
    """Requests granted a minute; None: no limit."""
    burst: int | None = None
    """Requests granted at once after a pause; None: a tenth of `rpm`, at least 1."""
    latency_ms: float = 0.0
    """How long after its arrival a request is answered, at the earliest."""
    jitter_ms: float = 0.0
    """Up to this much is added to `latency_ms`, evenly distributed, decided by `seed`."""
    seed: int = 0
    faults: Mapping[Fault, float] = field(default_factory=dict)
    """The share of requests that show each fault; together at most 1."""
    models: tuple[str, ...] = ()
    """The models that are served; none named: every name that does not begin with `unknown-`."""
    api_key: str | None = field(default=None, repr=False)
    """The only key that is accepted; None: any, or none."""
    decode: bool = True
    """Decode images whole; False reads their headers only, which is faster and sees no damage."""
    slow_ms: float = 5000.0
    """What the fault `slow` adds."""
    fault_retry_after_ms: int = 1000
    """What the fault `429` asks to wait."""
    max_body_mb: float = 64.0

    @classmethod
    def parse(
        cls,
        *,
        rpm: float | None = None,
        burst: int | None = None,
        latency_ms: float = 0.0,
        jitter_ms: float = 0.0,
        seed: int = 0,
        faults: Iterable[str] = (),
        models: str | None = None,
        api_key: str | None = None,
        fast: bool = False,
    ) -> "EmulatorConfig":
        """As the command line writes it: `faults` as NAME=RATE, `models` separated by commas.

        Raises InputError that names what is wrong.
        """
        return cls(
            rpm=rpm,
            burst=burst,
            latency_ms=latency_ms,
            jitter_ms=jitter_ms,
            seed=seed,
            faults=parse_faults(faults),
            models=tuple(name.strip() for name in (models or "").split(",") if name.strip()),
            api_key=api_key,
            decode=not fast,
        )

    def __post_init__(self) -> None:
        self._check_numbers()
        for fault, rate in self.faults.items():
            _known_fault(fault)
            if not 0 <= rate <= 1:
                raise InputError(f"fault {str(fault)!r}: the rate {rate} is not between 0 and 1")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise InputError(f"the rates of all faults add up to {sum(self.faults.values()):g}, more than 1")

    def _check_numbers(self) -> None:
        for name in ("rpm", "burst", "max_body_mb"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value > 0):
                raise InputError(f"emulator: {name} must be more than 0, got {value}")
        for name in ("latency_ms", "jitter_ms", "slow_ms", "fault_retry_after_ms"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 0):
                raise InputError(f"emulator: {name} must not be negative, got {value}")
