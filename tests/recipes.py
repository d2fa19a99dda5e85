"""The recipes of docs/extending.md: their code as it stands there, and a copy of the package to apply it to."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of this language below a heading."""
    return re.findall(rf"^```{language}\n(.*?)^```", section(heading), re.DOTALL | re.MULTILINE)


def block(heading: str, language: str) -> str:
    (only,) = blocks(heading, language)
    return only


def diffs(heading: str) -> dict[str, str]:
    """By file: what a recipe changes in it."""
    return dict(re.findall(r"`(pipeline/\S+\.py)`:\n\n```diff\n(.*?)```", section(heading), re.DOTALL))


def patched(source: str, diff: str) -> str:
    """The source with a diff of one hunk applied: the lines without `+` stand in it once."""
    lines = [line for line in diff.splitlines(keepends=True) if line]
    before = "".join(line[1:] for line in lines if not line.startswith("+"))
    assert source.count(before) == 1, before
    return source.replace(before, "".join(line[1:] for line in lines))


def copied(tree: Path, *names: str) -> Path:
    """These folders of the project at `tree`, writable although the source may be read-only, with their bytecode."""
    for name in names:
        half_written = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(ROOT / name, tree / name, ignore=half_written, copy_function=_copy)
    for folder in (tree, *(path for path in tree.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    return tree


def _copy(source: str, target: str) -> None:
    """The bytes and their time, by which bytecode is known to be of this file."""
    shutil.copyfile(source, target)
    was = os.stat(source)  # noqa: PTH116 - as copytree names files
    os.utime(target, ns=(was.st_atime_ns, was.st_mtime_ns))


def apply(tree: Path, heading: str) -> None:
    for name, diff in diffs(heading).items():
        path = tree / name
        path.write_text(patched(path.read_text(encoding="utf-8"), diff), encoding="utf-8")


def python(tree: Path, *arguments: str) -> str:
    """What Python prints with the package of `tree`."""
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "", "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-P", *arguments], cwd=tree.parent, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
