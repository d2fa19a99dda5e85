"""The recipe "A setting" of docs/extending.md: one file changes, and the setting changes the request."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.loading import load_config
from tests.support import ROOT, MakeImage


def patched(source: str, diff: str) -> str:
    """The source with a diff of one hunk applied: the lines without `+` stand in it once."""
    lines = [line for line in diff.splitlines(keepends=True) if line]
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    assert source.count(before) == 1, before
    return source.replace(before, "".join(line[1:] for line in lines))


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the package with the recipe applied."""
    page = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    section = page.split("\n## A setting\n")[1].split("\n## ")[0]
    shutil.copytree(ROOT / "pipeline", tmp_path / "tree/pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "tree/configs")
    steps = re.findall(r"`(pipeline/\S+\.py)`:\n\n```diff\n(.*?)```", section, re.DOTALL)
    assert len(steps) == 1
    for name, diff in steps:
        path = tmp_path / "tree" / name
        path.write_text(patched(path.read_text(encoding="utf-8"), diff), encoding="utf-8")
    return tmp_path / "tree"


def python(tree: Path, *arguments: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-P", *arguments], cwd=tree.parent, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_setting_is_declared_once_and_changes_the_request(changed: Path, make_image: MakeImage) -> None:
    """The flag, its help, the keyword and the key are there; the request has the value; old hashes stay."""
    make_image("photos/0.jpg", 64, 48)
    dry = ("-m", "pipeline", "run", "photos", "--model", "gpt-4o", "--dry-run", "--json")
    for words in (("--top-k", "5"), ("--set", "request.top_k=5")):
        assert json.loads(python(changed, *dry, *words))["body"]["top_k"] == 5
    assert "top_k" not in json.loads(python(changed, *dry))["body"]
    assert "--top-k" in python(changed, "-m", "pipeline", "run", "--help")
    code = "import pipeline; print('\"top_k\": 5' in pipeline.dry_run('photos', model='gpt-4o', top_k=5))"
    assert python(changed, "-c", code) == "True\n"
    code = """
from pipeline.config.loading import load_config
for settings in ({}, {"request.top_k": 5}):
    print(load_config(None, settings).config_hash())
"""
    same, other = python(changed, "-c", code).split()
    assert same == load_config(environ={}).config_hash() != other
