"""`check`, `check_endpoints` and `models`: an endpoint with one small request, and facts about models."""

from datetime import UTC, datetime
from typing import Unpack

from pipeline.api.paths import PathLike
from pipeline.api.running import in_a_loop, opened_endpoint
from pipeline.commands.check import CheckReport
from pipeline.commands.check import check_endpoints as ask_each
from pipeline.commands.models import Asked, ModelCard, model_cards
from pipeline.config.keywords import resolve
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import Settings
from pipeline.errors import EndpointStoppedError, InputError
from pipeline.estimates.candidates import candidate


def check(
    *, config: PathLike | RunConfig | None = None, emulator: bool = False, **settings: Unpack[Settings]
) -> CheckReport:
    """Sends one small paid request: is the key accepted, does the model see images, which limits are advertised?

    Raises:
        InputError: the settings are wrong, or the configuration has several endpoints: `check_endpoints` asks those.
        EndpointStoppedError: the endpoint rejects the request or cannot be reached, in the provider's words.
        ResourceError: the emulator cannot be started, or no file handle is left.
    """
    with opened_endpoint(config, settings, emulator=emulator) as resolved:
        several = len(resolved.all_endpoints)
        if several > 1:
            raise InputError(f"the configuration has {several} endpoints: check_endpoints() reports on each")
        (report,) = in_a_loop(lambda: ask_each(resolved, emulated=emulator))
    if report.error is not None:
        raise EndpointStoppedError(report.error)
    return report


def check_endpoints(
    *, config: PathLike | RunConfig | None = None, emulator: bool = False, **settings: Unpack[Settings]
) -> tuple[CheckReport, ...]:
    """Sends one small paid request to every endpoint; one that fails has the reason in its report (`error`).

    Raises:
        InputError: the settings are wrong.
        EndpointStoppedError: no model is named, and the endpoint does not list its models.
        ResourceError: the emulator cannot be started, or no file handle is left.
    """
    with opened_endpoint(config, settings, emulator=emulator) as resolved:
        return in_a_loop(lambda: ask_each(resolved, emulated=emulator))


def models(
    name: str | None = None, *, config: PathLike | RunConfig | None = None, **settings: Unpack[Settings]
) -> tuple[ModelCard, ...]:
    """Facts about one model or family, or about all: token rules, sizes, limits, prices, each with its source.

    `name` may also be `provider:model`, a preset or a configuration file, as in `estimate`.

    Raises:
        InputError: the settings or a file of models are wrong.
    """
    today = datetime.now(UTC).date()
    if name is None:
        return model_cards(resolve(config, settings), today)
    one = candidate(name, config, settings)
    return model_cards(one.config, today, Asked(one.model, one.name, one.provider, one.anywhere))
