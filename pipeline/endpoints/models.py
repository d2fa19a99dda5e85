"""The models that an endpoint lists under `GET /models`."""

from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp

from pipeline.endpoints.errors import excerpt, parse_json, read_failure
from pipeline.endpoints.target import Target
from pipeline.endpoints.transfer import MAX_ANSWER_BYTES, network_failure, too_long
from pipeline.errors import ErrorKind
from pipeline.http.posting import read_whole
from pipeline.http.session import open_session
from pipeline.limits.decision import SUCCESSES
from pipeline.records import Failure
from pipeline.redaction.redactor import one_line

LISTED_S: Final = 5.0
"""How long a run waits for a list of models that it can do without."""
NEEDED_S: Final = 15.0
"""How long for one that it cannot begin without."""


async def list_models(target: Target) -> tuple[str, ...] | Failure:
    """The names that the endpoint lists, in its order."""
    listed = await _listed(target, NEEDED_S)
    return listed if isinstance(listed, Failure) else tuple(filter(None, map(_model_name, listed)))


async def also_known_as(target: Target, model: str) -> tuple[str, ...]:
    """What the list says that a private name stands for; nothing where it does not say, or not soon.

    Sources: vLLM, "OpenAI-Compatible Server" (`root`: the path or name of the weights); OpenRouter, "Models"
    (`canonical_slug`, `hugging_face_id`).
    """
    listed = await _listed(target, LISTED_S)
    if isinstance(listed, Failure):
        return ()
    entry = next((item for item in listed if isinstance(item, Mapping) and _model_name(item) == model), {})
    names = (entry.get(field) for field in ("root", "canonical_slug", "hugging_face_id", "parent"))
    return tuple(name.rstrip("/") for name in names if isinstance(name, str) and name and name != model)


async def _listed(target: Target, within_s: float) -> Sequence[object] | Failure:
    """The entries of the list.

    The connection is its own: a server that closes it after the list without saying so would break the request that
    comes next on it.
    """
    url, redactor = target.url("models"), target.redactor
    timeout = aiohttp.ClientTimeout(total=within_s)
    try:
        async with (
            open_session(target.endpoint, connections=1) as session,
            session.get(url, headers=target.headers, allow_redirects=False, timeout=timeout) as response,
        ):
            content = await read_whole(response.content, MAX_ANSWER_BYTES)
    except TimeoutError:
        message = f"{url} gives no list within {within_s:g} s"
        return Failure(kind=ErrorKind.TIMEOUT, message=one_line(message, redactor))
    except (aiohttp.ClientError, OSError) as error:
        return network_failure(error, redactor)
    if content is None:
        return too_long(response.status)
    if response.status not in SUCCESSES:
        return redactor.result(read_failure(response.status, response.headers, content, redactor))
    parsed = redactor.tree(parse_json(content))
    listed = parsed.get("data", parsed.get("models")) if isinstance(parsed, dict) else parsed
    if not isinstance(listed, list):
        message = one_line(f"{url} lists no models: {excerpt(content)}", redactor)
        return Failure(kind=ErrorKind.INVALID_RESPONSE, message=message, status=response.status)
    return listed


def _model_name(item: object) -> str | None:
    if isinstance(item, Mapping):
        item = item.get("id") or item.get("name")
    return item if isinstance(item, str) and item else None
