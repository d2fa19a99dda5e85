"""The recipe "An export format" of docs/extending.md: one file and its registration."""

from pathlib import Path

import pytest

from pipeline.export import ExportChoices, Format, export, formats
from tests.recipes import block
from tests.store.test_dataset import answered, names, open_out


def test_an_exporter_is_one_file_and_its_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proves that the recipe's file, registered as the page shows it, exports the chosen rows."""
    code, entry = block("An export format", "python"), block("An export format", "py")
    names_of_file: dict[str, object] = {"Format": Format}
    exec(compile(code, "ids.py", "exec"), names_of_file)  # noqa: S102 - our own documentation
    registered = eval(f"{{{entry}}}", names_of_file)  # noqa: S307 - our own documentation
    monkeypatch.setattr(formats, "EXPORTERS", {**formats.EXPORTERS, **registered})
    with open_out(tmp_path / "out") as dataset:
        dataset.commit([answered(name) for name in names(7)])
    report = export(tmp_path / "out", "ids", tmp_path / "ids.txt", ExportChoices(where="id > '003.jpg'"))
    assert report.rows == 3
    assert (tmp_path / "ids.txt").read_text() == "004.jpg\n005.jpg\n006.jpg\n"
