"""The recipe "A setting" of docs/extending.md: two files change, and the setting changes the request."""

import json
from pathlib import Path

from pipeline.config.loading import load_config
from tests.recipes import apply, copied, diffs, python
from tests.support import MakeImage


def test_a_setting_is_declared_once_and_changes_the_request(tmp_path: Path, make_image: MakeImage) -> None:
    """The flag, its help, the keyword and the key are there; the request has the value; old hashes stay."""
    assert len(diffs("A setting")) == 2
    changed = copied(tmp_path / "tree", "pipeline", "configs")
    apply(changed, "A setting")
    make_image("photos/0.jpg", 64, 48)
    dry = ("-m", "pipeline", "run", "photos", "--model", "gpt-4o", "--dry-run", "--json")
    for words in (("--top-p", "0.5"), ("--set", "request.top_p=0.5")):
        assert json.loads(python(changed, *dry, *words))["body"]["top_p"] == 0.5
    assert "top_p" not in json.loads(python(changed, *dry))["body"]
    assert "--top-p X" in python(changed, "-m", "pipeline", "run", "--help")
    code = "import pipeline; print('\"top_p\": 0.5' in pipeline.dry_run('photos', model='gpt-4o', top_p=0.5))"
    assert python(changed, "-c", code) == "True\n"
    code = """
from pipeline.config.loading import load_config
for settings in ({}, {"request.top_p": 0.5}):
    print(load_config(None, settings).config_hash())
"""
    same, other = python(changed, "-c", code).split()
    assert same == load_config(environ={}).config_hash() != other
