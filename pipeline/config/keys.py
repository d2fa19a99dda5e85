"""Finds the key of an endpoint in the environment. A configuration names the variable and never holds a key."""

from collections.abc import Mapping

from pipeline.config.base_urls import is_loopback, origin
from pipeline.config.environment import DOTENV, PROCESS, Environment, Variable, read_environment
from pipeline.config.loading import BASE_URL_VARIABLE
from pipeline.config.sections import EndpointConfig
from pipeline.errors import InputError
from pipeline.redaction.addresses import public_url
from pipeline.redaction.redactor import is_variable_name, shown_variable


def find_key(endpoint: EndpointConfig, environment: Environment | None = None) -> Variable | None:
    """The key of an endpoint and where it is from; None for a server on this machine, which needs none.

    An address that only `.env` names is given a key of the same file and no other, on this machine as well.
    Raises InputError where there is no key, or none that may be sent there.
    """
    found = environment or read_environment()
    if endpoint.is_from_dotenv:
        key = found.find_in_dotenv(endpoint.api_key_env)
        _check_dotenv_address(endpoint, found, key)
        return key
    key = found.find(endpoint.api_key_env)
    if key is None and not is_loopback(endpoint.base_url):
        raise InputError(_no_key(endpoint))
    return key


def _no_key(endpoint: EndpointConfig) -> str:
    where, name = public_url(endpoint.base_url), endpoint.api_key_env
    if not is_variable_name(name):
        return (
            f"no key for {where}: `endpoint.api_key_env` names an environment variable that is not set "
            "and is not shown, because it may be the key itself. Name the variable that holds the key, for example "
            "OPENAI_API_KEY"
        )
    return (
        f"no key for {where}: the environment variable {name} is not set. "
        f"Set it (export {name}=...), put it into a .env file here, "
        "or name another variable with `endpoint.api_key_env`. To try without a key: `emulator=True`"
    )


def _check_dotenv_address(endpoint: EndpointConfig, found: Environment, key: Variable | None) -> None:
    """Raises InputError where an address that `.env` names would be sent what is not of that file."""
    address, name = public_url(endpoint.base_url), shown_variable(endpoint.api_key_env)
    way_out = f"To ask this address, name it: `endpoint.base_url={address}`, or export {BASE_URL_VARIABLE}={address}"
    if endpoint.headers:
        raise InputError(
            f"the address {address} is from {DOTENV}, and endpoint.headers is from the configuration: "
            f"headers are not sent to an address of {DOTENV}. {way_out}"
        )
    if key is not None or is_loopback(endpoint.base_url):
        return
    elsewhere = f"is from {PROCESS}" if found.find(endpoint.api_key_env) else "is set nowhere"
    raise InputError(
        f"the address {address} is from {DOTENV}, and the key {name} {elsewhere}: an address of {DOTENV} is used only "
        f"with a key of the same file. {way_out}. To use both from {DOTENV}, add {name}=... to it"
    )


def api_key(endpoint: EndpointConfig, environ: Mapping[str, str] | None = None) -> str | None:
    """The value of `find_key`. Raises InputError as that does."""
    key = find_key(endpoint, None if environ is None else Environment(environ))
    return None if key is None else key.value


def destination(endpoint: EndpointConfig, key: Variable | None) -> str:
    """Where requests go and which key goes with them, for people: `https://host, key NAME from the environment`."""
    named = f" (address from {DOTENV})" if endpoint.is_from_dotenv else ""
    with_key = "no key" if key is None else f"key {shown_variable(endpoint.api_key_env)} from {key.place}"
    return f"{origin(endpoint.base_url)}{named}, {with_key}"
