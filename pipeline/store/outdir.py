"""The small files of an output directory: `config.toml`, `README.md`, `status.json`, `runs/*.json`.

Each is replaced atomically. None holds a secret, and whatever text a user or a model gave is quoted so that
it cannot become markup.
"""

import errno
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from pipeline import files
from pipeline.formatting import printable
from pipeline.redaction.addresses import public_url
from pipeline.redaction.redactor import NOTHING_SECRET, is_public_header, is_secret_name, is_variable_name
from pipeline.store.columns import markdown_lines

CARD_NAME = "README.md"
CONFIG_NAME = "config.toml"
SOURCES_NAME = "sources.json"
STATUS_NAME = "status.json"
RUNS_NAME = "runs"
EARLIER = "earlier"
MOST_EARLIER = 100
_OF_EARLIER = ("began_at", "seconds", "exit_code", "stopped", "endpoint", "asked", "by_status", "requests", "cost_usd")
FAILURES_NAME = "failures.csv"
_CUT_CHARS = 60


_FRONT_MATTER = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
tags:
- vision-batch
---
"""


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` as a whole. `durable` makes it survive a power cut, but waits for the disk."""
    files.write_atomic(path, data, durable=durable)


def write_status(out: Path, status: Mapping[str, object]) -> None:
    """`status.json`: for outsiders, who cannot read the ledger while a run goes on."""
    write_atomic(out / STATUS_NAME, _json(status), durable=False)


def write_run(out: Path, run_id: str, summary: Mapping[str, object]) -> None:
    """`runs/<run_id>.json`: what one run did; written at every stop of it, with what its earlier commands did."""
    folder = out / RUNS_NAME
    check_folder(folder)
    folder.mkdir(exist_ok=True)
    path = folder / f"{run_id}.json"
    write_atomic(path, _json({**summary, EARLIER: _earlier(path)}))


def _earlier(path: Path) -> list[object]:
    """The commands of a run that was resumed, the oldest first; the newest are kept."""
    try:
        before = orjson.loads(files.read(path))
    except (OSError, ValueError):
        return []
    if not isinstance(before, dict):
        return []
    listed = before.get(EARLIER)
    last = {name: before.get(name) for name in _OF_EARLIER}
    return [*(listed if isinstance(listed, list) else []), last][-MOST_EARLIER:]


def check_folder(folder: Path, *, may_be_link: bool = False) -> None:
    """Raise OSError where a folder of ours is a link or no folder."""
    if (folder.is_symlink() and not may_be_link) or (os.path.lexists(folder) and not folder.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, "is a link or no directory; move it away", str(folder))


def _json(values: Mapping[str, object]) -> bytes:
    """Decimals as plain text, times in ISO 8601, lone surrogates (of a path that is no UTF-8) as U+FFFD."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
    return orjson.dumps(
        NOTHING_SECRET.tree(values),
        default=lambda value: f"{value:f}" if isinstance(value, Decimal) else str(value),
        option=options,
    )


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the rows of one `config_hash` were asked."""

    config_hash: str
    """Empty where the rows do not name it."""
    rows: int
    identity: Mapping[str, Any]
    """`RunConfig.identity()` without secrets; empty where it was not recorded."""


_BY_CONFIGURATION = "# Rows by configuration (column config_hash)"
_HEAD = "# As resolved for the last run. Whatever could hold a secret is left out.\n\n"


def write_config(out: Path, config: Mapping[str, Any] | None, configurations: Sequence[Configuration] = ()) -> None:
    """`config.toml`: `config` (as `RunConfig.model_dump(mode="json")` gives it), without secrets; None: as it stands.

    What the rows of OUT were asked stands below it, as comments.
    """
    tables = {one.config_hash: {"rows": one.rows, **public(one.identity)} for one in configurations}
    lines = to_toml({"configurations": tables}).strip().splitlines() if tables else []
    below = [f"{_BY_CONFIGURATION}, OUT's own first:", *(f"# {line}".rstrip() for line in lines)]
    tail = "\n".join(below) + "\n" if lines else ""
    head = _written_head(out) if config is None else f"{_HEAD}{to_toml(public(config))}"
    write_atomic(out / CONFIG_NAME, (head + tail).encode("utf-8", "replace"))


def _written_head(out: Path) -> str:
    """`config.toml` without its comments on rows; empty where there is none that can be read."""
    try:
        return (out / CONFIG_NAME).read_text(encoding="utf-8").partition(_BY_CONFIGURATION)[0]
    except (OSError, ValueError):
        return _HEAD


def read_configurations(out: Path) -> dict[str, dict[str, Any]]:
    """What `write_config` wrote of each configuration, by hash; empty where it cannot be read."""
    try:
        _, _, comments = (out / CONFIG_NAME).read_text(encoding="utf-8").partition(_BY_CONFIGURATION)
        tables = tomllib.loads("\n".join(line.removeprefix("#").strip() for line in comments.splitlines()[1:]))
    except (OSError, ValueError):
        return {}
    found = tables.get("configurations", {})
    return {name: {key: value for key, value in one.items() if key != "rows"} for name, one in found.items()}


