"""Writes docs/columns.md from the table of columns: `python docs/write_columns.py`."""

from pathlib import Path

from pipeline.store.columns import markdown_lines

HEAD = """\
# Columns of `data/`

A row is a record asked one prompt: its key is (`id`, `prompt_name`). Over all runs on one output
directory there is one row a key. The schema is fixed when the directory is made. This table is
generated from `pipeline/store/columns.py` by `python docs/write_columns.py`.

"""


def page() -> str:
    """The page as it has to stand in docs/."""
    return HEAD + "\n".join(markdown_lines()) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "columns.md").write_text(page(), encoding="utf-8")
