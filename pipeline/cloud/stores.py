"""Buckets: their addresses, how they are opened, and what their errors mean.

Credentials, regions and endpoints are those of the environment (`AWS_...`, `GOOGLE_...`, `AZURE_...`), as obstore reads
them. None of their values is written: messages are cut before a server's words, and cleaned.
"""

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from pipeline.config.extras import CLOUD_HINT, has_cloud_extra
from pipeline.errors import ErrorKind, InputError
from pipeline.records import Failure
from pipeline.redaction.redactor import Redactor, is_secret_name, one_line

_ADDRESS: Final = re.compile(r"(s3|gs|az)://([A-Za-z0-9$][A-Za-z0-9._-]*)(?:/(.*))?", re.DOTALL | re.IGNORECASE)
_SCHEME: Final = re.compile(r"(s3|gs|az)://", re.IGNORECASE)
_ONE_SLASH: Final = re.compile(r"^((?:s3|gs|az):)/(?!/)", re.IGNORECASE)
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_BODY: Final = re.compile(r"\s*(\n\nDebug source|: <\?xml|<\?xml|: \{).*", re.DOTALL)
_EFFORT: Final = re.compile(r" in [\d.]+[mµn]?s\b(, after \d+ retries, max_retries: \d+, retry_timeout: [\d.]+m?s)?")
_ROLES: Final = re.compile(r"//(169\.254\.\d+\.\d+|metadata\.google\.internal|\[fd00:ec2::254\])[:/]")
"""Where a cloud's machine asks for its own role, which is done where the environment has no credentials."""
_ODD_KEY: Final = re.compile(r'invalid path: (?:Error parsing )?Path "(.*?)"(?: contained |: Encountered )', re.DOTALL)
_LIBRARY: Final = re.compile(r"^Generic \w+ error: (Error performing list request: )?")
_NOT_CONNECTED: Final = re.compile(r"Error performing [A-Z]+ (https?://[^/?\s]+).*\bkind: Connect\b", re.DOTALL)
_NO_ACCOUNT: Final = "Account must be specified"
_TIME: Final = re.compile(r"timed? ?out", re.IGNORECASE)
_NOT_FOUND: Final = 404
_NOT_AUTHENTICATED: Final = 401
_NO_CREDENTIALS: Final = (
    "no credentials in the environment, and this machine has no role: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
    "(GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY), or AWS_SKIP_SIGNATURE=true for a public bucket"
)
_DENIED: Final = {"PermissionError": 403, "PermissionDeniedError": 403, "UnauthenticatedError": 401}
_NUMBERS: Final = {"FileNotFoundError": _NOT_FOUND, **_DENIED}
_PREFIXES: Final = ("AWS_", "GOOGLE_", "AZURE_", "HF_")
_RETRIES: Final = 2
"""Of one attempt, for what a store answers in a hurry; the run's own attempts come on top."""


@dataclass(frozen=True, slots=True)
class ObjectAddress:
    """`s3://bucket/key`: the key stands as it is, nothing in it is quoted."""

    scheme: str
    bucket: str
    key: str

    @classmethod
    def of(cls, address: str) -> "ObjectAddress | None":
        """None for what is no such address."""
        found = _ADDRESS.fullmatch(address)
        return None if found is None else cls(found[1].lower(), found[2], found[3] or "")

    @property
    def names_object(self) -> bool:
        """Whether the key can be one of an object: the library would read another one for these."""
        return self.key != "" and all(part not in {"", ".", ".."} for part in self.key.split("/"))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


def out_address(out: str | Path) -> ObjectAddress | None:
    """The address that an OUT is, without a slash at its end; None for a directory. Raises InputError for a bad one."""
    text = str(out)
    if not text:  # a variable that is not set
        raise InputError("`out` is empty; name a directory ('.' is this one)")
    if isinstance(out, Path):  # which makes one slash of two
        text = _ONE_SLASH.sub(r"\1//", text)
    address = ObjectAddress.of(text)
    if address is None:
        if _SCHEME.match(text):
            raise InputError(f"{text}: no bucket; write s3://BUCKET/PREFIX")
        return None
    address = ObjectAddress(address.scheme, address.bucket, address.key.rstrip("/"))
    if address.key and not address.names_object:
        raise InputError(f"{address}: no part of a prefix may be empty, '.' or '..'")
    return address


