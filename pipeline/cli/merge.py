"""`vision-batch merge`."""

from pathlib import Path

import click

from pipeline.api import datasets
from pipeline.cli.options import JSON, Option, command
from pipeline.cli.output import show_json, show_lines
from pipeline.commands.merged import merge_lines

OPTIONS = (
    click.Argument(
        ["outs"],
        nargs=-1,
        required=True,
        metavar="OUT...",
        type=click.Path(path_type=Path),
        help="The output directories of the shards. No run is at work on them.",
    ),
    Option(
        "-o",
        "--out",
        metavar="OUT",
        required=True,
        type=click.Path(),
        help="Where all of their rows go: a new directory, or that of an earlier merge, which then grows.",
    ),
    Option(
        "--on-config-change",
        metavar="refuse|keep",
        default="refuse",
        show_default=True,
        help="What to do where they have answers to different settings.",
    ),
    JSON,
)


@command("merge", OPTIONS)
def merge(*, outs: tuple[Path, ...], out: str, on_config_change: str, as_json: bool) -> int:
    """Join output directories, such as the shards of an array, into one that can be run again."""
    report = datasets.merge(outs, out=out, on_config_change=on_config_change)
    if as_json:
        show_json(report.as_dict())
    else:
        show_lines(*merge_lines(report))
    return 0
