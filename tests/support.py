"""What several tests use."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

Command = Callable[..., tuple[int, str, str]]
"""The fixture `command`: `vision-batch` in this process -> exit code, standard output, standard error."""
MakeImage = Callable[..., Path]
"""The fixture `make_image`: `make_image("a/b.jpg", 640, 480, seed=1)`."""


def emulator_get(url: str, path: str) -> Any:
    """JSON that the emulator tells about itself: `emulator_get(url, "stats")["requests"]`."""
    with urlopen(f"{url.removesuffix('/v1')}/emulator/{path}", timeout=10) as response:  # noqa: S310 - loopback
        return json.load(response)
