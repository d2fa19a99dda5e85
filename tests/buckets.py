"""An object store on this machine: moto's server, in a thread."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import quote
from urllib.request import Request, urlopen

SECRET: Final = "wJalrXUtnFEMIbPxRfiCYEXAMPLE"  # noqa: S105 - the documentation's own


@contextmanager
def object_store(objects: Mapping[str, bytes]) -> Iterator[str]:
    """Its address. The bucket `bucket` holds these objects."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - imports much

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with urlopen(Request(f"{url}/moto-api/reset", method="POST"), timeout=10):  # noqa: S310 - loopback
        pass  # a process has one store, whatever was in it before
    put(url, "")
    for key, data in objects.items():
        put(url, key, data)
    try:
        yield url
    finally:
        server.stop()


def put(url: str, key: str, data: bytes = b"") -> None:
    """Store an object; without a key: make the bucket."""
    kind = {"Content-Type": "application/octet-stream"}
    with urlopen(Request(f"{url}/bucket/{quote(key)}", data, kind, method="PUT"), timeout=10):  # noqa: S310 - loopback
        pass


def environment(url: str) -> dict[str, str]:
    """The variables that a user sets."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }
