"""The list of ids that is asked again, and the command that does so."""

import shlex
from datetime import UTC, datetime
from pathlib import Path

import pipeline
from pipeline.viewer.again import write_list
from pipeline.viewer.gallery import Gallery
from tests.builders import ask
from tests.support import Command, MakeImage

NOW = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)


def test_the_command_asks_these_again(make_image: MakeImage, command: Command, endpoint: str) -> None:
    """As it is shown, and of one prompt of several: these rows and no others."""
    names = ["a.jpg", "it's $b.jpg", "line\nbreak.jpg"]
    for name in names:
        make_image(f"my photos/{name}")
    prompts = [{"name": "short", "text": "Say it shortly."}, {"name": "l'ong", "text": "Say all."}]
    ask("my photos", endpoint, out="my out", overrides={"prompts": prompts})
    gallery = Gallery(Path("my out"))
    before = pipeline.read("my out")
    keys = [(one, "l'ong") for one in names]
    origins = Path("my out/sources.json")  # the name that was typed leads nowhere from here
    origins.write_text(origins.read_text().replace('"source": "my photos"', '"source": "gone"'))
    made = write_list(gallery.out, keys, prompts=gallery.prompts(), is_rehearsal=gallery.is_rehearsal(), now=NOW)
    assert (made.ids, made.left_out) == (2, 1)
    assert made.path.read_text() == "a.jpg\nit's $b.jpg\n"
    assert made.command.startswith(f"vision-batch run '{Path('my photos').resolve()}' -o 'my out' -c ")
    code, _, stderr = command(*shlex.split(made.command)[1:])
    assert code == 0, stderr
    after = pipeline.read("my out")
    changed = after[after["run_id"] != before["run_id"].iloc[0]]
    assert sorted(changed[["id", "prompt_name"]].itertuples(index=False, name=None)) == keys[:2]


def test_what_is_not_known_is_a_word_to_replace(tmp_path: Path) -> None:
    """Of an output directory that does not say where its images are."""
    made = write_list(tmp_path, [("a", "x"), ("a", "y")], prompts=["x", "y"], is_rehearsal=False, now=NOW)
    assert made.command == f"vision-batch run SOURCE -o {tmp_path} --only {made.path}"
    rehearsed = write_list(tmp_path, [("a", "x")], prompts=["x"], is_rehearsal=True, now=NOW)
    assert rehearsed.command == f"vision-batch run SOURCE -o {tmp_path} --emulator --only {made.path}"
    assert made.path.read_text() == "a\n"
