"""The sockets that an emulator listens on: they can be closed for a time and opened again on the same port."""

import asyncio
import errno
import socket

from aiohttp import web

from pipeline.emulator.schedule import Outage, OutageKind
from pipeline.emulator.timing import Timing
from pipeline.errors import InputError

_BACKLOG = 2048
_BIND_TRIES = 1000


class Door:
    """Where clients come in."""

    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner
        self._held: list[socket.socket] = []

    async def open(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free one. Raises InputError where that cannot be."""
        try:
            await web.TCPSite(self._runner, host, port, backlog=_BACKLOG).start()
        except OverflowError:
            raise InputError(f"port {port} is no port: expected 0 to 65535 (0 takes a free one)") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                message = f"port {port} on {host} is in use: choose another with `port=`, or 0 for a free one"
            else:
                message = f"cannot listen on {host}, port {port}: {error.strerror or error}"
            raise InputError(message) from None

    async def close(self) -> None:
        """Refuse connections and reset those that are open. The port stays reserved for this process."""
        addresses = self._runner.addresses
        for site in list(self._runner.sites):
            await site.stop()
        self.reset_connections()
        self._held = [await _bound(address) for address in addresses]

    async def open_again(self) -> None:
        """Listen on the ports that were closed."""
        while self._held:
            await web.SockSite(self._runner, self._held.pop(), backlog=_BACKLOG).start()

    def reset_connections(self) -> None:
        """Reset every open connection."""
        connections = self._runner.server.connections if self._runner.server else []
        for connection in connections:
            if connection.transport is not None:
                connection.transport.abort()

    def give_up(self) -> None:
        """Let go of ports that were not opened again."""
        while self._held:
            self._held.pop().close()


async def keep_outages(door: Door, outages: tuple[Outage, ...], kind: OutageKind, timing: Timing) -> None:
    """Do to the connections what the outages ask for, each at its time."""
    for outage in outages:
        await _sleep_until(outage.start_s, timing)
        if kind is OutageKind.REFUSE:
            await door.close()
        else:
            door.reset_connections()
        await _sleep_until(outage.end_s, timing)
        await door.open_again()


async def _sleep_until(moment_s: float, timing: Timing) -> None:
    left_s = moment_s - timing.elapsed_s(timing.clock_ns())
    if left_s > 0:
        await timing.sleep(left_s)


async def _bound(address: tuple[str, int]) -> socket.socket:
    """A socket that holds an address and does not listen."""
    held = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for attempt in range(_BIND_TRIES):
        try:
            held.bind(address)
        except OSError:
            # A loop closes what listened in one of its next turns.
            if attempt == _BIND_TRIES - 1:
                held.close()
                raise
            await asyncio.sleep(0)
        else:
            break
    return held
