"""`vision-batch check`."""

from typing import Any

from pipeline.api import endpoints
from pipeline.cli.next_steps import after_check
from pipeline.cli.options import CONFIG, EMULATOR, JSON, QUIET, SET, command, setting_options, settings_of
from pipeline.cli.output import show_json, show_lines
from pipeline.commands.check import lines
from pipeline.errors import EndpointStoppedError
from pipeline.estimates.render import text

OPTIONS = (
    SET,
    JSON,
    QUIET,
    CONFIG,
    EMULATOR,
    *setting_options(("base_url", "api", "api_key_env", "task", "model", "model_family", "max_image_tokens", "detail")),
)


@command("check", OPTIONS)
def check(*, as_json: bool, quiet: bool, **given: Any) -> int:  # noqa: ANN401 - of click
    """Send one small request per endpoint: is it reachable, is the key accepted, does the model see images?"""
    settings = settings_of(given)
    reports = endpoints.check_endpoints(config=given["config"], emulator=given["emulator"], **settings)
    failed = [report for report in reports if report.error is not None]
    if len(reports) == 1 and failed:
        raise EndpointStoppedError(failed[0].error or "")
    if as_json:
        plain = [report.as_dict() for report in reports]
        show_json(plain if len(plain) > 1 else plain[0])
    elif not quiet:
        show_lines(
            *lines(reports, text.terminal_columns()), *([] if failed else [after_check(settings, given["config"])])
        )
    if failed:
        raise EndpointStoppedError(f"{len(failed)} of {len(reports)} endpoints failed{'' if quiet else ': see above'}")
    return 0
