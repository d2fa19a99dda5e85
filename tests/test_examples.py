"""The files in examples/ as far as this machine can try them: their syntax, and every command in them."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import pipeline
from pipeline.cli.app import command
from pipeline.config.loading import presets
from pipeline.config.sections import Settings
from tests.support import ROOT

EXAMPLES = ROOT / "examples"
VALUES = {
    "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "JOB_COMPLETION_INDEX": "3", "SKYPILOT_NODE_RANK": "3",
    "SKYPILOT_NUM_NODES": "8", "SOURCE": "photos", "OUT": "out",
}  # fmt: skip


def texts() -> Iterator[str]:
    """The shell of every example: scripts, and what the YAML files run."""
    for path in sorted(EXAMPLES.glob("*.sh")):
        yield path.read_text(encoding="utf-8")
    yaml: Any = import_module("yaml")
    for path in sorted(EXAMPLES.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield from (text for text in strings(document) if "vision-batch" in text)


def strings(found: object) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict | list):
        for one in found.values() if isinstance(found, dict) else found:
            yield from strings(one)


def commands() -> Iterator[list[str]]:
    for text in texts():
        for line in text.replace("\\\n", " ").splitlines():
            if found := re.search(r"(?:^|exec )\s*(vision-batch (?:run|merge) .*)", line):
                filled = re.sub(r"\$(\w+)", lambda name: VALUES[name[1]], found[1])
                yield shlex.split(filled)[1:]


def test_shell_is_shell() -> None:
    """`bash -n` takes every script and everything that a YAML file gives to a shell."""
    for text in texts():
        if "\n" in text or text.startswith("exec"):
            done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)  # noqa: S607
            assert (done.returncode, done.stderr) == (0, "")


def test_commands_are_ours() -> None:
    """Each command is taken by the command line: its flags, its shard and its preset exist."""
    found = list(commands())
    assert [words[0] for words in found].count("run") == 3
    assert [words[0] for words in found].count("merge") == 2
    for name, *arguments in found:
        given = command(name).make_context(name, arguments, resilient_parsing=False).params
        assert given["out"]
        if name == "run":
            assert given["shard"] == "3/8"
            assert given["config"] in presets()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: str(path.name))
def test_calls_are_ours(path: Path) -> None:
    """Every keyword of `pipeline.run` and `pipeline.merge` exists."""
    known = {*pipeline.RunOptions.__annotations__, *Settings.__annotations__, "out"}
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    ours = [call for call in calls if ast.unparse(call.func).startswith("pipeline.")]
    assert {ast.unparse(call.func) for call in ours} == {"pipeline.run", "pipeline.merge"}
    for call in ours:
        assert {str(word.arg) for word in call.keywords} <= known
