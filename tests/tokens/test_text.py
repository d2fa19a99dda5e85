"""Text tokens: the estimate, and the first bill that corrects it."""

import pytest

from pipeline.tokens import TokenRange
from pipeline.tokens.text import calibrated, message_tokens, most_message_tokens

PROMPT = "Describe this image in one or two sentences."
ESTIMATE = message_tokens(None, PROMPT)


@pytest.mark.parametrize("text", [ESTIMATE, ESTIMATE - 5, ESTIMATE + 5])
def test_the_first_bill_tells_the_text(text: int) -> None:
    """All that was billed but the image is text, where the image's rule is exact."""
    assert calibrated(765 + text, TokenRange.exactly(765), None, PROMPT) == text
    assert calibrated(765 + text, TokenRange.exactly(765, 1), None, PROMPT) == text


def test_a_bill_that_does_not_tell() -> None:
    """A range of image tokens, and a rest that no tokenizer gives, leave the estimate as it is."""
    assert calibrated(800, TokenRange(765, 1100, 85), None, PROMPT) is None
    assert calibrated(765 + 2 * ESTIMATE + 1, TokenRange.exactly(765), None, PROMPT) is None
    assert calibrated(765, TokenRange.exactly(765), None, PROMPT) is None
    short = "ab"
    assert calibrated(765 + most_message_tokens(short) + 1, TokenRange.exactly(765), short) is None