def open_bucket(address: ObjectAddress, *, timeout_s: float = 300.0, connect_timeout_s: float = 10.0) -> Any:  # noqa: ANN401 - an obstore store
    """The store of a bucket. Raises InputError without the extra, and for settings that cannot be used."""
    if not has_cloud_extra():
        raise InputError(f"{address.scheme}://{address.bucket}: {CLOUD_HINT}")
    from obstore import store  # noqa: PLC0415 - an extra

    kinds = {"s3": store.S3Store, "gs": store.GCSStore, "az": store.AzureStore}
    options: Any = {
        "timeout": f"{timeout_s:g}s",
        "connect_timeout": f"{connect_timeout_s:g}s",
        # An endpoint without TLS that the environment names is meant.
        "allow_http": any(value.startswith("http://") for name, value in _settings() if "ENDPOINT" in name),
    }
    try:
        return kinds[address.scheme](address.bucket, client_options=options, retry_config={"max_retries": _RETRIES})
    except Exception as error:  # noqa: BLE001 - obstore has several, one for each kind of mistake
        raise InputError(f"{address.scheme}://{address.bucket}: {failure_of(error).message}") from None


def is_of_store(error: Exception) -> bool:
    """Whether an exception is of a store, and not of this machine's disk."""
    return isinstance(error, FileNotFoundError | PermissionError) or type(error).__module__.startswith("obstore")


def odd_key(error: Exception) -> str | None:
    """The key that the library cannot list, and no other key of that page with it; None where it is something else."""
    found = _ODD_KEY.search(str(error))
    return None if found is None else found[1]


def failure_of(error: Exception) -> Failure:
    """What an exception of obstore means."""
    text, name = str(error), type(error).__name__
    if _ROLES.search(text):
        return Failure(kind=ErrorKind.FETCH_STATUS, message=_NO_CREDENTIALS, status=_NOT_AUTHENTICATED)
    status, code = _STATUS.search(text), _CODE.search(text)
    number = _NUMBERS.get(name, int(status[1]) if status else None)
    if number == _NOT_FOUND:
        message = "no such bucket" if code is not None and code[1] == "NoSuchBucket" else "no such object"
        return Failure(kind=ErrorKind.IMAGE_MISSING, message=message, status=number)
    if number is not None:
        what = f" ({code[1]})" if code else ""
        denied = "the store denies access" if name in _DENIED else "the store answers"
        return Failure(kind=ErrorKind.FETCH_STATUS, message=f"{denied}: HTTP {number}{what}", status=number)
    if _NO_ACCOUNT in text:
        message = "no account in the environment: set AZURE_STORAGE_ACCOUNT_NAME"
        return Failure(kind=ErrorKind.FETCH_STATUS, message=message, status=_NOT_AUTHENTICATED)
    not_connected = _NOT_CONNECTED.search(text)
    text = _LIBRARY.sub("", _EFFORT.sub("", _BODY.sub("", text)))
    kind = ErrorKind.FETCH_TIMEOUT if _TIME.search(text) else ErrorKind.FETCH_FAILED
    if not_connected is not None:
        text = f"no connection to {not_connected[1]}; check the network, and the endpoint in the environment"
    return Failure(kind=kind, message=one_line(text, _redactor()) or name)


def _settings() -> list[tuple[str, str]]:
    return [(name, value) for name, value in os.environ.items() if name.startswith(_PREFIXES)]


@cache
def _redactor() -> Redactor:
    return Redactor(value for name, value in _settings() if is_secret_name(name) or name.endswith("_ID"))
