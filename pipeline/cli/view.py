"""`vision-batch view`."""

from pathlib import Path

import click

from pipeline.api.places import named as of
from pipeline.api.places import put_back, readable
from pipeline.cli.next_steps import named
from pipeline.cli.options import Option, command, out_argument
from pipeline.cli.output import show_lines
from pipeline.engine.progress import counted
from pipeline.viewer.server import run_forever

OPTIONS = (
    out_argument("A run may be at work on it."),
    Option(
        "--port",
        type=click.IntRange(0, 65535),
        default=0,
        metavar="N",
        help="The port to listen on, on this machine only. [default: a free one]",
    ),
    Option(
        "--compare",
        type=click.Path(path_type=Path),
        metavar="OUT2",
        help="Show the answers of OUT and OUT2 side by side, shuffled and without their names, to vote on.",
    ),
    Option("--seed", type=int, default=0, metavar="S", help="Shuffle in another way. [default: 0]"),
    Option("--no-browser", is_flag=True, help="Print the address, and open no browser."),
)


@command("view", OPTIONS)
def view(*, out: Path, port: int, compare: Path | None, seed: int, no_browser: bool) -> int:
    """Look at the answers beside their images in a browser: search, mark, correct, ask again."""
    place, other = readable(out), None if compare is None else readable(compare)
    saved = run_forever(place, port, other=other, seed=seed, announce=show_lines, opens_browser=not no_browser)
    put_back(out, place)
    if saved:
        show_lines(
            f"ended; reviews of {counted(saved, 'row')} are in {of(out)}/reviews",
            f"export and report apply them; {of(out)}/data keeps the answers as they came "
            f"(pipeline.read({of(out)!r}, reviews=True) applies them)",
        )
    else:
        show_lines("ended")
    show_lines(f"next: {named('export', of(out), '--to', 'txt')}  (texts beside the images, for training)")
    return 0
