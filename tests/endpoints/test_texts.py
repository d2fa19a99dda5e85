"""What of a message's content is the answer, and what are thoughts."""

import pytest

from pipeline.endpoints.texts import share_of_thoughts, text_of, without_thoughts


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a cat", "a cat"),
        (None, ""),
        (["a ", "cat"], "a cat"),
        ({"type": "text", "text": "a cat"}, "a cat"),
        ({"type": "thinking", "text": "hm"}, ""),
        ([{"type": "text", "text": "a "}, "cat", 7, {"type": "image_url"}, {"type": "text", "text": None}], "a cat"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a cat"}],
            "a cat",
        ),
    ],
)
def test_strings_and_parts(content: object, text: str) -> None:
    """Strings and text parts are joined in order; parts of another kind are no text."""
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a cat", "a cat"),
        ("<think>hm</think>a cat", "a cat"),
        ("\n<think>\nhm\n</think>\n\na cat\n", "a cat"),
        ("<think></think>a cat", "a cat"),
        ("<think>one</think>a <think>two</think>cat", "a cat"),
        ("<think>hm, a cat", ""),
        ("a cat <think>or is it", "a cat"),
        ("<think>one</think>a cat<think>two", "a cat"),
        ("hm, fur</think>a cat", "a cat"),
        ("hm</think>a <think>or</think>cat", "a cat"),
        ("<think>hm</think></think>a cat", "a cat"),
        ("<thinking>hm</thinking>a cat", "<thinking>hm</thinking>a cat"),
        ('{"sign": "x < y"}', '{"sign": "x < y"}'),
    ],
)
def test_thoughts_are_taken_out(text: str, answer: str) -> None:
    """Also several, those without an end, and those whose beginning stands in the prompt."""
    assert without_thoughts(text) == answer


def test_the_share_of_thoughts() -> None:
    """By characters, over all choices; none where there is no text."""
    assert share_of_thoughts(["<think>hm</think>cat", "cat"], ["cat", "cat"]) == 17 / 23
    assert share_of_thoughts(["<think>hm"], [""]) == 1
    assert share_of_thoughts([], []) == 0
