"""How a message names a setting or an argument, so that each reader sees the spelling that they use.

A message holds references between backticks:

    `limits.rpm`, `limits.rpm=N`       a setting by its key
    `sample=`, `sample=N`, `yes=True`  an argument of a function of `pipeline`, as Python writes it
    `overrides["limits.rpm"]`          a setting that was given by its key

Python callers read them as they are. The command line replaces them by flags (`cli/references.py`): `--rpm N`,
`--sample N`, `--yes`, `--set limits.rpm`.
"""

import re
from typing import Final

REFERENCE: Final = re.compile(
    r"\\?`(?:"  # Markdown escapes the backticks of foreign text, and a message is foreign text to it
    r"overrides\[\"(?P<override>[^`\"]+)\"\]"
    r"|(?P<key>[a-z]+(?:\.[a-z_]+)+)(?:=(?P<key_value>[^`\\]*))?"
    r"|(?P<argument>[a-z_]+)=(?P<value>[^`\\]*)"
    r")\\?`"
)


def argument(name: str) -> str:
    """A reference to an argument: `argument("rpm")` is shown as `--rpm`."""
    return f"`{name}=`"


def override(key: str) -> str:
    """A reference to a setting that was given by its key: it is shown as `--set limits.rpm`."""
    return f'`overrides["{key}"]`'
