"""The limiter's constants: each has its sentence, and docs/limits.md has the table as the modules state it."""

import runpy

from tests.support import ROOT


def test_every_constant_has_its_sentence_and_its_row() -> None:
    """The page is what `docs/write_limits.py` writes; a number without a sentence is named here."""
    written = runpy.run_path(str(ROOT / "docs/write_limits.py"))
    rows = written["constants"]()
    assert [(names, module) for names, _, sentence, module in rows if not sentence.endswith(".")] == []
    assert len(rows) > 30
    assert (ROOT / "docs/limits.md").read_text(encoding="utf-8") == written["page"]()
