"""The next command that each one names, and the way out that a mistake in its words has."""

import io
from pathlib import Path

import pytest

from pipeline.cli import output
from pipeline.display import progress
from tests.support import Command, MakeImage

OWN = 'prices.models=[{model="own-vlm",input_usd_per_mtok=0.1,output_usd_per_mtok=0.4}]'


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["export", "out", "-o", "texts"], 2, "'-o'. Usage: vision-batch export [OPTIONS] OUT [DEST]\n"),
        (
            ["run", "my", "photos", "-o", "out", "--emulator"],
            2,
            "my: no such file or folder. A name with spaces",
        ),
        (["run", "phtos", "-o", "out", "--emulator"], 2, "did you mean 'photos'?"),
        (["estimate", "photos", "--model", "own-vlm", "--base-url", "http://127.0.0.1:9/v1"], 0, f" --set '{OWN}'\n"),
        (
            ["estimate", "photos", "--model", "own-vlm", "--base-url", "http://127.0.0.1:9/v1", "--set", OWN],
            0,
            f"next: vision-batch run photos -o OUT --base-url http://127.0.0.1:9/v1 --model own-vlm --set '{OWN}'\n",
        ),
        (
            ["estimate", "photos", "--base-url", "http://127.0.0.1:9/v1"],
            0,
            "--base-url http://127.0.0.1:9/v1 --model NAME  (a server of one model is not asked which",
        ),
    ],
)
def test_what_to_type_next(make_image: MakeImage, command: Command, arguments: list[str], code: int, said: str) -> None:
    """A line that works once its capital words are replaced; a mistake says how the words stand."""
    make_image("my photos/a.jpg")
    make_image("photos/a.jpg")
    found = command(*arguments)
    assert found[0] == code
    assert said in found[1] + found[2]
    assert not Path("out").exists()


def test_answers_that_are_cut_off_have_a_way_out(make_image: MakeImage, command: Command, endpoint: str) -> None:
    """They cost as much as whole ones, and the exit code is 0."""
    make_image("photos/a.jpg")
    words = ("run", "photos", "-o", "out", "--model", "gpt-4o", "--base-url", endpoint, "--max-tokens", "2")
    code, out, noted = command(*words)
    assert code == 0
    (line,) = [line for line in (out + noted).splitlines() if line.startswith("next: ")]
    assert line == (
        f"next: vision-batch {' '.join(words)} --retry-status truncated --max-tokens N  "
        "(asks the 1 that are cut off again, for longer answers)"
    )


class Screen(io.StringIO):
    """A terminal of 40 columns."""

    def isatty(self) -> bool:
        return True


def test_messages_break_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; not a line to copy, and nothing in a log."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    words = "OPENAI_API_KEY is not set: export it, or name another variable"
    lines: list[str] = []
    for stream, write in (("stderr", output.complain), ("stderr", progress.say), ("stdout", output.show_lines)):
        screen = Screen()
        monkeypatch.setattr(f"sys.{stream}", screen)
        write(words)
        write(f"next: vision-batch check --model {'x' * 40}")
        lines = screen.getvalue().splitlines()
        assert max(map(len, lines[:2])) <= 40
        assert " ".join(" ".join(lines[:2]).split()).endswith(words)
        pipe = io.StringIO()
        monkeypatch.setattr(f"sys.{stream}", pipe)
        write(words)
        assert pipe.getvalue().endswith(f"{words}\n")
    assert lines[2] == f"next: vision-batch check --model {'x' * 40}"
