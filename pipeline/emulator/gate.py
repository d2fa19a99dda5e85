"""What a request meets at its arrival: the key, then the rate limit."""

import hmac
from collections.abc import Mapping

from pipeline.emulator.api_errors import ApiError, rate_limited
from pipeline.emulator.bucket import Grant, TokenBucket, go_duration


class Gate:
    """Lets requests in by their headers; a request with a wrong key takes nothing from the limit."""

    def __init__(self, api_key: str | None, rpm: float | None, burst: int | None) -> None:
        self._api_key = api_key
        self._rpm = rpm
        self._burst = burst
        self.open_anew()

    def open_anew(self) -> None:
        """Fill the bucket."""
        self._bucket = None if self._rpm is None else TokenBucket.per_minute(self._rpm, self._burst)

    def admit(self, headers: Mapping[str, str], now_ns: int) -> tuple[ApiError | None, Mapping[str, str]]:
        """Why the request is refused, if it is, and the rate-limit headers of its response."""
        try:
            self.check_key(headers)
        except ApiError as error:
            return error, {}
        if self._bucket is None or self._rpm is None:
            return None, {}
        grant = self._bucket.take(now_ns)
        limits = _limit_headers(self._rpm, grant)
        return None if grant.granted else rate_limited(self._rpm, grant, limits), limits

    def check_key(self, headers: Mapping[str, str]) -> None:
        """Raise ApiError 401 unless the key is given, as OpenAI (`Authorization`) or Azure (`api-key`) take it."""
        if self._api_key is None:
            return
        given = headers.get("Authorization", "").removeprefix("Bearer ").strip()
        given = given or headers.get("api-key", "")
        if not given:
            raise ApiError(401, "You didn't provide an API key.")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self._api_key.encode()):
            raise ApiError(401, "Incorrect API key provided: ***.", code="invalid_api_key")


def _limit_headers(rpm: float, grant: Grant) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": f"{rpm:g}",
        "x-ratelimit-remaining-requests": str(grant.remaining),
        "x-ratelimit-reset-requests": go_duration(grant.reset_ns),
    }
