"""Signals that end a run."""

import signal
import threading
from collections.abc import Callable

import anyio


async def watch_signals(interrupt: Callable[[signal.Signals], None]) -> None:
    """Call `interrupt` for each SIGINT, SIGTERM and SIGHUP, until cancelled; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    known = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]
    wanted = [number for number in known if signal.getsignal(number) is not signal.SIG_IGN]  # nohup
    before = {number: signal.getsignal(number) for number in wanted}
    try:
        with anyio.open_signal_receiver(*wanted) as numbers:
            async for number in numbers:
                interrupt(number)
    finally:  # the loop would leave SIGINT to Python's own handler, which ends in a traceback
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
