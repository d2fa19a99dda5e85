"""HTML from templates: everything foreign is escaped, one stylesheet, and a policy that forbids what is not ours.

A page is one file. Its scripts and its stylesheet stand in it, and the Content-Security-Policy names their hashes: a
script or a style that a caption brings with it would not be applied even if it were not escaped. Templates have no
`style` attributes and no `onclick`: the policy forbids them too.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.formatting import printable

if TYPE_CHECKING:
    from jinja2 import Environment

SELF_CONTAINED: Mapping[str, str] = {"img-src": "data:"}
"""What a file may load beside its own scripts and style: nothing but the images in it."""
SERVED: Mapping[str, str] = {"img-src": "'self' data:", "connect-src": "'self'"}
"""The same for a page of a server of this machine."""
_LEAST_SHARE = 0.001


def render(
    template: str,
    values: Mapping[str, object],
    *,
    title: str,
    script: str = "",
    allowed: Mapping[str, str] = SELF_CONTAINED,
    folder: Path | None = None,
) -> str:
    """A whole page. `folder` holds templates beside those of this room; `script` is the text of one script."""
    return (
        environment(folder)
        .get_template(template)
        .render(
            values,
            title=printable(title),
            style=stylesheet(),
            script=script,
            policy=policy(script, allowed),
        )
    )


@cache
def stylesheet() -> str:
    """The one stylesheet, as it stands in a page."""
    return resource("style.css")


@cache
def resource(name: str) -> str:
    """The text of a file of this room."""
    return files("pipeline.pages").joinpath(name).read_text(encoding="utf-8")


def policy(script: str, allowed: Mapping[str, str]) -> str:
    """The Content-Security-Policy of a page with this script: nothing is loaded, sent or run but what it names."""
    parts = {
        "default-src": "'none'",
        "style-src": _hashed(stylesheet()),
        "script-src": _hashed(script) if script else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        **allowed,
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items())


def _hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def environment(folder: Path | None = None) -> "Environment":
    """Jinja2 with escaping on. A name that a template does not get is an error."""
    # Imported only where it is used: 20 ms.
    from jinja2 import (  # noqa: PLC0415 - see above
        ChoiceLoader,
        Environment,
        FileSystemLoader,
        PackageLoader,
        StrictUndefined,
    )

    loaders = [PackageLoader("pipeline.pages", "templates")]
    more = [] if folder is None else [FileSystemLoader(folder)]
    made = Environment(
        loader=ChoiceLoader([*loaders, *more]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters |= FILTERS
    return made


def _shown(value: object) -> object:
    """Text from outside on its lines, without what acts on a reader (bidirectional marks, controls)."""
    if isinstance(value, str) and not hasattr(value, "__html__") and not value.isprintable():
        return "\n".join(map(printable, value.splitlines()))
    return value


def grouped(number: float) -> str:
    """1234567 -> 1,234,567."""
    return f"{number:,.0f}"


def percent(share: float) -> str:
    """0.1234 -> 12.3%; what is not quite all or nothing does not look so."""
    if 0 < share < _LEAST_SHARE:
        return "<0.1%"
    if 1 - _LEAST_SHARE < share < 1:
        return ">99.9%"
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


FILTERS: Mapping[str, Callable[..., object]] = {"grouped": grouped, "percent": percent}
