"""TOML, environment and flags, and what is said about a mistake in them."""

from pathlib import Path

import pytest

from pipeline.config.base_urls import normalise_base_url
from pipeline.config.keys import api_key
from pipeline.config.keywords import resolve
from pipeline.config.loading import load_config, presets
from pipeline.config.references import argument, override
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import RequestConfig
from pipeline.errors import InputError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_schema_of_a_prompt_lies_beside_its_file(tmp_path: Path) -> None:
    """As that of all prompts does; a run by cron starts elsewhere."""
    schema = '{"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}'
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "mood.json").write_text(schema)
    path = write(tmp_path / "settings", '[[prompts]]\nname = "a"\ntext = "What?"\nlabels = "mood.json"\n')
    (prompt,) = load_config(path, environ={}).prompts
    assert prompt.labels is not None
    assert '"mood"' in prompt.labels


def test_flag_beats_file_beats_environment_beats_default(tmp_path: Path) -> None:
    """Each layer wins over the one below it."""
    environ = {"OPENAI_BASE_URL": "https://env.example/v1"}
    assert load_config(environ={}).endpoint.base_url == "https://api.openai.com/v1"
    assert load_config(environ=environ).endpoint.base_url == "https://env.example/v1"
    path = write(tmp_path, '[endpoint]\nbase_url = "https://file.example/v1"\n')
    assert load_config(path, environ=environ).endpoint.base_url == "https://file.example/v1"
    flag = {"endpoint.base_url": "https://flag.example/v1"}
    assert load_config(path, flag, environ).endpoint.base_url == "https://flag.example/v1"


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("https://api.aimlapi.com", "https://api.aimlapi.com/v1"),
        ("https://api.aimlapi.com/v1/", "https://api.aimlapi.com/v1"),
        ("https://api.aimlapi.com/chat/completions", "https://api.aimlapi.com/v1"),
        ("api.302.ai", "https://api.302.ai/v1"),
        ("localhost:8000", "http://localhost:8000/v1"),
        ("127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
        ("https://x.openai.azure.com/openai/v1?api-version=p", "https://x.openai.azure.com/openai/v1?api-version=p"),
    ],
)
def test_addresses(given: str, normal: str) -> None:
    """With and without /v1, scheme or slash: the same endpoint; a key never travels in clear to a named host."""
    assert normalise_base_url(given) == normal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[request]\nmodle = "x"\n', "unknown key 'request.modle'; did you mean 'request.model'?"),
        ("[limts]\nconcurrency = 3\n", "unknown key 'limts'; did you mean 'limits'?"),
        ("[limits]\nconcurrency = 0\n", "limits.concurrency: write auto, or a number of at least 1 (got 0)"),
        ("[request\n", "not valid TOML"),
        ('[endpoint]\napi_key = "sk-secret"\n', "it is read only from the environment"),
        ('[endpoint]\nbase_url = "https://me:sk-secret@x/v1"\n', "an address does not hold a key"),
        ('[endpoint]\nbase_url = "ftp://x"\n', "not an http(s) address (got 'ftp://x')"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    """One line, with the file, the key and the nearest known one; never the value of a secret."""
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_config(path, environ={})
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "sk-secret" not in message
    assert "\n" not in message


def test_a_key_is_named_once() -> None:
    """An override names its key already; the key is added to a keyword, which does not."""
    for name, said in ((override("images.quality"), ""), (argument("quality"), "images.quality: ")):
        with pytest.raises(InputError) as caught:
            load_config(None, {"images.quality": 300}, {}, given_as={"images.quality": name})
        assert str(caught.value) == f"{name}: {said}must be at most 95 (got 300)"


def test_unknown_preset() -> None:
    """A name that is neither file nor preset: the nearest preset, and all of them."""
    with pytest.raises(InputError, match=r"no preset of that name; did you mean 'openai'\? Presets: .*ollama"):
        load_config("opnai", environ={})


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_preset_loads(name: str) -> None:
    """No preset has a key that is not known."""
    assert isinstance(load_config(name, environ={}), RunConfig)


def test_the_key_comes_from_the_environment_or_dotenv(tmp_path: Path) -> None:
    """A set variable wins over `.env`; without either the message names the variable; loopback needs none."""
    endpoint = load_config(None, {"endpoint.api_key_env": "MY_KEY"}, {}).endpoint
    with pytest.raises(InputError, match="MY_KEY is not set"):
        api_key(endpoint)
    (tmp_path / ".env").write_text("MY_KEY=from-file\n")
    assert api_key(endpoint) == "from-file"
    assert api_key(endpoint, {"MY_KEY": "from-environment"}) == "from-environment"
    here = load_config(None, {"endpoint.base_url": "http://localhost:8000"}, {}).endpoint
    assert api_key(here, {}) is None


def test_the_hash_is_of_what_is_asked() -> None:
    """Another prompt, model or quality is another configuration; another address or pace is not."""
    base = load_config(None, {"request.model": "a"}, {})
    same = load_config(None, {"request.model": "a", "limits.concurrency": 5, "endpoint.base_url": "http://x/v1"}, {})
    assert base.config_hash() == same.config_hash()
    assert "max_image_tokens" not in base.identity()  # so that datasets from before it remain what they are
    for change in (
        {"request.prompt": "?"},
        {"request.model": "b"},
        {"images.quality": 90},
        {"request.max_tokens": 9},
        {"images.max_image_tokens": 9},
    ):
        assert load_config(None, {"request.model": "a", **change}, {}).config_hash() != base.config_hash()


def test_paths_start_at_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's paths are relative to its folder, and a flag's to the working directory; OUT's copy has them whole."""
    folder = tmp_path / "settings"
    folder.mkdir()
    path = folder / "mine.toml"
    text = """
[endpoint]
ca_file = "proxy.pem"
[[endpoints]]
base_url = "https://a.example"
[[endpoints]]
base_url = "https://b.example"
ca_file = "/etc/b.pem"
[catalogue]
file = "models.toml"
"""
    path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    config = load_config("settings/mine.toml", environ={})
    assert config.catalogue.file == folder / "models.toml"
    assert [one.ca_file for one in config.all_endpoints] == [folder / "proxy.pem", Path("/etc/b.pem")]
    flags = {"catalogue.file": "other.toml", "endpoint.ca_file": "here.pem"}
    config = load_config("settings/mine.toml", flags, environ={})
    assert (config.catalogue.file, config.endpoint.ca_file) == (tmp_path / "other.toml", tmp_path / "here.pem")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('catalogue = "models.toml"', "catalogue: "),
        ("[catalogue]\nfile = 5", "catalogue.file: "),
        ("[[catalogue]]\nfile = 5", "catalogue: "),
        ("endpoints = [1]", "endpoints.0: "),
    ],
)
def test_what_is_no_path(tmp_path: Path, text: str, said: str) -> None:
    """A table or a number where a path belongs is named like any other mistake."""
    with pytest.raises(InputError, match=r"mine\.toml: ") as caught:
        load_config(write(tmp_path, text), environ={})
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["\ud800", "caf\udce9", "a\0b"])
@pytest.mark.parametrize("key", ["catalogue.file", "request.prompt_name", "request.extra.user", "endpoint.headers.x"])
def test_text_that_cannot_be_written_down(key: str, text: str) -> None:
    """NUL, and bytes of a command line that are no UTF-8, are refused with their key, wherever they stand."""
    with pytest.raises(InputError, match=f"^{key}: a NUL byte, or characters that are no valid Unicode text$"):
        load_config(None, {key: text}, environ={})


