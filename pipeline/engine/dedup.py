"""Request deduplication: of equal requests the leader is asked, and the followers wait for its answer."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio

from pipeline.records import Failure, Follower, PreparedRequest


class Leaders:
    """The requests that are being asked now."""

    def __init__(self, lookup: Callable[[PreparedRequest], Awaitable[Follower | None]]) -> None:
        """`lookup` finds the committed answer to the same request."""
        self._lookup = lookup
        self._asked: dict[str, anyio.Event] = {}
        """By request; set when the answer is committed, or there is none."""

    async def lead(
        self, prepare: Callable[[], Awaitable[PreparedRequest | Failure]]
    ) -> PreparedRequest | Failure | Follower:
        """The request to send, as its leader; or the answer of another record, for a follower."""
        while True:
            prepared = await prepare()
            if isinstance(prepared, Failure):
                return prepared
            leader = self._asked.get(prepared.request_sha256)
            if leader is not None:
                prepared = replace(prepared, body=b"")  # a follower holds no image
                await leader.wait()
            else:
                self._asked[prepared.request_sha256] = anyio.Event()
            follower = await self._lookup(prepared)
            if follower is not None and leader is None:
                self.release(prepared.request_sha256)
            if follower is not None or leader is None:
                return prepared if follower is None else follower

    def release(self, request_sha256: str | None) -> None:
        """The leader's answer is committed, or there is none."""
        if request_sha256 in self._asked:
            self._asked.pop(request_sha256).set()
