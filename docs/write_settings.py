"""Writes docs/settings.md from the declarations of the settings: `python docs/write_settings.py`."""

from pathlib import Path
from textwrap import fill
from typing import Any, get_args

from pipeline.config.run_config import RunConfig, settings
from pipeline.config.setting import Declared

PAGE = Path(__file__).with_name("settings.md")
WIDTH = 99
HEAD = """# Settings

Each setting has a key, and some have a keyword of `pipeline.run` and a flag of the same name too:

- in a configuration file: `[limits]` with `rpm = 60`;
- in Python: `pipeline.run(..., rpm=60)`, or `overrides={"limits.rpm": 60}` for any key;
- on the command line: `--rpm 60`, or `--set limits.rpm=60` for any key.

A flag or a keyword beats the file, which beats the environment, which beats the default.
`python docs/write_settings.py` writes this page from the declarations in
`pipeline/config/sections.py`.
"""


def page() -> str:
    """The whole page."""
    sections = [name for name in RunConfig.model_fields if name != "endpoints"]
    return "\n".join([HEAD, *(_section(name) for name in sections)])


def _section(name: str) -> str:
    kind = RunConfig.model_fields[name].annotation
    entries = [one for one in get_args(kind) if isinstance(one, type)]  # a table that may stand several times
    about = fill(" ".join((getattr(entries[0] if entries else kind, "__doc__", None) or "").split()), WIDTH)
    heading = f"[[{name}]]" if entries else f"[{name}]"
    rows = [_row(one) for one in settings() if one.section == name]
    return f"## {heading}\n{about}\n" + ("\n" + "\n".join(rows) + "\n" if rows else "")


def _row(one: Declared) -> str:
    flag = f" · `{one.flag}`" if one.flag else ""
    text = f"- **`{one.key}`**{flag}: {one.setting.help} Default: {one.setting.default_help or _default(one.default)}."
    return fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)


def _default(value: Any) -> str:  # noqa: ANN401 - of any type
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value in ({}, ()):
        return "not set"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
