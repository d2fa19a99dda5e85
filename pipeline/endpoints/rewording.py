"""Replaces the prompt in a request that is ready to be sent; its images stay as they are."""

import json

_TEXT = b'"text":'


def with_prompt(body: bytes, before: str, prompt: str) -> bytes:
    """The body with another prompt. Raises ValueError where the body does not hold the one from before as a text."""
    text, another = _TEXT + _written(before), _TEXT + _written(prompt)
    head, found, tail = body.rpartition(text)  # examples that repeat the prompt stand before it
    if not found:
        raise ValueError("this kind of request cannot be asked with another prompt: return Ask() without one")
    return head + another + tail


def _written(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")
