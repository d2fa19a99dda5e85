"""An OpenAI-compatible endpoint on this machine, for rehearsals and tests. It is no model and says so.

It decodes the image it is sent, bills the tokens that the published rule gives, and describes what can
be measured. Limits, latency and faults are settings of an `EmulatorConfig`.
"""

from pipeline.emulator.app import create_app
from pipeline.emulator.child import child_emulator
from pipeline.emulator.config import EmulatorConfig
from pipeline.emulator.faults import Fault, parse_faults
from pipeline.emulator.server import RunningEmulator, run_forever, serve

__all__ = [
    "EmulatorConfig",
    "Fault",
    "RunningEmulator",
    "child_emulator",
    "create_app",
    "parse_faults",
    "run_forever",
    "serve",
]
