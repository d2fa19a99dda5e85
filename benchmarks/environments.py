"""The clients that are compared, each with a virtual environment of its own in the user's cache directory."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common import HERE, cache_dir, clean_environment

INSTALL_TIMEOUT_S = 900
REQUIREMENTS = HERE / "clients" / "requirements"


@dataclass(frozen=True, slots=True)
class Client:
    """One way to caption a folder."""

    name: str
    title: str
    script: str
    own: bool = False
    """It runs in the environment of this project."""
    arguments: tuple[str, ...] = ()
    limited: bool = True
    """It makes sense to give it an endpoint that refuses, and to kill it."""

    @property
    def requirements(self) -> Path:
        return REQUIREMENTS / f"{Path(self.script).stem}.txt"

    def files(self) -> Iterator[Path]:
        """What its results depend on."""
        yield from (HERE / self.script, HERE / "harness.py", HERE / "server.py")
        if self.own:
            yield from sorted((HERE.parent / "pipeline").rglob("*.py")) if self.name == "ours" else ()
        else:
            yield self.requirements

    def digest(self) -> str:
        return hashlib.sha256(b"".join(path.read_bytes() for path in self.files())).hexdigest()[:12]


CLIENTS = (
    Client("ours", "vision-batch", "ours.py", own=True),
    Client("bare", "bare loop (aiohttp, uvloop)", "clients/bare.py", own=True, limited=False),
    Client("openai", "OpenAI SDK, aiohttp backend", "by_hand.py"),
    Client("openai-httpx", "OpenAI SDK as it comes", "by_hand.py", arguments=("--httpx",), limited=False),
    Client("cookbook", "OpenAI cookbook's processor", "clients/cookbook.py"),
    Client("litellm", "LiteLLM `acompletion`", "clients/litellm_acompletion.py"),
    Client("langchain", "LangChain `abatch`", "clients/langchain_abatch.py"),
    Client("daft", "Daft `prompt`", "clients/daft_prompt.py"),
    Client("curator", "Bespoke Curator", "clients/curator_llm.py"),
    Client("ray", "Ray Data HTTP processor", "clients/ray_http.py", limited=False),
)


class NotInstalledError(Exception):
    """A client's environment cannot be made; the message says why."""


def python_of(client: Client, cache: Path | None) -> Path:
    """The interpreter that runs `client`; its environment is made where it is missing."""
    if client.own:
        return Path(sys.executable)
    digest = hashlib.sha256(client.requirements.read_bytes() + sys.version.encode()).hexdigest()[:8]
    folder = cache_dir(cache) / "environments" / f"{client.requirements.stem}-{digest}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing {client.title} in {folder} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(client.requirements)]
        _done([sys.executable, "-m", "venv", str(folder)])
        _done(install)
        _done([str(python), "-m", "compileall", "-q", "-j", "0", str(folder / "lib")], check=False)
        (folder / "complete").touch()
    return python


def _done(command: list[str], *, check: bool = True) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False, env=clean_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from None
    if check and done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.startswith("ERROR")]
        raise NotInstalledError((said or done.stderr.splitlines() or ["it said nothing"])[0])
