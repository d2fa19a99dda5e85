"""From a record to a request that only needs sending: fetch, read, prepare, predict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import aiohttp
import anyio

from pipeline.catalogue import rule_of
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import RequestTemplate, adapter_of
from pipeline.endpoints.rewording import with_prompt
from pipeline.engine.semaphores import ThreadByteSemaphore
from pipeline.http.proxies import Proxies
from pipeline.images.fetch import fetch
from pipeline.images.frames import prepare_images
from pipeline.images.locate import opened
from pipeline.images.prepare import warm_up
from pipeline.records import (
    Answer,
    Failure,
    FetchedImages,
    Grow,
    ImageFacts,
    ImageRecord,
    ImageUrl,
    Location,
    PreparedImage,
    PreparedRequest,
)
from pipeline.run.labels import common_mode, longest_schema_words, schema_words
from pipeline.run.model import family_for
from pipeline.run.parameters import EffectiveRequest, effective_request
from pipeline.tokens import TokenRange, TokenRule, UnknownRule
from pipeline.tokens.presizing import LookedAt
from pipeline.tokens.prompt import PromptShape
from pipeline.tokens.text import calibrated, message_tokens, most_message_tokens

MEGABYTE = 1 << 20


@dataclass(slots=True)
class TextTokens:
    """How many tokens the text of every request has: estimated, until the first bill shows it."""

    texts: tuple[str | None, ...]
    """Of its messages, and of its schema."""
    tokens: int
    is_billed: bool = False


@dataclass(frozen=True, slots=True)
class Preparer:
    """Prepares the requests of one run. Called in the decoding threads."""

    config: RunConfig
    template: RequestTemplate
    size: LookedAt
    decode_bytes: ThreadByteSemaphore
    """For decoding."""
    files: ThreadByteSemaphore
    """For what is read from the disk."""
    rule: TokenRule
    text: TextTokens
    most_prompt_tokens: int
    max_answer_tokens: int | None
    effective: EffectiveRequest
    """The request with what the catalogue adds, and leaves out."""

    @classmethod
    def build(cls, config: RunConfig, today: date) -> "Preparer":
        """`today` decides which of a model's dated rules counts. Raises InputError where a setting cannot be sent."""
        warm_up()
        family = family_for(config)
        rule = rule_of(family, today, config.rules_host)
        effective = effective_request(config, rule)
        request = effective.request
        wanted = request.max_tokens_field
        field_name = (family.max_tokens_field if family else "max_tokens") if wanted == "auto" else wanted
        texts = request.system, request.prompt, schema_words(config)
        sent = effective.sent
        if request.labels is not None:
            sent = sent.model_copy(update={"labels_mode": common_mode(config).value})
        return cls(
            config=config,
            template=adapter_of(config).template(sent, request.model or "", field_name),
            size=LookedAt(rule, request.detail, config.images.max_side, config.images.max_image_tokens),
            decode_bytes=ThreadByteSemaphore(config.images.decode_mb * MEGABYTE),
            files=ThreadByteSemaphore(config.images.decode_mb * MEGABYTE),
            rule=rule,
            text=TextTokens(texts, message_tokens(*texts)),
            most_prompt_tokens=most_message_tokens(request.system, request.prompt, longest_schema_words(config)),
            max_answer_tokens=effective.max_answer_tokens,
            effective=effective,
        )

    def __call__(self, record: ImageRecord, fetched: FetchedImages) -> PreparedRequest | Failure:
        images: list[PreparedImage] = []
        for location, data in zip(record.images, fetched, strict=True):
            found = self.frames(location, data)
            if isinstance(found, Failure):
                return _named(found, location, record)
            images.extend(found)
        return self.request(record, images)

    def request(self, record: ImageRecord, images: Sequence[PreparedImage]) -> PreparedRequest:
        image_facts = tuple(image.facts for image in images)
        tokens = self._image_tokens(image_facts)
        return PreparedRequest(
            record=record,
            image_facts=image_facts,
            body=self.template.body(images),
            request_sha256=self.template.digest(images),
            predicted_prompt_tokens=self.text.tokens + tokens.expected,
            most_prompt_tokens=self.most_prompt_tokens + tokens.upper,
            max_answer_tokens=self.max_answer_tokens,
            token_rule=self.rule.name,
        )

    def reworded(self, request: PreparedRequest, prompt: str) -> PreparedRequest:
        """The request with another prompt, as a hook has its record asked once more."""
        body = with_prompt(request.body, self.config.request.prompt, prompt)
        most = request.most_prompt_tokens
        more = None if most is None else most + most_message_tokens(None, prompt)
        return replace(request, body=body, most_prompt_tokens=more)

    def frames(self, location: Location, data: bytes | None) -> Sequence[PreparedImage] | Failure:
        """The images to send of one file: nearly always one. `data` is what was fetched; None: it is read here."""
        if data is not None:
            return prepare_images(data, self.size, self.config.images, self.decode_bytes.held)
        most = int(self.config.images.max_file_mb * MEGABYTE)
        with opened(location, most) as source:
            if isinstance(source, Failure):
                return source
            # Held before `decode_bytes`, never after it: no two threads can wait for each other.
            with self.files.held(min(source.size_bytes, most)):
                read = source.read()
                if isinstance(read, Failure):
                    return read
                found = prepare_images(read, self.size, self.config.images, self.decode_bytes.held)
        if isinstance(found, Failure) or source.stamp is None:
            return found
        return [replace(image, facts=replace(image.facts, stamp=source.stamp)) for image in found]

    def learn(self, request: PreparedRequest, result: Answer | Failure) -> None:
        """Take the tokens of the text from the first answer with a bill."""
        is_usual = isinstance(result, Answer) and request.corrects is None
        if self.text.is_billed or not is_usual or result.usage is None or result.usage.prompt_tokens is None:
            return
        images = self._image_tokens(request.image_facts)
        tokens = calibrated(result.usage.prompt_tokens, images, *self.text.texts)
        self.text.is_billed = True
        if tokens is not None:
            self.text.tokens = tokens

    def saved(self, facts: ImageFacts) -> int:
        """Tokens saved by resizing, against the largest size that the model accepts; 0 where the rule is unknown."""
        sent = facts.sent_width, facts.sent_height
        if isinstance(self.rule, UnknownRule) or sent == (facts.width, facts.height):
            return 0
        unsized = self.prompt_shape().unsized_tokens(facts.width, facts.height)
        return unsized - self.rule.tokens(*sent, self.effective.request.detail).expected

    def prompt_shape(self) -> PromptShape:
        """The prompt as an estimate counts it."""
        images = self.config.images
        return PromptShape(
            rule=self.rule,
            detail=self.effective.request.detail,
            text=TokenRange.exactly(self.text.tokens),
            max_side=images.max_side,
            max_image_tokens=images.max_image_tokens,
        )

    def _image_tokens(self, image_facts: Sequence[ImageFacts]) -> TokenRange:
        """Of all images of one request."""
        detail = self.effective.request.detail
        each = [self.rule.tokens(facts.sent_width, facts.sent_height, detail) for facts in image_facts]
        if len(each) == 1:
            return each[0]
        return TokenRange(
            sum(one.expected for one in each), sum(one.upper for one in each), sum(one.lower for one in each)
        )


class Fetcher:
    """Fetches the remote images of a record."""

    def __init__(self, session: aiohttp.ClientSession, max_bytes: int, at_once: int) -> None:
        self._session, self._max_bytes = session, max_bytes
        self._proxy_of = Proxies()
        self._connections = anyio.Semaphore(at_once)
        """Waited for here: in the session it would count as time that the host takes."""

    async def __call__(self, record: ImageRecord, grow: Grow) -> FetchedImages | Failure:
        """The bytes of each image; None for each that `Preparer` reads itself."""
        fetched: list[bytes | None] = []
        for location in record.images:
            data = await self._one(location, grow)
            if isinstance(data, Failure):
                return data
            fetched.append(data)
        return tuple(fetched)

    async def _one(self, location: Location, grow: Grow) -> bytes | Failure | None:
        if not isinstance(location, ImageUrl):
            return None
        url = location.url
        async with self._connections:
            return await fetch(self._session, url, self._max_bytes, self._proxy_of(url), grow=grow)


def _named(failure: Failure, location: Location, record: ImageRecord) -> Failure:
    """The failure with the name of its image, where the record has several."""
    if len(record.images) == 1:
        return failure
    return replace(failure, message=f"{location.name}: {failure.message}")
