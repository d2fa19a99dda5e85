"""`vision-batch models`."""

from typing import Any

import click

from pipeline.api import endpoints
from pipeline.cli.options import CONFIG, JSON, SET, command, setting_options, settings_of
from pipeline.cli.output import show_json, show_lines
from pipeline.commands.models import table

OPTIONS = (
    click.Argument(
        ["name"],
        required=False,
        metavar="[NAME]",
        help="A model, a family, provider:model or a preset. [default: all families]",
    ),
    SET,
    JSON,
    CONFIG,
    *setting_options(("base_url", "model_family")),
)


@command("models", OPTIONS)
def models(*, name: str | None, as_json: bool, **given: Any) -> int:  # noqa: ANN401 - of click
    """Show facts about a model: token rule, sizes, limits, price, traps, each with its source and date."""
    cards = endpoints.models(name, config=given["config"], **settings_of(given))
    if as_json:
        plain = [card.as_dict() for card in cards]
        show_json(plain if name is None else plain[0])
    else:
        show_lines(*(table(cards) if name is None else cards[0].lines()))
    return 0
