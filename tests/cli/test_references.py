"""Settings and arguments in messages: keys and keywords in the package, flags on the command line alone."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pipeline.cli.app import COMMANDS, usage_words
from pipeline.cli.app import command as command_named
from pipeline.cli.references import flags, with_flags
from pipeline.config.references import REFERENCE
from pipeline.config.run_config import settings
from tests.support import ROOT, Command

PACKAGE = ROOT / "pipeline"
ELSEWHERE = {
    "emulator/child.py": {"--port", "--until-eof"},  # the command that it starts
    "store/again.py": {"--emulator"},  # the command that goes on with OUT
    "viewer/again.py": {"--only", "--retry-where"},  # the same for some rows
    "run/model.py": {"--fetch-urls", "--catalogue", "--model-family", "--rules-of"},  # arguments of that command
}


def texts(path: Path) -> Iterator[str]:
    """The pieces of text in a module, but for its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if "cli" not in path.relative_to(PACKAGE).parts]


def test_flags_are_spelled_on_the_command_line_only() -> None:
    """No text outside cli/ holds a flag, but for whole commands to type and the emulator's own process."""
    found = {}
    for path in MODULES:
        told = {
            flag
            for text in texts(path)
            for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
            if "var(--" not in text and "{ --" not in text and "drop-unreadable" not in flag
        }
        name = path.relative_to(PACKAGE).as_posix()
        if told - ELSEWHERE.get(name, set()):
            found[name] = told
    assert found == {}


def test_references_name_what_exists() -> None:
    """Each `section.key` and `argument=` in a message of the package becomes a flag or a key."""
    for path in MODULES:
        for text in texts(path):
            for reference in REFERENCE.finditer(text):
                is_host = reference["key"] == "siliconflow.cn"
                assert is_host or with_flags(reference[0]) != reference[0], f"{path}: {reference[0]}"


def test_every_flag_of_a_reference_is_an_option() -> None:
    """A reference never names an option that no command has."""
    options = {name for one in COMMANDS for option in command_named(one).params for name in option.opts}
    assert set(flags().values()) <= options


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("lower `limits.concurrency`", "lower --concurrency"),
        ("set `budget.max_cost_usd=USD` or `yes=True`", "set --max-cost USD or --yes"),
        ("`source.id_column=NAME`", "--set source.id_column=NAME"),
        ("see `budget.confirm_usd`", "see budget.confirm_usd"),
        ("`source.skip_bad_rows`", "--skip-bad-rows"),
        ('`overrides["images.quality"]`: too much', "--set images.quality: too much"),
        ("`count=10` `sizes=1x1`", "--count 10 --size 1x1"),
        ("their words: `model.x` and `temperatures=2`", "their words: `model.x` and `temperatures=2`"),
    ],
)
def test_references_become_flags(text: str, shown: str) -> None:
    """Settings with a flag by it, the others by their key; foreign text stays as it is."""
    assert with_flags(text) == shown


def test_keys_are_unique() -> None:
    """No two settings share a keyword."""
    named = [one.setting.keyword for one in settings() if one.setting.keyword]
    assert len(named) == len(set(named))


def test_a_mistake_names_the_flag_that_was_typed(command: Command) -> None:
    """The command line shows flags, and no reference."""
    code, _, err = command("estimate", "--count", "1", "--size", "1x1", "--model", "gpt-4o", "--rpm", "0")
    assert code == 2
    assert err == "vision-batch: --rpm: limits.rpm: must be at least 0.001 (got 0)\n"
    code, _, err = command("run", "photos", "-o", "out", "--set", "limits.rpm=0")
    assert err.startswith("vision-batch: --set limits.rpm: must be at least")


def test_help_lists_the_commands_in_order(command: Command) -> None:
    """The help of the program lists what it does, and every command has help with its options in groups."""
    _, out, _ = command("--help")
    names = ["run", "estimate", "check", "models", "status", "rebuild", "compact", "emulate"]
    assert [out.index(f"  {name} ") for name in names] == sorted(out.index(f"  {name} ") for name in names)
    _, out, _ = command("run", "--help")
    headings = ["Options:", "Endpoint:", "Request:", "Images:", "Limits and budget:", "Records to ask again:"]
    assert [line for line in out.splitlines() if line in headings and line] != []
    assert set(headings) <= set(out.splitlines())


def test_words_of_click_are_one_line(command: Command) -> None:
    """Of names that are alike the nearest is suggested, and a list of choices is no list of lines."""
    more = "lists the options.\n"
    assert command("chek") == (
        2, "", f"vision-batch: No such command 'chek'. Did you mean 'check'? 'vision-batch -h' {more}"
    )  # fmt: skip
    assert command("zebra") == (2, "", f"vision-batch: No such command 'zebra'. 'vision-batch -h' {more}")
    option = click.Option(["--to"], type=click.Choice(["txt", "csv"]), required=True)
    missing = click.MissingParameter(param=option, ctx=click.Context(click.Command("export")))
    assert usage_words(missing) == "Missing option '--to'. Choose from: txt, csv"


def test_a_command_imports_what_it_needs() -> None:
    """The version is shown without the libraries, the status without those of requests; each takes tenths of a second.

    The package gives its names then too, and a room of the same name does not take their place.
    """
    code = """
import sys
from pipeline.cli.app import command, exit_code
assert exit_code(["--version"]) == 0
assert not {"aiohttp", "pyarrow", "numpy", "PIL"} & set(sys.modules)
command("status")
assert not {"aiohttp", "pandas", "PIL", "pipeline.sources"} & set(sys.modules)
command("run")
assert not {"pandas", "pipeline.emulator.app", "pipeline.pages", "jsonschema"} & set(sys.modules)
import pipeline, pipeline.export.rows
from pipeline import *
assert run is pipeline.run and callable(run) and callable(pipeline.export) and "read" in dir(pipeline)
assert not hasattr(pipeline, "nothing")
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)
