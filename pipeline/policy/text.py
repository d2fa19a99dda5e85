"""How many tokens the text of a request is billed at, without a tokenizer: a bounded estimate."""

from math import ceil

MESSAGE_TOKENS, ANSWER_TOKENS = 4, 3
"""Around each message, and before the answer. Source: OpenAI cookbook, "How to count tokens with tiktoken"."""
BYTES_PER_TOKEN = 4.0
"""English in o200k; other scripts have more bytes and more tokens a character alike."""


def text_tokens(text: str) -> int:
    """About how many tokens `text` has."""
    return ceil(len(text.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN)


def message_tokens(*texts: str | None) -> int:
    """About how many tokens these messages have together; None stands for a message that is not sent."""
    return ANSWER_TOKENS + sum(MESSAGE_TOKENS + text_tokens(text) for text in texts if text is not None)


def most_message_tokens(*texts: str | None) -> int:
    """No more than this: a token has at least one byte."""
    return ANSWER_TOKENS + sum(
        MESSAGE_TOKENS + len(text.encode("utf-8", "surrogatepass")) for text in texts if text is not None
    )
