"""What `--set section.key=value` means: JSON, else TOML, else text; and keys of text are given text."""

import pytest

from pipeline.config.loading import load_config
from pipeline.config.written import written_value


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("request.extra.stop", '["\\n"]', ["\n"]),
        ("request.extra.reasoning", '{"effort": "low", "exclude": null}', {"effort": "low", "exclude": None}),
        ("request.extra.user", "null", None),
        ("request.extra.user", '"7"', "7"),
        ("request.extra.user", "'7'", "7"),
        ("request.extra.seed", "7", 7),
        ("request.extra.top_p", "0.5", 0.5),
        ("request.extra.provider", "{require_parameters = true}", {"require_parameters": True}),
        ("request.extra.day", "2026-01-01", "2026-01-01"),
        ("request.extra.deep", "[" * 5000, "[" * 5000),
        ("request.max_tokens", "null", None),
        ("request.dedup", "false", False),
        ("images.quality", "90", 90),
        ("images.quality", "0x10", 16),
        ("limits.concurrency", "auto", "auto"),
        ("request.model", "4o", "4o"),
        ("request.model", "4", "4"),
        ("request.model", '"4"', "4"),
        ("request.system", "null", None),
        ("request.prompt", "null", "null"),
        ("request.prompt", "123", "123"),
        ("request.prompt", "true", "true"),
        ("request.prompt", '{"a": 1}', '{"a": 1}'),
        ("endpoint.api_key_env", "1", "1"),
        ("endpoint.headers.X-Title", "5", "5"),
        ("source.id_column", "2026-01-01", "2026-01-01"),
        ("catalogue.file", "7", "7"),
    ],
)
def test_a_value_as_it_is_written(key: str, text: str, value: object) -> None:
    """JSON is JSON, TOML is understood where it is no JSON, and a key that takes text gets it as it stands."""
    found = written_value(key, text)
    assert (found, type(found)) == (value, type(value))


def test_text_reaches_the_configuration() -> None:
    """Names and prompts that look like numbers are accepted by the configuration as text."""
    keys = ("request.model", "request.prompt", "source.id_column", "source.image_column")
    config = load_config(None, {key: written_value(key, "123") for key in keys}, {})
    assert (config.request.model, config.request.prompt) == ("123", "123")
    assert (config.source.id_column, config.source.image_column) == ("123", "123")