@pytest.mark.parametrize("value", [2**64, float("nan"), float("inf"), {"a": [10**30]}, {1, 2}])
def test_what_no_request_can_hold(value: object) -> None:
    """A value of `request.extra` that JSON has no place for is refused with its key, before OUT is made."""
    with pytest.raises(InputError, match=r"request\.extra: not possible in JSON"):
        load_config(None, {"request.extra.x": value}, environ={})


def test_no_bound_of_the_answer_stays_none() -> None:
    """`pipeline.run(config=RunConfig(request=RequestConfig(max_tokens=None)))` asks without max_tokens."""
    assert resolve(RunConfig(request=RequestConfig(max_tokens=None)), {}).request.max_tokens is None


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("request.max_tokens", 1.5, "write a whole number (got 1.5)"),
        ("request.detail", "lo", "write 'low', 'high', 'auto' or 'original' (got 'lo')"),
        ("request.dedup", "maybe", "write true or false (got 'maybe')"),
        ("request.prompt", "", "must not be empty (got '')"),
        ("limits.rpm", "x", "write a number (got 'x')"),
        ("budget.max_cost_usd", -1, "must be above 0 (got -1)"),
        ("source.id_column", 3, "write text in quotes (got 3)"),
    ],
)
def test_mistakes_in_plain_words(key: str, value: object, said: str) -> None:
    """What to write, not what a validation library calls it."""
    with pytest.raises(InputError) as caught:
        load_config(None, {key: value}, environ={})
    assert str(caught.value).endswith(f": {said}")


def test_a_mistake_is_said_once() -> None:
    """One address of several stands for two keys."""
    with pytest.raises(InputError) as caught:
        resolve(None, {"base_url": ["ftp://x/y", "http://127.0.0.1:9/v1"]})
    assert str(caught.value).count("not an http(s) address") == 1
