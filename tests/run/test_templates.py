"""Prompts with columns of the record in them."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pipeline
from pipeline.config.sections import RequestConfig
from pipeline.errors import InputError
from pipeline.locations import LocalFile
from pipeline.records import ImageRecord
from pipeline.run.rendering import rendering_of
from tests.builders import ask
from tests.stub import stub
from tests.support import ROOT, MakeImage


def manifest(name: str, *records: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return name


def rendered(text: str, **columns: Any) -> str:
    record = ImageRecord("a", (LocalFile("a.jpg", "a.jpg"),), json.dumps(columns), 3)
    found = rendering_of(RequestConfig(prompt=text))
    return text if found is None else found(record)["prompt"]


def test_columns_stand_in_prompt_and_system(make_image: MakeImage, emulator_url: str) -> None:
    """Every request has its own text, is predicted by it, and is another request; values are data."""
    make_image("a.jpg")
    titles = ["A quay", "{{ 7 * 7 }} {% raw %}", 'Größe "<b>"']
    source = manifest("list.jsonl", *({"id": f"r{n}", "image": "a.jpg", "title": one} for n, one in enumerate(titles)))
    texts = {
        "prompts": [{"name": "fits", "text": "Does {{ title }} fit {{ image }}?"}, {"name": "plain", "text": "What?"}],
        "request.system": "You look at {{ id }}.",
    }
    summary = ask(source, emulator_url, overrides=texts)
    assert (summary.by_status, summary.requests) == ({"ok": 6}, 6)
    table = pd.read_parquet("out/data")
    # The emulator rounds the text of two messages once.
    assert (table["predicted_prompt_tokens"] - table["prompt_tokens"]).between(0, 1).all()
    for title in titles:
        assert rendered("Does {{ title }} fit {{ image }}?", title=title) == f"Does {title} fit a.jpg?"


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        ("{{ record['a b'] }}", {"a b": "x"}, "x"),
        ("{{ title | default('none') }}", {}, "none"),
        ("{% for one in tags %}{{ one }} {% endfor %}", {"tags": ["a", "b"]}, "a b "),
        ("[{{ title }}]", {"title": None}, "[]"),
        ("{% raw %}{{ title }}{% endraw %}", {}, "{{ title }}"),
        ('{"a": {"b": 1}}', {}, '{"a": {"b": 1}}'),
        ("{{ id }}", {"id": "own"}, "own"),
    ],
)
def test_what_a_template_gives(text: str, columns: dict[str, Any], expected: str) -> None:
    """Columns by name, through `record`, with defaults; an empty cell is empty text."""
    assert rendered(text, **columns) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{{ caption }}",
            r"the prompt 'caption' .* record 'r2' \(line 2\): 'caption' is undefined; it has: .*title",
        ),
        ("{{ title.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ title", r"`request.prompt`: not a valid template: .* \(line 1\)"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_sent(text: str, message: str, make_image: MakeImage) -> None:
    """Exit code 2 with column, record and line; the sandbox opens nothing."""
    make_image("a.jpg")
    both = {"image": "a.jpg", "title": "t"}
    source = manifest("list.jsonl", {"id": "r1", **both, "caption": "c"}, {"id": "r2", **both})
    with stub() as server:
        with pytest.raises(InputError, match=message):
            ask(source, server.base_url, prompt=text)
        assert server.paths == []
    assert not Path("out").exists()


def test_a_stream_stops_at_the_record(
    make_image: MakeImage, emulator_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard input is checked as it comes: what was asked before is kept."""
    make_image("a.jpg")
    lines = [json.dumps({"id": "r1", "image": "a.jpg", "title": "t"}), json.dumps({"id": "r2", "image": "a.jpg"})]
    stdin = io.TextIOWrapper(io.BytesIO("\n".join(lines).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(InputError, match="record 'r2'"):
        ask("-", emulator_url, prompt="{{ title }}?")


def test_a_plain_prompt_imports_no_templates() -> None:
    """What no prompt needs costs nothing: jinja2 is imported for a template only."""
    code = (
        "import sys; from pipeline.run.rendering import rendering_of; "
        "from pipeline.config.sections import RequestConfig; "
        "assert rendering_of(RequestConfig(prompt='What?')) is None; assert 'jinja2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_an_estimate_says_that_texts_differ(make_image: MakeImage, emulator_url: str) -> None:
    """The text is counted as it is written, and the estimate says so."""
    make_image("a.jpg")
    (model,) = pipeline.estimate("a.jpg", quiet=True, model="gpt-4o", base_url=emulator_url, prompt="{{ x }}").models
    assert any("as they are written" in note for note in model.notes)
