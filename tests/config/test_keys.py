"""Which key goes where: an address that only `.env` names gets no key of the environment."""

import json
from pathlib import Path

import pytest

import pipeline
from pipeline import InputError
from pipeline.config.loading import find_config, load_config
from pipeline.config.sections import EndpointConfig
from pipeline.http.proxies import proxy_of
from pipeline.http.tls import ssl_context
from tests.stub import stub
from tests.support import Command, MakeImage, unstamped

KEY_HERE = "sk-of-the-environment"
ELSEWHERE = "https://attacker.invalid"
ASK = ("--model", "gpt-4o", "-q")


@pytest.fixture
def photos(make_image: MakeImage, tmp_path: Path) -> Path:
    make_image("photos/0.jpg", 64, 48)
    return tmp_path / "photos"


def dotenv(*lines: str) -> None:
    Path(".env").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "MY_KEY"])
@pytest.mark.parametrize("how", ["flag", "file", "endpoints"])
def test_no_key_of_the_environment_for_an_address_of_dotenv(
    command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch, variable: str, how: str
) -> None:
    """Exit code 2 that names both places and the way out, whichever variable holds the key and whatever names it;
    no other address is asked instead.
    """
    monkeypatch.setenv(variable, KEY_HERE)
    dotenv(f"OPENAI_BASE_URL={ELSEWHERE}")
    table = "[[endpoints]]" if how == "endpoints" else "[endpoint]"
    Path("mine.toml").write_text(f'{table}\napi_key_env = "{variable}"\n', encoding="utf-8")
    given = ("--api-key-env", variable) if how == "flag" else ("-c", "mine.toml")
    for words in (("run", str(photos), "-o", "out", "-q"), ("check",)):
        code, out, err = command(*words, "--model", "gpt-4o", *given)
        assert (code, out) == (2, "")
        assert err == (
            f"vision-batch: the address {ELSEWHERE}/v1 is from .env, and the key {variable} is from the environment: "
            f"an address of .env is used only with a key of the same file. To ask this address, name it: "
            f"--base-url {ELSEWHERE}/v1, or export OPENAI_BASE_URL={ELSEWHERE}/v1. To use both from .env, "
            f"add {variable}=... to it\n"
        )
    assert not Path("out").exists()


def test_nothing_of_the_environment_goes_to_loopback_that_dotenv_names(
    command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server on this machine is asked without a key; named on the command line it gets the key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY_HERE)
    with stub() as server:
        dotenv(f"OPENAI_BASE_URL={server.url}")
        assert command("run", str(photos), "-o", "out", *ASK)[0] == 0
        assert server.keys == [None]
        assert command("run", str(photos), "-o", "named", *ASK, "--base-url", server.url)[0] == 0
        assert server.keys == [None, f"Bearer {KEY_HERE}"]


