"""An `Estimate` as one HTML file, with the distribution of sizes as a picture; nothing is fetched from anywhere."""

from collections.abc import Sequence
from html import escape

from pipeline.estimates.figures import Estimate, ModelEstimate
from pipeline.estimates.histogram import SizeClass
from pipeline.estimates.render import files, text
from pipeline.estimates.render.files import Writers
from pipeline.estimates.render.text import class_name, details, facts
from pipeline.formatting import printable

_STYLE = """
:root { color-scheme: light dark; --edge: #8884; --bar: #3a7bd5; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--edge); }
th, td { white-space: nowrap; vertical-align: top; }
td small { display: block; opacity: .7; }
svg { max-width: 100%; height: auto; } svg text { fill: currentColor; font-size: 12px; } svg rect { fill: var(--bar); }
li { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { :root { --bar: #6ea8ff; } }
"""
_WIDTH, _ROW, _LABEL, _NUMBER = 640, 22, 120, 90


def as_html(estimate: Estimate) -> str:
    """All that `estimates.text` says. Names and messages come from outside and are escaped."""
    found = estimate.sizes
    ends = f"smallest {_size(found.smallest)}, typical {_size(found.typical)}, largest {_size(found.largest)}"
    body = [
        f"<h1>Estimate of {escape(estimate.made_on.isoformat())}</h1>",
        _items(facts(estimate) + text.assumptions(estimate)),
        f'<div class="wide">{_table(estimate)}</div>',
        f"<h2>Sizes</h2><p>{ends}</p>",
        picture(found.classes),
        *(_model(model) for model in estimate.models),
        _items(estimate.notes),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Estimate</title><style>{_STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


WRITERS: Writers = {
    ".csv": files.as_csv,
    ".md": files.as_markdown,
    ".html": as_html,
    ".json": lambda estimate: files.as_json(estimate) + "\n",
}
"""What `--output` writes, by the end of the file's name."""


def picture(classes: Sequence[SizeClass]) -> str:
    """A bar a class, as inline SVG."""
    most, width = max(one.images for one in classes), _WIDTH - _LABEL - _NUMBER
    rows = []
    for number, one in enumerate(classes):
        at, long = number * _ROW, width * one.images / most
        rows.append(
            f'<text x="0" y="{at + 15}">{escape(class_name(one))}</text>'
            f'<rect x="{_LABEL}" y="{at + 3}" width="{long:.1f}" height="{_ROW - 6}"/>'
            f'<text x="{_LABEL + long + 6:.1f}" y="{at + 15}">{one.images:,}</text>'
        )
    height = _ROW * len(classes)
    return (
        f'<svg role="img" aria-label="Images by megapixels" width="{_WIDTH}" viewBox="0 0 {_WIDTH} {height}">'
        + "".join(rows) + "</svg>"
    )  # fmt: skip


def _table(estimate: Estimate) -> str:
    """Ranges stand below what to expect, so that all columns have room on a screen."""
    names = text.table(estimate)[0]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = [[(printable(model.name), ""), *text.figures(model)][: len(names)] for model in estimate.models]
    cells = ["".join(_cell(*figure) for figure in row) for row in rows]
    return f"<table><tr>{head}</tr>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def _cell(expected: str, ends: str) -> str:
    return f"<td>{escape(expected)}{f' <small>{escape(ends)}</small>' if ends else ''}</td>"


def _model(model: ModelEstimate) -> str:
    return f"<h2>{escape(printable(model.name))}</h2>{_items(details(model))}"


def _items(lines: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(printable(line.strip()))}</li>" for line in lines) + "</ul>" if lines else ""


def _size(size: tuple[int, int]) -> str:
    return escape(text.pixels(size))
