"""Another prompt in a request that is ready to be sent."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.endpoints.rewording import with_prompt

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def body(prompt: str, system: str) -> dict[str, Any]:
    content = [
        {"type": "text", "text": prompt},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
    ]
    return {"model": "m", "messages": [{"role": "system", "content": system}, {"role": "user", "content": content}]}


@given(TEXT, TEXT, TEXT)
def test_nothing_but_the_prompt_changes(before: str, system: str, prompt: str) -> None:
    """Any prompt, also one that the system prompt repeats."""
    text = json.dumps(body(before, system), ensure_ascii=False, separators=(",", ":")).encode()
    assert json.loads(with_prompt(text, before, prompt)) == body(prompt, system)


def test_a_request_of_another_shape() -> None:
    """It cannot be asked with another prompt, which the message says."""
    with pytest.raises(ValueError, match=r"cannot be asked with another prompt: return Ask\(\) without one"):
        with_prompt(b'{"task":"caption"}', "caption", "more")
