"""A real Chromium: pages as a person gets them, and axe-core's check of who can use them.

The fixture `browse` opens a page in a tab of its own:

    with browse(file, width=390, dark=True) as page:
        page.get_by_role("searchbox").fill("cat")
        assert serious_faults(page) == []

`file` is a path or an address on this machine. At the end of the `with` the page must have kept to itself: no dialog,
no error in its scripts, no request to another place. What a test does with `pipeline` stands outside of the `with`.
"""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

PLACES = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb")
SERIOUS = {"serious", "critical"}
PHONE = 390
DESKTOP = 1280


class Browse(Protocol):
    """The fixture `browse`."""

    def __call__(
        self, place: Path | str, *, width: int = DESKTOP, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> "AbstractContextManager[Page]":
        """Open a path or an address in a window of this size."""


def chromium_path() -> str:
    """Skips the test where there is no Chromium; where nothing may be missing, the test fails."""
    found = next(filter(None, map(shutil.which, PLACES)), None)
    if found is not None:
        return found
    message = f"no Chromium on this machine ({', '.join(PLACES)})"
    if os.environ.get("NOTHING_IS_MISSING") == "1":
        pytest.fail(message)
    pytest.skip(message)


def _nothing() -> None:
    """There is nothing to stop yet."""


class Chromium:
    """One browser, started when the first page is opened."""

    def __init__(self) -> None:
        self._browser: Browser | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], None] = _nothing

    def close(self) -> None:
        if self._browser is not None:
            with self._driving():
                self._browser.close()
                self._stop()

    @contextmanager
    def browse(
        self, place: Path | str, *, width: int = DESKTOP, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> "Iterator[Page]":
        address = place if isinstance(place, str) else place.absolute().as_uri()
        with self._driving():
            context = self._started().new_context(
                viewport={"width": width, "height": height},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
                java_script_enabled=scripts,
                offline=address.startswith("file:"),
                locale="en-GB",
                timezone_id="UTC",
            )
            try:
                yield from self._watched(context, address)
            finally:
                context.close()

    @staticmethod
    def _watched(context: "BrowserContext", address: str) -> "Iterator[Page]":
        page, complaints = context.new_page(), list[str]()
        page.set_default_timeout(30_000)
        here = (urlsplit(address).scheme, urlsplit(address).netloc)

        def dismiss(dialog: "Dialog") -> None:
            complaints.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        def note(request: "Request") -> None:
            if urlsplit(request.url)[:2] != here and not request.url.startswith(("data:", "blob:")):
                complaints.append(f"request: {request.url}")

        page.on("dialog", dismiss)
        page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
        page.on("request", note)
        page.goto(address)
        yield page
        if complaints:
            pytest.fail("the page did more than show itself: " + "; ".join(complaints))

    def _started(self) -> "Browser":
        if self._browser is None:
            from playwright.sync_api import sync_playwright  # noqa: PLC0415 - most tests need no browser

            playwright = sync_playwright().start()
            self._loop, self._stop = asyncio.get_running_loop(), playwright.stop
            self._browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGUMENTS)
        return self._browser

    @contextmanager
    def _driving(self) -> Iterator[None]:
        """Playwright marks its loop as running in this thread, where other tests run theirs: only in here."""
        asyncio._set_running_loop(self._loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """The one browser of this process."""
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture
def browse(chromium: Chromium) -> Browse:
    """Open pages; see this module."""
    chromium_path()
    return chromium.browse


def serious_faults(page: "Page") -> list[str]:
    """What axe-core finds serious or critical, each with the element."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - most tests need no browser

    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in SERIOUS
        for node in one["nodes"]
    ]
