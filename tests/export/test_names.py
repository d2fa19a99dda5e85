"""Names of files that exports make."""

import pytest

from pipeline.errors import InputError
from pipeline.export.names import UnsafeNameError, below_dest, check_names, suffix_of, without_suffix


@pytest.mark.parametrize(
    ("row_id", "relative_to", "expected"),
    [
        ("a/b.jpg", None, "a/b.jpg"),
        ("./a//b.jpg", None, "a/b.jpg"),
        ("https://host/a/b.jpg", None, "host/a/b.jpg"),
        ("s3://bucket/a.jpg", "s3://bucket", "a.jpg"),
        ("/data/x/a.jpg", "/data/x/", "a.jpg"),
        ("../images/a.jpg", "../images", "a.jpg"),
        ("..a/b..", None, "..a/b.."),
        ("C:\\a.jpg", None, "C:\\a.jpg"),
    ],
)
def test_names_below_dest(row_id: str, relative_to: str | None, expected: str) -> None:
    """Proves which path an id gives."""
    assert below_dest(row_id, relative_to) == expected


@pytest.mark.parametrize(
    ("row_id", "relative_to"),
    [
        ("", None), ("/", None), (".", None), ("..", None), ("a/..", None), ("/a", None), ("https:///../a", None),
        ("a\0b", None), ("data/x.jpg", "dat"), ("/data/../x.jpg", "/data"), ("/data/", "/data"),
        (".vision-batch-export.json", None), ("ä" * 121, None),
    ],
)  # fmt: skip
def test_names_that_are_refused(row_id: str, relative_to: str | None) -> None:
    """Proves that nothing else gets a name."""
    with pytest.raises(UnsafeNameError):
        below_dest(row_id, relative_to)


def test_names_that_are_one_file() -> None:
    """Proves that it is found in any order, whatever the file system holds for the same."""
    apart = [("a.txt", "1"), ("A.txt", "2"), ("b/a.txt", "3"), ("b.txt", "4"), ("e\u0301", "5"), ("\u00e9", "6")]
    check_names(lambda: apart)
    check_names(list)
    with pytest.raises(InputError) as error:
        check_names(lambda: apart, folds=True)
    assert "4 rows share 2 names" in str(error.value)
    for clash in ([("metadata.jsonl", "x")], [("b/a.txt/c", "x")], [("b", "x")]):
        with pytest.raises(InputError, match=r"'x'|'3'"):
            check_names(lambda clash=clash: [*apart, *clash], reserved=["metadata.jsonl"])  # type: ignore[misc] # of a loop


def test_suffixes() -> None:
    """Proves that only the suffix of an image is one."""
    names = ("a.JPG", "v1.2 final", "https://h/a.png?x=.jpg", "t.parquet#1", "a.tar.webp")
    assert [suffix_of(name) for name in names] == [".JPG", "", ".png", "", ".webp"]
    assert [without_suffix(*each) for each in (("a.JPG", ".jpg"), ("n1", ".jpg"), ("a.b", ""))] == ["a", "n1", "a.b"]
