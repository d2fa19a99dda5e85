"""Remote images whose addresses are passed on (`request.pass_urls`): which, and what is known of them beforehand.

An address is passed on where the provider can fetch it and takes what lies there: a JPEG, PNG or still WebP on a public
host. What cannot be passed on is fetched here and sent as bytes, as without the setting. The beginning of the file is
read for its size; where a host does not give it, the prediction is a range.
"""

import hashlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pipeline.catalogue import Family, host_of
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import RequestTemplate
from pipeline.endpoints.one_image import OneImageTemplate
from pipeline.endpoints.template import BodyTemplate
from pipeline.errors import ErrorKind, InputError
from pipeline.http.image_hosts import ImageHosts
from pipeline.http.public import IsPublic, host_to_pass, is_public_host
from pipeline.images.probe import ImageSize
from pipeline.images.remote_sizes import SizeUnknown, fetch_beginning
from pipeline.images.sampling import Sampling
from pipeline.limits.decision import FETCHING
from pipeline.records import Failure, ImageFacts, PassedUrl, PreparedImage
from pipeline.tokens import TokenRange, TokenRule
from pipeline.tokens.bounds import accepted

_TAKEN: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_WEBP: Final = (b"RIFF", b"WEBP")
_MOVES: Final = b"ANIM"
HOSTS: Final = 1024
"""Hosts that are remembered."""
_LONGER: Final = (64, 512, 1024, 2048, 4096, 8192, 16384)
_ASPECTS: Final = (1.0, 4 / 3, 1.5, 16 / 9, 2.0, 8 / 3, 4.0, 8.0)


def check_passing(config: RunConfig, template: RequestTemplate) -> None:
    """Raises InputError where addresses cannot be passed on as the configuration asks for it."""
    if not config.request.pass_urls:
        return
    images = config.images
    for name in ("max_side", "max_image_tokens"):
        if getattr(images, name) is not None:
            raise InputError(
                f"`request.pass_urls`: what the provider fetches is not made smaller; leave `images.{name}` out"
            )
    if not isinstance(template, BodyTemplate | OneImageTemplate):
        raise InputError("`request.pass_urls`: this kind of endpoint takes no addresses; leave it out")
    for one in config.all_endpoints:
        host = host_of(urlsplit(one.base_url).hostname or "")
        if host is not None and not host.takes_addresses:
            said = f" ({host.limits.source.title})" if host.limits.source else ""
            raise InputError(f"`request.pass_urls`: {host.name} takes images as bytes only{said}; leave it out")


@dataclass(frozen=True, slots=True)
class Passing:
    """Decides for each remote image of a run."""

    hosts: ImageHosts
    rule: TokenRule
    detail: str
    sampling: Sampling
    max_image_bytes: int | None
    is_public: IsPublic

    @classmethod
    def of(
        cls, config: RunConfig, hosts: ImageHosts, rule: TokenRule, detail: str, family: Family | None
    ) -> "Passing | None":
        """None where no address is passed on."""
        if not config.request.pass_urls:
            return None
        sampling = Sampling.of(config.images)
        return cls(hosts, rule, detail, sampling, _max_image_bytes(config, family), _remembered(is_public_host))

    async def __call__(self, url: str) -> PassedUrl | Failure | None:
        """The address and the size of what lies there; None for what is fetched and sent as bytes.

        A failure is of an image that is missing: the provider would not find it either.
        """
        host = host_to_pass(url)
        if host is None or not await self.is_public(host):
            return None
        found, head = await fetch_beginning(self.hosts, url, sampling=self.sampling)
        if isinstance(found, ImageSize):
            return PassedUrl(url, (found.width, found.height)) if self._takes(found, head) else None
        if isinstance(found, Failure) and found.kind is ErrorKind.IMAGE_MISSING:
            return found
        is_closed = isinstance(found, Failure) and found.kind in FETCHING
        return PassedUrl(url) if is_closed or isinstance(found, SizeUnknown) else None

    def _takes(self, size: ImageSize, head: bytes) -> bool:
        is_webp = (head[:4], head[8:12]) == _WEBP and _MOVES not in head[:64]
        if size.frames > 1 or not (head.startswith(_TAKEN) or is_webp):
            return False
        if self.max_image_bytes is not None and (size.file_bytes or 0) > self.max_image_bytes:
            return False
        return accepted(self.rule, size.width, size.height, self.detail) == (size.width, size.height)


def passed_image(passed: PassedUrl) -> PreparedImage:
    """An image that the provider fetches, as requests and rows have it."""
    width, height = passed.size or (None, None)
    facts = ImageFacts(
        width=width, height=height, sent_width=width, sent_height=height, sent_bytes=None, source_bytes=0, sha256="",
        is_passed=True,
    )  # fmt: skip
    sha256 = hashlib.sha256(passed.url.encode("utf-8", "surrogatepass")).hexdigest()
    return PreparedImage(data=b"", media_type="", sha256=sha256, facts=facts, url=passed.url)


def tokens_of_any(rule: TokenRule, detail: str) -> TokenRange:
    """The tokens of an image whose size is unknown: those of a common size, and the range of all sizes."""
    sizes = [(longer, max(1, int(longer / aspect))) for longer in _LONGER for aspect in _ASPECTS]
    sizes += [(height, width) for width, height in sizes]
    each = [rule.tokens(*accepted(rule, *size, detail), detail) for size in sizes]
    return TokenRange.over(rule.tokens(1024, 768, detail).expected, each)


def _max_image_bytes(config: RunConfig, family: Family | None) -> int | None:
    """Of one image, by the model and by every endpoint's host."""
    hosts = [host_of(urlsplit(one.base_url).hostname or "") for one in config.all_endpoints]
    found = [family.limits.max_image_bytes if family else None]
    found += [host.limits.max_image_bytes for host in hosts if host]
    return min((most for most in found if most is not None), default=None)


def _remembered(is_public: IsPublic) -> IsPublic:
    """Asked once a host, of at most `HOSTS`."""
    known: dict[str, bool] = {}

    async def remembered(host: str) -> bool:
        if host not in known:
            if len(known) >= HOSTS:
                known.clear()
            known[host] = await is_public(host)
        return known[host]

    return remembered
