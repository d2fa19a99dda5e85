"""Options of the command line: those of settings follow from their declarations, the others stand here."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args, get_origin

import click

from pipeline.cli.references import with_flags
from pipeline.config.keywords import keywords
from pipeline.config.loading import presets
from pipeline.config.run_config import settings
from pipeline.config.sections import Settings
from pipeline.config.setting import Declared
from pipeline.config.written import flag_value, written_value
from pipeline.errors import InputError

GENERAL, IMAGES, AGAIN, LIMITS = "Options", "Images", "Records to ask again", "Limits and budget"
WITH_SAMPLE: Final = "Only with --sample, which sends requests"
PANELS: Final = {
    "endpoint": "Endpoint",
    "request": "Request",
    "images": "Request",
    "source": IMAGES,
    "limits": LIMITS,
    "budget": LIMITS,
}
"""The heading in `--help` of a section's settings; a section that is not named here has its own name."""


class Option(click.Option):
    """An option that `--help` shows under a heading."""

    def __init__(self, *names: str, panel: str = GENERAL, **attributes: Any) -> None:  # noqa: ANN401 - of click
        super().__init__(names, **attributes)
        self.panel = panel

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """Without the bounds of a number: `[x>=1]` says nothing that N does not."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


class Command(click.Command):
    """A command whose `--help` groups its options."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the general options, then every other group."""
        groups: dict[str, list[tuple[str, str]]] = {GENERAL: []}
        for parameter in self.get_params(context):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(context)
            if record is not None:
                groups.setdefault(getattr(parameter, "panel", GENERAL), []).append(record)
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def command(name: str, parameters: Iterable[click.Parameter]) -> Callable[[Callable[..., int]], Command]:
    """Makes a command of a function that returns the exit code. Its docstring is the command's help."""

    def made(function: Callable[..., int]) -> Command:
        return Command(
            name,
            params=[*parameters],
            callback=function,
            help=function.__doc__,
            short_help=function.__doc__,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )

    return made


class _Text(click.ParamType[object]):
    """The value of a setting: the configuration checks it, so that a flag and a file are checked alike."""

    def __init__(self, declared: Declared) -> None:
        self.name, self._key = "text", declared.key

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:  # noqa: ANN401, ARG002
        return flag_value(self._key, value) if isinstance(value, str) else value


def setting_options(names: Sequence[str] | None = None, *, only_with_sample: Sequence[str] = ()) -> list[Option]:
    """The options of all settings that have a keyword, or of these keywords; some under a heading of their own."""
    declared = [one for one in settings() if one.setting.keyword and (names is None or one.setting.keyword in names)]
    sampled = {one.key: WITH_SAMPLE for one in declared if one.setting.keyword in only_with_sample}
    return [_setting_option(one, sampled.get(one.key) or _panel(one)) for one in declared]


def _panel(one: Declared) -> str:
    return PANELS.get(one.section, one.section.capitalize())


def _setting_option(one: Declared, panel: str) -> Option:
    keyword, flag, words = str(one.setting.keyword), str(one.flag), with_flags(_help(one))
    if one.is_switch:
        return Option(keyword, flag, panel=panel, help=words, is_flag=True, flag_value=not one.default, default=None)
    is_repeatable = keyword == "base_url"
    return Option(
        keyword, flag, panel=panel, help=words, type=_Text(one), metavar=_metavar(one), multiple=is_repeatable
    )


def _help(one: Declared) -> str:
    """The sentence of a setting, and its default."""
    if one.is_switch:
        return one.setting.off_help or one.setting.help
    default = one.setting.default_help or ("" if one.default is None else str(one.default))
    repeated = " Repeat it for several endpoints." if one.setting.keyword == "base_url" else ""
    return f"{one.setting.help}{repeated}" + (f" [default: {default}]" if default else "")


def _metavar(one: Declared) -> str:
    annotation = one.field.annotation
    if one.setting.metavar is None and get_origin(annotation) is Literal:
        return "|".join(get_args(annotation))
    return one.setting.metavar or "VALUE"


def out_argument(which: str) -> click.Argument:
    """OUT of the commands that take one which is there. `which` is a sentence of help about it."""
    return click.Argument(["out"], metavar="OUT", type=click.Path(path_type=Path), help=f"An output directory. {which}")


SOURCES: Final = click.Argument(
    ["sources"],
    nargs=-1,
    required=True,
    metavar="SOURCE...",
    help=(
        "A folder, a glob, an image, a manifest (.csv .tsv .jsonl .parquet .txt; - reads JSONL from stdin), "
        "shards (.tar .tar.gz), an address (https://), a bucket (s3:// gs:// az://), or hf://datasets/OWNER/NAME."
    ),
)
CONFIG: Final = Option(
    "-c",
    "--config",
    metavar="NAME|FILE.toml",
    panel=PANELS["endpoint"],
    help=f"A preset ({', '.join(presets())}) or a TOML file.",
)
EMULATOR: Final = Option(
    "--emulator",
    is_flag=True,
    panel=PANELS["endpoint"],
    help="Ask an emulated endpoint on this machine: no key, no cost, captions of measured facts.",
)
PROMPT_FILE: Final = Option(
    "--prompt-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    panel=PANELS["request"],
    help="Read the prompt from a file.",
)
LIMIT: Final = Option("--limit", metavar="N", type=click.IntRange(1), panel=IMAGES, help="Only the first N images.")
YES: Final = Option(
    "--yes",
    is_flag=True,
    panel=LIMITS,
    help="Agree to a run without a budget whose expected cost is above budget.confirm_usd.",
)
SET: Final = Option(
    "overrides",
    "--set",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="Any setting by its key, for example images.quality=90. Repeatable.",
)
JSON: Final = Option("as_json", "--json", is_flag=True, help="Print JSON on standard output.")
QUIET: Final = Option("-q", "--quiet", is_flag=True, help="Print errors only.")


def settings_of(options: dict[str, Any]) -> Settings:
    """Takes the settings out of a command's options. Raises InputError for a `--set` or a prompt that is wrong."""
    found: dict[str, Any] = {name: options.pop(name, None) for name in keywords()}
    found["prompt"] = _prompt(found["prompt"], options.pop("prompt_file", None))
    addresses = found["base_url"] or None
    found["base_url"] = addresses[0] if addresses and len(addresses) == 1 else addresses
    found["overrides"] = _overrides(options.pop("overrides", ()))
    return cast("Settings", found)


def _prompt(text: str | None, file: Path | None) -> str | None:
    if file is None:
        return text
    if text is not None:
        raise InputError("--prompt and --prompt-file exclude each other")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--prompt-file {file}: {getattr(error, 'strerror', None) or error}") from None


def _overrides(given: Iterable[str]) -> dict[str, Any]:
    """`section.key=value`, read as `written_value` reads it."""
    overrides: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not equals or "." not in key:
            # The text after the sign is not shown: it may be a key.
            raise InputError(f"--set {key!r}: write section.key=value, for example images.quality=90")
        overrides[key.strip()] = written_value(key.strip(), value)
    return overrides


LOG_JSON: Final = Option("--log-json", is_flag=True, help="Print progress, notes and errors as JSON, an event a line.")
