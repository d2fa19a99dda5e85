"""The recipe "A model family" of docs/extending.md: a file of facts, and a rule of a kind of its own."""

from pathlib import Path

from pipeline.cli.app import main
from tests.recipes import block, copied, patched, python
from tests.support import MakeImage

HEADING, BUILDING = "A model family", "pipeline/tokens/building.py"
USE = f"""
import sys
import pipeline
from {main.__module__} import main
(estimate,) = pipeline.estimate("photos", models="recap-1").models
print(estimate.token_rule, estimate.mean_tokens.expected)
sys.argv = ["vision-batch", "models", "recap-1-mini"]
main()
"""


def test_a_family_is_a_file_and_a_new_kind_of_rule_another(tmp_path: Path, make_image: MakeImage) -> None:
    """The model is known by its rule: `models` shows it, and `estimate` counts by it."""
    make_image("photos/0.jpg", 1536, 1024)
    tree = copied(tmp_path / "tree", "pipeline", "configs")
    (tree / "pipeline/catalogue/recap.toml").write_text(block(HEADING, "toml"))
    (tree / "pipeline/tokens/recap.py").write_text(block(HEADING, "python"))
    source = patched((tree / BUILDING).read_text(), block(HEADING, "diff"))
    (tree / BUILDING).write_text(source.replace("KINDS:", "from pipeline.tokens.recap import RecapTiles\n\nKINDS:", 1))
    counted, first, *shown = python(tree, "-c", USE).splitlines()
    assert (counted, first) == ("recap-2026 384", "recap-1-mini: family recap (recap-1*)")
    assert "recap-tile: max_side 768, tile_side 32" in "\n".join(shown)
    assert "size         1024x768 auto: sent 768x576, 432 tokens" in shown
