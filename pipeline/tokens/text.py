"""How many tokens the text of a request is billed at, without a tokenizer: a bounded estimate, until the first bill."""

from math import ceil

from pipeline.tokens.base import TokenRange

MESSAGE_TOKENS, ANSWER_TOKENS = 4, 3
"""Around each message, and before the answer. Source: OpenAI cookbook, "How to count tokens with tiktoken"."""
BYTES_PER_TOKEN = 4.0
"""English in o200k; other scripts have more bytes and more tokens a character alike."""


def text_tokens(text: str) -> int:
    """About how many tokens `text` has."""
    return ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)


def most_text_tokens(text: str) -> int:
    """No more than this: a token has at least one byte."""
    return len(text.encode("utf-8", "surrogatepass"))


def message_tokens(*texts: str | None) -> int:
    """About how many tokens these messages have together; None stands for a message that is not sent."""
    return ANSWER_TOKENS + sum(MESSAGE_TOKENS + text_tokens(text) for text in texts if text is not None)


def most_message_tokens(*texts: str | None) -> int:
    """No more than this."""
    return ANSWER_TOKENS + sum(MESSAGE_TOKENS + most_text_tokens(text) for text in texts if text is not None)


EXACT = 2
"""Tokens between the bounds of an image rule that is exact but for its rounding."""


def calibrated(prompt_tokens: int, image: TokenRange, *texts: str | None) -> int | None:
    """The text's tokens, as the bill of one request shows them: all that was billed but the image.

    None where the bill does not show it: the image's own tokens are not certain, or what is left is further from our
    estimate than tokenizers are from each other, so that it is the image's rule that is wrong.
    """
    if image.upper - image.lower > EXACT:
        return None
    left, estimate = prompt_tokens - image.expected, message_tokens(*texts)
    most = min(2 * estimate, most_message_tokens(*texts))
    return left if estimate <= 2 * left and left <= most else None
