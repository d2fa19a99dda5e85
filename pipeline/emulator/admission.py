"""What a request meets before it is served: the key, then the limits of requests and of tokens."""

import hmac
from collections.abc import Callable, Mapping

from pipeline.emulator.api_errors import more_than_a_minute, no_key, requests_limited, tokens_limited, wrong_key
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.headers import LimitState, limit_headers, retry_after_headers
from pipeline.emulator.limits import CountTokens, Limit, make_limit


class Admission:
    """Lets requests in. One with a wrong key takes nothing from a limit, one that is refused from neither."""

    def __init__(self, config: EmulatorConfig, wall_ns: Callable[[], int]) -> None:
        self._config = config
        self._wall_ns = wall_ns
        self.reset()

    @property
    def limited(self) -> bool:
        """Whether there is any limit, and so a header about it."""
        return self._requests is not None or self._tokens is not None

    def reset(self) -> None:
        """Begin as if nothing had been granted."""
        config = self._config
        self._requests = _limit(config, config.rpm, config.request_burst)
        self._tokens = _limit(config, config.tpm, config.token_burst)

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise ApiError 401 unless the key is given, as OpenAI (`Authorization`) or Azure (`api-key`) take it."""
        if self._config.api_key is None:
            return
        given = headers.get("Authorization", "").removeprefix("Bearer ").strip()
        given = given or headers.get("api-key", "")
        if not given:
            raise no_key()
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._config.api_key.encode()):
            raise wrong_key()

    def admit_request(self, now_ns: int) -> None:
        """Take a place in the limit of requests. Raises LimitError where there is none."""
        if self._requests is None or self._config.rpm is None:
            return
        wait_ns = self._requests.ask(1, now_ns)
        if wait_ns:
            raise requests_limited(self._config.rpm, wait_ns, self.retry_after(wait_ns))

    def admit_tokens(self, model: str, tokens: int, arrived_ns: int, now_ns: int) -> None:
        """Take `tokens` for a request that took its place at `arrived_ns`.

        Raises LimitError where there is no room for them, and gives the place back.
        """
        if self._tokens is None or self._config.tpm is None:
            return
        too_large = tokens > self._config.tpm
        wait_ns = 0 if too_large else self._tokens.ask(tokens, now_ns)
        if (too_large or wait_ns) and self._requests is not None:
            self._requests.give_back(1, arrived_ns, now_ns)
        if too_large:
            raise more_than_a_minute(model, self._config.tpm, tokens)
        if wait_ns:
            raise tokens_limited(model, self._config.tpm, tokens, wait_ns, self.retry_after(wait_ns))

    def settle(self, admitted: int, billed: int, admitted_ns: int, now_ns: int) -> int:
        """Correct what was admitted by what was billed, where that is what counts; by how many tokens."""
        if self._config.count_tokens is not CountTokens.BILLED:
            return 0
        if self._tokens is not None and billed > admitted:
            self._tokens.charge(billed - admitted, now_ns)
        elif self._tokens is not None:
            self._tokens.give_back(admitted - billed, admitted_ns, now_ns)
        return billed - admitted

    def retry_after(self, wait_ns: int) -> dict[str, str]:
        """How a 429 asks to wait."""
        return retry_after_headers(self._config.retry_after, wait_ns, self._wall_ns())

    def headers(self, now_ns: int) -> dict[str, str]:
        """How the limits stand, as the style in use tells it."""
        config = self._config
        requests = _state_of(self._requests, config.rpm, now_ns)
        return limit_headers(
            config.header_style, requests, _state_of(self._tokens, config.tpm, now_ns), self._wall_ns()
        )


def _limit(config: EmulatorConfig, per_minute: float | None, burst: int) -> Limit | None:
    return None if per_minute is None else make_limit(config.limit_kind, per_minute, burst)


def _state_of(limit: Limit | None, per_minute: float | None, now_ns: int) -> LimitState | None:
    if limit is None or per_minute is None:
        return None
    standing = limit.standing(now_ns)
    return LimitState(per_minute, standing.remaining, standing.reset_ns)