def public(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what could be a secret: by the name of the field, in headers and in addresses."""
    shown: dict[str, Any] = {}
    for name, value in values.items():
        if name == "headers" and isinstance(value, Mapping):
            shown[name] = {key: text for key, text in value.items() if is_public_header(key)}
        elif name == "proxy" and isinstance(value, str):
            shown[name] = public_url(value)  # also without a scheme
        elif not (is_secret_name(name) or (name == "api_key_env" and not is_variable_name(str(value)))):
            shown[name] = _public_value(value)
    return shown


def _public_value(value: object) -> object:
    if isinstance(value, Mapping):
        return public(value)
    if isinstance(value, list):
        return [_public_value(item) for item in value]
    if isinstance(value, str) and re.match(r"[a-z0-9+.-]+://\S+$", value, re.IGNORECASE):
        return public_url(value)
    return value


def to_toml(values: Mapping[str, Any]) -> str:
    """Nested mappings of str, int, float, bool and lists as TOML 1.0; None is left out."""
    return "\n".join(_toml_lines(values, ()))


def _toml_lines(values: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
    lines = [f"[{'.'.join(map(_toml_key, path))}]"] if path else []
    lines += [f"{_toml_key(name)} = {_toml(value)}" for name, value in plain.items() if value is not None]
    lines.append("")
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _toml_lines(value, (*path, name))
    return lines


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = (f"{_toml_key(name)} = {_toml(item)}" for name, item in value.items() if item is not None)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(item) for item in value if item is not None)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    # JSON's escapes are TOML's, except that JSON leaves DEL as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def differences(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """One line for each field of two configurations that differs: `name: old -> new`, cut short."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name}: {' -> '.join(_cut(before.get(name), now.get(name)))}" for name in names]


def _cut(*values: object) -> list[str]:
    """Values on one line each, from shortly before they begin to differ."""
    texts = [json.dumps(value, ensure_ascii=False) for value in values]
    same = next((n for n, chars in enumerate(zip(*texts, strict=False)) if len(set(chars)) > 1), 0)
    start = max(0, same - _CUT_CHARS // 3) if max(map(len, texts)) > _CUT_CHARS else 0
    stop = start + _CUT_CHARS
    return [f"{'…' if start else ''}{text[start:stop]}{'…' if text[stop:] else ''}" for text in texts]


def write_card(out: Path, configurations: Sequence[Configuration], *, columns: Sequence[str]) -> None:
    """`README.md`, which says what each row was asked, and points `datasets` at `data/`.

    One that was edited is left alone.
    """
    path = out / CARD_NAME
    body = _card(configurations, columns=columns)
    if not os.path.lexists(path) or _is_ours(path):
        write_atomic(path, _signed(body).encode("utf-8", "replace"))


def _is_ours(path: Path) -> bool:
    """Whether the card is a plain file that this module wrote."""
    return not files.is_odd(path) and is_ours(files.read(path).decode("utf-8", "replace"))


def is_ours(card: str) -> bool:
    """Whether a card is as this module wrote it: its last line holds the digest of all the others."""
    body, _, last = card.rstrip("\n").rpartition("\n")
    return f"{body}\n{last}\n" == _signed(f"{body}\n")


def _signed(body: str) -> str:
    digest = hashlib.sha256(body.encode("utf-8", "replace")).hexdigest()[:16]
    return f"{body}<!-- vision-batch {digest}: the next run replaces this file unless it was edited -->\n"


def _card(configurations: Sequence[Configuration], *, columns: Sequence[str]) -> str:
    lines = [_FRONT_MATTER, "# Answers of a vision model, one row per image and prompt", "", "Made with vision-batch."]
    shown = [one for one in configurations if one.rows] or configurations[:1]
    lines += ["", "The rows differ in what was asked: the column `config_hash` says which."] * (len(shown) > 1)
    lines.append("")
    for one in shown:
        lines += _asked(one)
    lines += [
        'Read it with `pandas.read_parquet("data")` in this folder, or `datasets.load_dataset("path/to/it")`.',
        "",
        *markdown_lines(columns),
        "",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _asked(one: Configuration) -> list[str]:
    """What the rows of one configuration were asked."""
    rows = f"{one.rows:,} row{'' if one.rows == 1 else 's'}"
    lines = [f"## Configuration {_inline(one.config_hash or 'unknown')}: {rows}", ""]
    asked = one.identity
    if not asked:
        return [*lines, "What was asked is not recorded.", ""]
    model = asked.get("model") or "the only one of the server"
    if (task := asked.get("request.task")) is not None:  # it has no prompt
        table = asked.get(f"request.{task}") or {}
        set_to = [f"{_inline(name)} {_inline(json.dumps(value))}" for name, value in table.items()]
        return [*lines, f"Task: {_inline(str(task))}, model: {_inline(str(model))}", "", *_listed(set_to)]
    lines += [f"Model: {_inline(str(model))}, detail: {_inline(str(asked.get('detail')))}", ""]
    if asked.get("system"):
        lines += ["System prompt:", "", _fenced(str(asked["system"])), ""]
    if asked.get("request.labels"):
        lines += ["Schema of the labels:", "", _fenced(str(asked["request.labels"])), ""]
    prompts = asked.get("prompts") or [{"name": asked.get("prompt_name"), "text": asked.get("prompt", "")}]
    for prompt in prompts:
        lines += [f"Prompt {_inline(str(prompt['name']))}:", "", _fenced(str(prompt["text"])), ""]
    return lines


def _listed(items: Sequence[str]) -> list[str]:
    return [*(f"- {item}" for item in items), *([""] if items else [])]


def _inline(text: str) -> str:
    """Text as code within a line: no line break, no markup, nothing that ends the code or a table cell."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', '¦').strip()[:200] or ' '}`"


def _fenced(text: str) -> str:
    """Text as a block, between fences that are longer than any run of backticks in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    clean = "\n".join(map(printable, text.splitlines()))
    return f"{fence}text\n{clean}\n{fence}"


def remove_unfinished(out: Path) -> None:
    """Delete what a crash left half written."""
    names = (CARD_NAME, CONFIG_NAME, SOURCES_NAME, STATUS_NAME, FAILURES_NAME)
    named = [out / f".{name}.tmp" for name in names]
    for file in (*named, *(out / RUNS_NAME).glob(".*.json.tmp")):
        file.unlink(missing_ok=True)
