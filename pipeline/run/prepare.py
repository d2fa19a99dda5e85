"""From a record to requests that only need sending: fetch, read, prepare, predict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pybase64

from pipeline.config.families import family_for
from pipeline.config.run_config import RunConfig
from pipeline.endpoints.adapter import RequestTemplate
from pipeline.endpoints.rewording import with_prompt
from pipeline.errors import InputError
from pipeline.http.image_hosts import ImageHosts
from pipeline.images.fetch import fetch
from pipeline.images.prepare import warm_up
from pipeline.locations import ImageUrl, LocalFile, Location
from pipeline.records import (
    Answer,
    Failure,
    FetchedImages,
    Grow,
    ImageFacts,
    ImageRecord,
    PassedUrl,
    PreparedImage,
    PreparedRequest,
    Usage,
)
from pipeline.run.documents import MOST_TOKENS
from pipeline.run.images import ImagePreparer
from pipeline.run.model import rule_for
from pipeline.run.parameters import EffectiveRequest, effective_request
from pipeline.run.passing import Passing, check_passing, tokens_of_any
from pipeline.run.prompts import Prompt, prompts_of
from pipeline.store.suspects import Suspects
from pipeline.tokens import TokenRange, TokenRule, UnknownRule
from pipeline.tokens.analysed import READING, AnalysedRule, sizing_rule
from pipeline.tokens.pages import BY_PAGE
from pipeline.tokens.presizing import LookedAt
from pipeline.tokens.prompt import PromptShape
from pipeline.tokens.text import calibrated, most_message_tokens, most_text_tokens, text_tokens


@dataclass(frozen=True, slots=True)
class Preparer:
    """Prepares the requests of one run. Called in threads."""

    config: RunConfig
    prompts: Mapping[str, Prompt]
    """By name, in order."""
    images: ImagePreparer
    rule: TokenRule
    max_answer_tokens: int | None
    effective: EffectiveRequest
    """The request with what the catalogue adds, and leaves out."""
    examples: Sequence[PreparedImage] = ()
    """The images of `request.messages`, which every request begins with."""
    any_size: TokenRange | None = None
    """The tokens of an image whose size is unknown, where such images are passed on."""
    most_document_tokens: int | None = None
    """What a prompt with a whole document may hold at most, where a budget has to bound it."""

    @classmethod
    def build(cls, config: RunConfig, today: date) -> "Preparer":
        """`today` decides which of a model's dated rules counts.

        Raises InputError where a setting, or an image of `request.messages`, cannot be sent.
        """
        warm_up()
        family = family_for(config)
        rule = rule_for(config, today, config.rules_host)
        effective = effective_request(config, rule)
        request = effective.request
        size = LookedAt(sizing_rule(rule), request.detail, config.images.max_side, config.images.max_image_tokens)
        preparer = cls(
            config=config,
            prompts={prompt.name: prompt for prompt in prompts_of(config, family, effective)},
            images=ImagePreparer.build(config, size, family),
            rule=rule,
            max_answer_tokens=0 if rule is BY_PAGE else effective.max_answer_tokens,
            effective=effective,
            any_size=tokens_of_any(rule, request.detail) if request.pass_urls else None,
        )
        check_passing(config, preparer.template)
        paths = [path for message in request.messages for path in message.images]
        examples = [preparer.example(path) for path in paths]
        return replace(preparer, examples=examples, images=replace(preparer.images, examples=len(examples)))

    def of_run(self, suspects: Suspects, *, takes_several: bool, is_bounded: bool) -> "Preparer":
        """The same for an OUT, and for a run with an implied budget or without one."""
        most = MOST_TOKENS if is_bounded else None
        images = replace(self.images, takes_several=takes_several, suspects=suspects)
        return replace(self, images=images, most_document_tokens=most)

    def __call__(
        self, record: ImageRecord, fetched: FetchedImages, names: Sequence[str]
    ) -> Sequence[PreparedRequest] | Failure:
        """In the decoding threads."""
        images = self.images(record, fetched)
        return images if isinstance(images, Failure) else self.requests(record, images, names)

    def undecoded(
        self, record: ImageRecord, fetched: FetchedImages, names: Sequence[str]
    ) -> Sequence[PreparedRequest] | Failure | None:
        """The same where no image needs a decoder; None where one does. In the preparing threads."""
        images = self.images.undecoded(record, fetched)
        return images if images is None or isinstance(images, Failure) else self.requests(record, images, names)

    def requests(
        self, record: ImageRecord, images: Sequence[PreparedImage], names: Sequence[str] | None = None
    ) -> list[PreparedRequest]:
        """One request for each of these prompts, or for all. Raises InputError where a template does not fit."""
        names = tuple(self.prompts) if names is None else names
        image_facts = tuple(image.facts for image in images)
        other_usage = self._other_usage(image_facts)
        bounds, texts = self._image_tokens(image_facts), [image.text for image in images if image.text is not None]
        if len(names) > 1:
            images = [replace(image, base64=pybase64.b64encode(image.data)) for image in images]
        sent, requests = [*self.examples, *images], []
        for name in names:
            prompt = self.prompts[name].rendered(record)
            template = prompt.template
            expected, most = self._prompt_tokens(prompt, texts, bounds)
            requests.append(
                PreparedRequest(
                    record=record,
                    prompt_name=name,
                    image_facts=image_facts,
                    pieces=template.pieces(sent) if len(names) > 1 else (template.body(sent),),
                    request_sha256=template.digest(sent),
                    predicted_prompt_tokens=expected,
                    most_prompt_tokens=most,
                    max_answer_tokens=self.max_answer_tokens,
                    token_rule=None if expected is None else self.rule.name,
                    other_usage=other_usage,
                    asks_labels=prompt.request.labels is not None,
                )
            )
        return requests

    @property
    def template(self) -> RequestTemplate:
        """Of the first prompt that asks for labels, else the first: what endpoints change of a body is alike in all."""
        labelled = (prompt for prompt in self.prompts.values() if prompt.request.labels is not None)
        return next(labelled, next(iter(self.prompts.values()))).template

    def passing(self, hosts: ImageHosts) -> Passing | None:
        """Decides which remote images the provider fetches; None where it fetches none."""
        return Passing.of(self.config, hosts, self.rule, self.effective.request.detail, family_for(self.config))

    def preview(self, request: PreparedRequest, images: Sequence[PreparedImage]) -> str:
        """The request for people to read."""
        return self.prompts[request.prompt_name].rendered(request.record).template.preview([*self.examples, *images])

    def example(self, path: Path) -> PreparedImage:
        """An image of the conversation before the prompt. Raises InputError where it cannot be prepared."""
        found = self.images.at(LocalFile(str(path), str(path)), None)
        if isinstance(found, Failure):
            raise InputError(f"`request.messages`: {path}: {found.message}")
        if len(found) > 1 or found[0].is_document:
            what = "a PDF" if found[0].is_document else "more than one image"
            raise InputError(f"`request.messages`: {path}: {what}; name a file of one image")
        (image,) = found
        return replace(image, base64=pybase64.b64encode(image.data))

    def reworded(self, request: PreparedRequest, prompt: str) -> PreparedRequest:
        """The request with another prompt, as a hook has its record asked once more."""
        before = self.prompts[request.prompt_name].rendered(request.record).request.prompt
        body = with_prompt(request.body, before, prompt)
        most = request.most_prompt_tokens
        more = None if most is None else most + most_message_tokens(None, prompt)
        return replace(request, pieces=(body,), most_prompt_tokens=more)

    def learn(self, request: PreparedRequest, result: Answer | Failure) -> None:
        """Take the tokens of a prompt's text from the first answer with a bill."""
        is_usual = isinstance(result, Answer) and request.corrects is None and not any(request.record.image_texts)
        text = self.prompts[request.prompt_name].tokens
        if text.is_billed or not is_usual or result.usage is None or result.usage.prompt_tokens is None:
            return
        images = self._image_tokens(request.image_facts)
        if images is None:
            return
        tokens = calibrated(result.usage.prompt_tokens, images, *text.texts)
        text.is_billed = True
        if tokens is not None:
            text.tokens = tokens

    def saved(self, facts: ImageFacts) -> int:
        """Tokens saved by resizing, against the largest size that the model accepts; 0 where the rule is unknown."""
        size, sent = facts.size, facts.sent_size
        if isinstance(self.rule, UnknownRule) or size is None or sent is None or sent == size:
            return 0
        unsized = self.prompt_shape().unsized_tokens(*size)
        return unsized - self.rule.tokens(*sent, self.effective.request.detail).expected

    def prompt_shape(self) -> PromptShape:
        """The prompts as an estimate counts them."""
        images, count = self.config.images, len(self.prompts)
        examples = self._image_tokens(()) or TokenRange.exactly(0)
        text = 0 if self.rule is BY_PAGE else sum(prompt.tokens.tokens for prompt in self.prompts.values())
        return PromptShape(
            rule=self.rule,
            detail=self.effective.request.detail,
            text=TokenRange(
                text + count * examples.expected, text + count * examples.upper, text + count * examples.lower
            ),
            prompts=count,
            max_side=images.max_side,
            max_image_tokens=images.max_image_tokens,
        )

    def _prompt_tokens(
        self, prompt: Prompt, image_texts: Sequence[str], bounds: TokenRange | None
    ) -> tuple[int | None, int | None]:
        """Of a whole prompt: expected, and at most; None where the tokens of its images are unknown, or not billed."""
        if bounds is None or self.rule is BY_PAGE:
            return None, 0 if self.rule is BY_PAGE else self.most_document_tokens
        expected = prompt.tokens.tokens + sum(map(text_tokens, image_texts)) + bounds.expected
        return expected, prompt.most_tokens + sum(map(most_text_tokens, image_texts)) + bounds.upper

    def _image_tokens(self, image_facts: Sequence[ImageFacts]) -> TokenRange | None:
        """Of all images of one request, those of the conversation before the prompt included; None for a document."""
        return self._tokens_by(self.rule, image_facts)

    def _tokens_of(self, rule: TokenRule, facts: ImageFacts, detail: str) -> TokenRange | None:
        if facts.sent_size is not None:
            return rule.tokens(*facts.sent_size, detail)
        return self.any_size if facts.is_passed else None

    def _tokens_by(self, rule: TokenRule, image_facts: Sequence[ImageFacts]) -> TokenRange | None:
        detail = self.effective.request.detail
        every = [*(image.facts for image in self.examples), *image_facts]
        each = [found for facts in every if (found := self._tokens_of(rule, facts, detail)) is not None]
        if len(each) < len(every):
            return None
        if len(each) == 1:
            return each[0]
        return TokenRange(
            sum(one.expected for one in each), sum(one.upper for one in each), sum(one.lower for one in each)
        )

    def _other_usage(self, image_facts: Sequence[ImageFacts]) -> tuple[Usage, Usage] | None:
        """Of a model that reads all images of a request first: to be expected, and at most."""
        if not isinstance(self.rule, AnalysedRule):
            return None
        read, images = self._tokens_by(self.rule.analyser, image_facts), len(self.examples) + len(image_facts)
        if read is None:
            return None
        expected = Usage(prompt_tokens=read.expected, completion_tokens=images * READING.expected)
        return expected, Usage(prompt_tokens=read.upper, completion_tokens=images * READING.upper)


class Fetcher:
    """Fetches the remote images of a record."""

    def __init__(self, hosts: ImageHosts, max_bytes: int, passing: Passing | None = None) -> None:
        self._hosts, self._max_bytes, self._passing = hosts, max_bytes, passing

    async def __call__(self, record: ImageRecord, grow: Grow) -> FetchedImages | Failure:
        """The bytes of each image, or its address that is passed on; None for each that `Preparer` reads itself."""
        fetched: list[bytes | PassedUrl | None] = []
        for location in record.images:
            data = await self._one(location, grow)
            if isinstance(data, Failure):
                return data
            fetched.append(data)
        return tuple(fetched)

    async def _one(self, location: Location, grow: Grow) -> bytes | PassedUrl | Failure | None:
        if not isinstance(location, ImageUrl):
            return None
        url = location.url
        if self._passing is not None:
            passed = await self._passing(url)
            if passed is not None:
                return passed
        return await fetch(self._hosts, url, self._max_bytes, grow=grow, is_trusted=location.is_trusted)
