"""Joins presets, files, the environment and the command line into one `RunConfig`.

A flag beats the file, the file beats the environment, the environment beats the defaults of `sections.py`.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.config.environment import DOTENV, Environment, Variable, read_environment
from pipeline.config.messages import explain
from pipeline.config.nesting import DEEPEST, is_too_deep
from pipeline.config.run_config import RunConfig
from pipeline.errors import InputError

PRESET_DIRS = tuple(folder / "configs" for folder in Path(__file__).parents[1:3])
"""In the wheel, else in a checkout; the first that exists counts."""
BASE_URL_VARIABLE = "OPENAI_BASE_URL"


def presets() -> dict[str, Path]:
    """The configurations that ship with the package, by name."""
    folder = next((folder for folder in PRESET_DIRS if folder.is_dir()), PRESET_DIRS[0])
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_config(
    base: str | Path | RunConfig | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    given_as: Mapping[str, str] | None = None,
) -> RunConfig:
    """Joins a preset, a file or an earlier configuration with the environment and with `overrides`.

    The keys of `overrides` are dotted: `{"request.model": "gpt-4o"}`. A path in a file starts at the file's folder, one
    in `overrides` at the working directory. An earlier configuration has its environment already: none is read.
    Raises InputError that names the file, the key and the nearest known key. `given_as` says how a key was given, as a
    reference of `references.py`: `{"limits.rpm": "`rpm=`"}`.
    """
    merged, where = _table(base)
    _override(merged, overrides or {})
    if is_too_deep(merged):
        raise InputError(f"{where}: nested deeper than {DEEPEST} levels")
    _check_text(merged, ())
    named = {**dict.fromkeys(overrides or {}, _OVERRIDES), **(given_as or {})}
    address = None if isinstance(base, RunConfig) else _default_address(merged, _environment(environ))
    if address is not None:
        _merge(merged, {"endpoint": {"base_url": address.value}})
        named["endpoint.base_url"] = f"{BASE_URL_VARIABLE} ({address.place})"
    try:
        config = RunConfig.model_validate(merged)
    except ValidationError as error:
        raise InputError(explain(error, where, named)) from None
    if isinstance(base, RunConfig):
        return _marked_as(config, base)
    return _marked(config, merged) if address is not None and address.place == DOTENV else config


_OVERRIDES = "the overrides"


def _environment(environ: Mapping[str, str] | None) -> Environment:
    return read_environment() if environ is None else Environment(environ)


def _table(base: str | Path | RunConfig | None) -> tuple[dict[str, Any], str]:
    """A configuration as nested tables, and what messages call it."""
    if base is None:
        return {}, _OVERRIDES
    if isinstance(base, RunConfig):
        tables = base.model_dump(exclude_unset=True)
        return {**tables, **({"endpoints": [*tables["endpoints"]]} if "endpoints" in tables else {})}, _OVERRIDES
    path = find_config(base)
    return _located(_read_toml(path), path.parent), str(path)


def _override(merged: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Overrides win over `merged`. A key of `[endpoint]` holds for every `[[endpoints]]` of it too."""
    listed = merged.get("endpoints")
    several = [dict(one) for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    if listed and len(several) == len(listed):
        merged["endpoints"] = several
    for key, value in overrides.items():
        tables = _located(_nested(key, value), Path())
        _merge(merged, tables)
        if key.startswith("endpoint.") and key != "endpoint.base_url":
            for one in several:
                _merge(one, tables["endpoint"])


def _default_address(merged: Mapping[str, Any], environment: Environment) -> Variable | None:
    """The address of the environment, where no other is named."""
    shared = merged.get("endpoint", {})
    if not isinstance(shared, Mapping) or "base_url" in shared:
        return None
    return environment.find(BASE_URL_VARIABLE)


def _marked(config: RunConfig, merged: Mapping[str, Any]) -> RunConfig:
    """Marks the endpoints without an address of their own as addressed by `.env`."""
    endpoints = [
        one if "base_url" in given else one.marked_from_dotenv()
        for one, given in zip(config.endpoints, merged.get("endpoints", ()), strict=True)
    ]
    changed = {"endpoints": tuple(endpoints)} if endpoints else {}
    return config.model_copy(update={"endpoint": config.endpoint.marked_from_dotenv(), **changed})


def _marked_as(config: RunConfig, before: RunConfig) -> RunConfig:
    """Marks the addresses that are marked in an earlier form of this configuration."""
    marked = {one.base_url for one in (before.endpoint, *before.endpoints) if one.is_from_dotenv}
    if not marked:
        return config
    endpoint, *endpoints = (
        one.marked_from_dotenv() if one.base_url in marked else one for one in (config.endpoint, *config.endpoints)
    )
    return config.model_copy(update={"endpoint": endpoint, "endpoints": tuple(endpoints)})


def find_config(name_or_file: str | Path) -> Path:
    """The preset of a bare name; else a file, which has a suffix or a slash (a `Path` is always a file).

    A file in the working directory never takes the place of a preset.
    """
    name, path = str(name_or_file), Path(name_or_file)
    is_name = isinstance(name_or_file, str) and "/" not in name and not path.suffix
    if not is_name and path.is_file():
        return path
    known = presets()
    if is_name and name in known:
        return known[name]
    raise InputError(f"configuration {name!r}: {_no_config(name, path, known, is_name=is_name)}")


def _no_config(name: str, path: Path, known: Mapping[str, Path], *, is_name: bool) -> str:
    if is_name and path.is_file():
        return f"no preset of that name. For the file of that name write ./{name}. Presets: {', '.join(known)}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"no such file, and no preset of that name{hint} Presets: {', '.join(known)}"


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{path}: not valid TOML: the file is not UTF-8") from None
    except ValueError as error:  # numbers of thousands of digits are no TOMLDecodeError
        raise InputError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise InputError(f"{path}: nested deeper than {DEEPEST} levels") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _nested(dotted: str, value: object) -> dict[str, Any]:
    *sections, key = dotted.split(".")
    if len(sections) > DEEPEST:
        raise InputError(f"{dotted[:80]!r}: nested deeper than {DEEPEST} levels")
    nested: dict[str, Any] = {key: value}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def _located(what: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Makes paths absolute, so that the copy in OUT means the same files."""
    found = dict(what)
    for section, key in (("catalogue", "file"), ("endpoint", "ca_file"), ("endpoints", "ca_file")):
        entry = found.get(section)
        if isinstance(entry, list):
            found[section] = [_with_path(one, key, folder) for one in entry]
        elif entry is not None:
            found[section] = _with_path(entry, key, folder)
    request = found.get("request")
    if isinstance(request, Mapping) and isinstance(request.get("messages"), list | tuple):
        request = {**request, "messages": [_with_images(one, folder) for one in request["messages"]]}
        found["request"] = request
    if isinstance(request, Mapping):
        found["request"] = _with_labels(request, folder)
    if isinstance(found.get("prompts"), list | tuple):
        found["prompts"] = [_with_labels(one, folder) for one in found["prompts"]]
    return found


def _with_labels(table: object, folder: Path) -> object:
    """A table with the schema of its answers, which a file beside it may hold."""
    if not isinstance(table, Mapping) or table.get("labels") is None:
        return table
    from pipeline.labels.loading import schema_text  # noqa: PLC0415 - jsonschema is imported with labels only

    return {**table, "labels": schema_text(table["labels"], folder)}


def _with_images(message: object, folder: Path) -> object:
    """A message with the paths of its images made absolute."""
    images = message.get("images") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(images, list | tuple):
        return message
    return {**message, "images": [folder.absolute() / one if isinstance(one, str | Path) else one for one in images]}


def _with_path(table: object, key: str, folder: Path) -> object:
    if not isinstance(table, Mapping) or not isinstance(table.get(key), str | Path):
        return table
    return {**table, key: folder.absolute() / table[key]}


def _check_text(value: object, path: tuple[str, ...]) -> None:
    """Raises InputError for text that cannot be written down: bytes of a command line that are no UTF-8."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_text(str(key), path)
            _check_text(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for item in value:
            _check_text(item, path)
    elif isinstance(value, str | Path) and not _is_text(str(value)):
        dotted = ".".join(path).encode("utf-8", "backslashreplace").decode()
        raise InputError(f"{dotted}: a NUL byte, or characters that are no valid Unicode text")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _merge(into: dict[str, Any], what: Mapping[str, Any]) -> None:
    for key, value in what.items():
        current = into.get(key)
        if isinstance(value, Mapping) and isinstance(current, dict):
            _merge(current, value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value