def test_a_pair_of_dotenv_belongs_together(command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `.env` has address and key, its key is used, whatever the environment exports; a key of `.env` alone
    goes to the address that is configured, and after a variable of the environment.
    """
    with stub() as server:
        monkeypatch.setenv("OPENAI_API_KEY", KEY_HERE)
        dotenv(f"OPENAI_BASE_URL={server.url}", "OPENAI_API_KEY=of-the-file")
        assert command("run", str(photos), "-o", "a", *ASK)[0] == 0
        assert command("run", str(photos), "-o", "b", *ASK, "--base-url", server.url)[0] == 0
        monkeypatch.delenv("OPENAI_API_KEY")
        assert command("run", str(photos), "-o", "c", *ASK, "--base-url", server.url)[0] == 0
        assert server.keys == ["Bearer of-the-file", f"Bearer {KEY_HERE}", "Bearer of-the-file"]


def test_an_exported_address_counts_before_that_of_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address of the environment is the user's, so it gets the key; an empty one means the default."""
    dotenv(f"OPENAI_BASE_URL={ELSEWHERE}")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://mine.example")
    endpoint = load_config().endpoint
    assert (endpoint.base_url, endpoint.is_from_dotenv) == ("https://mine.example/v1", False)
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert load_config().endpoint.base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize("line", ["OPENAI_API_KEY=x${OPENAI_API_KEY}", "OPENAI_BASE_URL=http://127.0.0.1:9/${X}"])
def test_dotenv_cannot_refer_to_the_environment(
    command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """`${NAME}` would carry a key of the environment into the file's own address, or into its own key."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY_HERE)
    monkeypatch.setenv("X", KEY_HERE)
    dotenv("OPENAI_BASE_URL=http://127.0.0.1:9", line)
    code, _, err = command("run", str(photos), "-o", "out", *ASK)
    assert code == 2
    name = line.partition("=")[0]
    assert err == f"vision-batch: .env: {name} refers to another variable (${{...}}): write its value out\n"


def test_headers_of_the_configuration_do_not_go_to_dotenv(command: Command, photos: Path) -> None:
    """`endpoint.headers` may hold a key as well, so an address of `.env` does not get them."""
    dotenv("OPENAI_BASE_URL=http://127.0.0.1:9", "OPENAI_API_KEY=of-the-file")
    code, _, err = command("run", str(photos), "-o", "out", *ASK, "--set", "endpoint.headers.X-Key=secret")
    assert code == 2
    assert "is from .env, and endpoint.headers is from the configuration" in err


def test_a_configuration_as_a_value_remembers_where_its_address_is_from(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From Python, too: resolved once and passed on, an address of `.env` still gets no key of the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY_HERE)
    dotenv(f"OPENAI_BASE_URL={ELSEWHERE}")
    config = load_config(None, {"request.model": "gpt-4o"})
    with pytest.raises(InputError, match=r"is from \.env, and the key OPENAI_API_KEY is from the environment"):
        pipeline.run(photos, out="out", config=config, quiet=True)
    with stub() as server:
        assert pipeline.run(photos, out="out", config=config, base_url=server.url, quiet=True).exit_code == 0
        assert server.keys == [f"Bearer {KEY_HERE}"]


def test_dotenv_sets_no_proxy_and_no_authority(tmp_path: Path) -> None:
    """Proxy and certificates are read from the environment and the configuration alone."""
    dotenv("HTTPS_PROXY=http://127.0.0.1:9", "ALL_PROXY=http://127.0.0.1:9", f"SSL_CERT_FILE={tmp_path}/none.pem")
    endpoint = load_config().endpoint
    assert (proxy_of(endpoint), ssl_context(endpoint)) == (None, None)


def test_a_dotenv_that_cannot_be_read(command: Command, photos: Path) -> None:
    """Bytes that are no text are one clear line; a folder of that name is none of it."""
    Path(".env").write_bytes(b"\xff\xfe\x00")
    code, _, err = command("run", str(photos), "-o", "out", *ASK)
    assert (code, err) == (2, "vision-batch: .env: not UTF-8 text\n")
    Path(".env").unlink()
    Path(".env").mkdir()
    with stub() as server:
        assert command("run", str(photos), "-o", "out", *ASK, "--base-url", server.url)[0] == 0


def test_a_file_never_takes_the_place_of_a_preset(command: Command, photos: Path) -> None:
    """A bare name is the preset; the file of that name is `./openai`, for `-c`, `--models` and `models` alike."""
    Path("openai").write_text('[endpoint]\nbase_url = "http://127.0.0.1:9"\n[request]\nmodel = "mine"\n')
    Path("configs").mkdir()
    Path("configs/openai.toml").write_text('[endpoint]\nbase_url = "http://127.0.0.1:9"\n')
    assert "https://api.openai.com/v1/chat" in command("run", str(photos), "--dry-run", "-c", "openai")[1]
    assert "http://127.0.0.1:9/v1/chat" in command("run", str(photos), "--dry-run", "-c", "./openai")[1]
    count = ("estimate", "--count", "1", "--size", "64x48", "--json", "--models")
    names = [json.loads(command(*count, name)[1])["models"][0]["model"] for name in ("openai", "./openai")]
    assert names == ["gpt-4.1-mini", "mine"]
    assert "gpt-4.1-mini" in command("models", "openai")[1]


def test_a_bare_name_that_is_no_preset(command: Command, photos: Path) -> None:
    """The message says how the file of that name is written; a `Path` from Python is a file, whatever its name."""
    Path("mine").write_text('[request]\nmodel = "m"\n')
    code, _, err = command("run", str(photos), "--dry-run", "-c", "mine")
    assert code == 2
    assert "configuration 'mine': no preset of that name. For the file of that name write ./mine. Presets: " in err
    assert find_config(Path("mine")) == Path("mine")


def test_the_destination_is_shown_before_a_new_out_is_begun(
    command: Command, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host, key and where each is from, before the first request; not a second time, and not with `-q`."""
    with stub() as server:
        dotenv(f"OPENAI_BASE_URL={server.url}")
        first = command("run", str(photos), "-o", "out", "--model", "gpt-4o")[2]
        assert unstamped(first)[0] == f"asks {server.url} (address from .env), no key"
        assert "asks " not in command("run", str(photos), "-o", "out", "--model", "gpt-4o")[2]
        monkeypatch.setenv("OPENAI_API_KEY", KEY_HERE)
        both = ("--base-url", server.url, "--base-url", f"{server.url}/other/v1")
        told = command("run", str(photos), "-o", "more", "--model", "gpt-4o", *both)[2]
        key = "key OPENAI_API_KEY from the environment"
        assert unstamped(told)[0] == f"asks {server.url}, {key}; {server.url}, {key}"
        assert command("run", str(photos), "-o", "quiet", *ASK, *both) == (0, "", "")


def test_an_address_on_the_command_line_takes_the_place_of_a_file_s(command: Command, photos: Path) -> None:
    """`--base-url` asks there and nowhere else, also where the file has a list of endpoints."""
    with stub() as listed, stub() as named:
        Path("w.toml").write_text(f'[[endpoints]]\nbase_url = "{listed.url}"\n')
        for words in (("run", str(photos), "-o", "out", "-q"), ("check",)):
            assert command(*words, "-c", "w.toml", "--base-url", named.url, "--model", "gpt-4o")[0] == 0
        assert command("check", "-c", "w.toml", "--set", f"endpoint.base_url={named.url}", "--model", "gpt-4o")[0] == 0
        assert (len(listed.paths), len(named.paths)) == (0, 3)


def test_the_mark_of_an_address_is_no_setting() -> None:
    """Where an address is from can neither be configured nor is it written down."""
    with pytest.raises(InputError, match="unknown key"):
        load_config(None, {"endpoint.is_from_dotenv": False}, {})
    assert EndpointConfig().marked_from_dotenv().model_dump() == EndpointConfig().model_dump()
