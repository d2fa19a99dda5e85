"""The command line: the commands, exit codes, and how the process ends."""

import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from typing import Final, NoReturn

import click

from pipeline.cli.next_steps import INTERRUPTED
from pipeline.cli.output import complain
from pipeline.config.environment import read_environment
from pipeline.errors import InputError, VisionBatchError
from pipeline.http.agent import version
from pipeline.interrupts import watch_interrupts
from pipeline.redaction.addresses import public_text
from pipeline.redaction.redactor import Redactor, is_secret_name

BUG = 70
NEAR = 0.8
"""How alike a misspelt flag and the one that is suggested are, at least."""
NEAR_COMMAND = 0.6
"""The same of commands: there are few, and none is like another."""


COMMANDS: Final = (
    *("run", "estimate", "check", "models", "status", "report", "view", "export", "merge", "rebuild", "compact"),
    "emulate",
)
"""In the order in which a user meets them. Each is a module here, which is imported when the command is used."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - of click
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - of click
        return command(cmd_name) if cmd_name in COMMANDS else None


def command(name: str) -> click.Command:
    """One of COMMANDS."""
    found: click.Command = getattr(import_module(f"pipeline.cli.{name}"), name)
    return found


def _show_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - of click
    if wanted:
        click.echo(f"vision-batch {version()}")
        context.exit()


app = _Commands(
    "vision-batch",
    help="Caption whole image datasets through any OpenAI-compatible vision endpoint.",
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
    ],
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def main() -> NoReturn:
    """Runs the command line of this process and ends it with an exit code of docs/usage.md."""
    _open_streams()
    _use_steady_memory()
    watch_interrupts()
    _leave(exit_code(sys.argv[1:]))


def _leave(code: int) -> NoReturn:
    """Ends the process. After a signal it waits for no thread: a decoder may need minutes."""
    if code > INTERRUPTED:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, full, or none
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _use_steady_memory() -> None:
    """Let Arrow, which is not imported yet, take its memory from the C library, for the whole process.

    Arrow's own pool (mimalloc) keeps what sealing took: 40 MB over 100,000 records of small parts.
    """
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def _open_streams() -> None:
    """Opens standard streams that a daemon left closed, so that no file takes their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding ends no run


def exit_code(arguments: Sequence[str]) -> int:
    """Runs a command. Errors become one line on standard error and a code; a bug leaves its traceback in a file."""
    try:
        ended = app.main([*arguments], prog_name="vision-batch", standalone_mode=False, obj=tuple(arguments))
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except VisionBatchError as error:
        complain(*error.args)
        return error.exit_code
    except click.Abort:
        complain("aborted")
        return 1
    except click.ClickException as error:
        _complain_of_usage(error)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the last resort: a user sees one line, the details are in a file
        return _bug()
    return ended if isinstance(ended, int) else 0


def _complain_of_usage(error: click.ClickException) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = "" if context is None else f" '{context.command_path} -h' lists the options."
    if context is not None and isinstance(error, click.NoSuchOption) and error.option_name in {"-o", "--out"}:
        hint = f" Usage: {' '.join([context.command_path, *context.command.collect_usage_pieces(context)])}"
    complain(f"{usage_words(error)}{hint}")


def usage_words(error: click.ClickException) -> str:
    """The mistake on one line, and of the names that are alike only the nearest: a far one would mislead."""
    if isinstance(error, click.NoSuchOption):
        what, name, near = "option", error.option_name, _nearest(error.option_name, error.possibilities or (), NEAR)
    elif isinstance(error, click.NoSuchCommand):
        what, name, near = "command", error.command_name, _nearest(error.command_name, COMMANDS, NEAR_COMMAND)
    else:
        return re.sub(r"\s*\n\s*", " ", error.format_message())
    return f"No such {what} '{name}'." + (f" Did you mean '{near[0]}'?" if near else "")


def _nearest(name: str, known: Sequence[str], cutoff: float) -> list[str]:
    return get_close_matches(name, known, n=1, cutoff=cutoff)


def _bug() -> int:
    with tempfile.NamedTemporaryFile("w", prefix="vision-batch-bug-", suffix=".txt", delete=False) as file:
        file.write(_secrets_of_environment().text(public_text(traceback.format_exc())))
    complain(f"this is a bug of vision-batch; committed answers are safe. Details: {file.name}")
    return BUG


def _secrets_of_environment() -> Redactor:
    """The secrets that the details of a bug must not hold."""
    with suppress(InputError):
        both = read_environment()
        values = [*both.process.items(), *both.dotenv.items()]
        return Redactor(value for name, value in values if is_secret_name(name))
    return Redactor()
