"""The probabilities of an answer's tokens, which here are drawn: the same text has the same ones."""

from typing import Any

from pipeline.emulator.chance import draw

_TOKEN_CHARS = 4
_LEAST = -0.5
"""The logarithm of the least probable token."""


def logprobs_of(text: str, top: int) -> dict[str, Any]:
    """As a choice has them, with `top` likely tokens at each place."""
    pieces = [text[at : at + _TOKEN_CHARS] for at in range(0, len(text), _TOKEN_CHARS)]
    return {"content": [_entry(piece, place, top) for place, piece in enumerate(pieces)], "refusal": None}


def _entry(piece: str, place: int, top: int) -> dict[str, Any]:
    logprob = _LEAST * draw(0, f"logprob:{piece}", place)
    others = [_token(f"{piece}{number}", logprob - number) for number in range(1, top)]
    return {**_token(piece, logprob), "top_logprobs": [_token(piece, logprob), *others] if top else []}


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
