"""`vision-batch emulate`: what is typed becomes the configuration."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipeline.cli import app, emulate
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.error_styles import ErrorStyle
from pipeline.emulator.faults import BadAnswer, Fault
from pipeline.emulator.headers import HeaderStyle, RetryAfter
from pipeline.emulator.limits import CountTokens, LimitKind
from pipeline.emulator.schedule import LatencyStep, Outage, OutageKind

ROOT = Path(__file__).parents[2]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[EmulatorConfig]:
    """The configurations of the emulators that a command would have started."""
    configs: list[EmulatorConfig] = []

    def run_forever(config: EmulatorConfig, *_: Any, **__: Any) -> None:
        configs.append(config)

    monkeypatch.setattr(emulate, "run_forever", run_forever)
    return configs


def _emulate(arguments: str) -> None:
    result = CliRunner().invoke(app.app, ["emulate", *shlex.split(arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_nothing_typed_is_the_default(started: list[EmulatorConfig]) -> None:
    """The command's defaults are the configuration's."""
    _emulate("")
    assert started == [EmulatorConfig()]


def test_everything_typed_arrives(started: list[EmulatorConfig]) -> None:
    """Each option sets its own value."""
    _emulate(
        "--rpm 600 --tpm 200000 --limit-kind sliding --burst 6 --count-tokens billed --header-style azure "
        "--retry-after date --error-style aimlapi --latency-ms 5 --jitter-ms 6 --slots 8 --queue 3 --thrash 0.5 "
        "--latency-schedule 0:200,60:1000 --seed 7 --fault 500=0.1 --fault stall=0.2 --stall-s 9 "
        "--goes-bad-after 3 --goes-bad gibberish --outage 1+2 --outage 5+1 --outage-kind refuse --api-key k --fast "
        "--models 'a, b,'"
    )
    assert started == [
        EmulatorConfig(
            rpm=600, tpm=200_000, limit_kind=LimitKind.SLIDING, burst=6, count_tokens=CountTokens.BILLED,
            header_style=HeaderStyle.AZURE, retry_after=RetryAfter.DATE, error_style=ErrorStyle.AIMLAPI, latency_ms=5,
            jitter_ms=6, latency_schedule=(LatencyStep(0, 200), LatencyStep(60, 1000)), slots=8, queue=3, thrash=0.5,
            seed=7, faults={Fault.SERVER_ERROR: 0.1, Fault.STALL: 0.2}, stall_s=9, goes_bad_after=3,
            goes_bad=BadAnswer.GIBBERISH, outages=(Outage(1, 2), Outage(5, 1)), outage_kind=OutageKind.REFUSE,
            models=("a", "b"), api_key="k", decode=False,
        )
    ]  # fmt: skip


def test_the_examples_of_the_documentation_start(started: list[EmulatorConfig]) -> None:
    """Every `emulate` line of docs/ is a command that there is."""
    lines = [
        line.split("  #")[0]
        for page in sorted((ROOT / "docs").glob("*.md"))
        for line in re.findall(r"^vision-batch emulate(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert len(lines) >= 5
    for line in lines:
        _emulate(line)
    assert len(started) == len(lines)


def test_every_fault_is_documented() -> None:
    """The page on the emulator names each fault."""
    text = (ROOT / "docs" / "endpoints.md").read_text(encoding="utf-8")
    assert [fault for fault in Fault if f"`{fault}`" not in text] == []
