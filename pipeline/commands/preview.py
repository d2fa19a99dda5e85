"""What a run would send and cost, looked at beforehand: nothing is sent, nothing is written."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from itertools import islice

from pipeline.config.base_urls import below
from pipeline.config.keys import find_key
from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.adapter import adapter_of, traits_of
from pipeline.endpoints.pricing import most_amounts, prices_for
from pipeline.endpoints.target import shown_headers
from pipeline.engine.progress import counted, dollars
from pipeline.engine.stages import Clock
from pipeline.errors import InputError
from pipeline.formatting import printable_lines
from pipeline.http.public import host_to_pass
from pipeline.limits.budget import Amounts
from pipeline.locations import ImageUrl
from pipeline.money import usd, usd_text
from pipeline.records import Failure, FetchedImages, ImageFacts, ImageRecord, PassedUrl
from pipeline.run.job import Job, endpoint_name, open_job_source
from pipeline.run.passed import passed_line
from pipeline.run.prepare import Preparer
from pipeline.sources import passed_over
from pipeline.store.beforehand import has_rows, missing_records, with_last_model, would_refuse
from pipeline.store.between_runs import count_missing

MOST_TRIED = 100
"""Images that are opened until one can be prepared."""
NOTHING_TO_ASK = "nothing to ask: OUT holds an answer for every image"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRequest:
    """The first request that a run would send."""

    requests: int | None
    """How many like it; None where that is unknown."""
    committed: int
    """Images that OUT holds an answer for, and that are not asked."""
    address: str
    image: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the configuration and the key's, without its value."""
    facts: ImageFacts | None = None
    body: str | None = None
    """Indented JSON without the base64; None, as `facts`, of an image that only a run fetches."""
    predicted_prompt_tokens: int | None = None
    max_answer_tokens: int | None = None
    pages: int | None = None
    """Of a request that is billed by page."""
    passed_over: Mapping[str, int] = field(default_factory=dict)
    """Files of the sources that are no images, by kind."""
    source_line: str | None = None
    """The same in words."""
    most_usd: Decimal | None = None
    """The most that this one request may cost; None where no price is known, or no end of the answer."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "requests": self.requests,
            "committed": self.committed,
            "passed_over": dict(self.passed_over),
            "address": self.address,
            "headers": dict(self.headers),
            "image": self.image,
            "facts": None if self.facts is None else asdict(self.facts),
            "predicted_prompt_tokens": self.predicted_prompt_tokens,
            "max_answer_tokens": self.max_answer_tokens,
            "pages": self.pages,
            "most_usd": usd_text(self.most_usd),
            "body": None if self.body is None else json.loads(self.body),
        }

    def __str__(self) -> str:
        """For people; the body's own line breaks are the only ones in it."""
        count = "an unknown number of requests" if self.requests is None else counted(self.requests, "request")
        known = f"; {counted(self.committed, 'image')} answered before" if self.committed else ""
        lines = [] if self.source_line is None else [self.source_line]
        lines.append(f"{count} like this one to {self.address} (nothing is sent now){known}:")
        facts = self.facts
        if facts is None:
            return printable_lines([*lines, f"the first image is remote and is fetched only by a run: {self.image}"])
        body = (self.body or "").split("\n")
        headers = [f"{name}: {value}" for name, value in self.headers.items()]
        return printable_lines([*lines, *headers, f"{self.image}: {_sizes(facts)}", self._price_line(), *body])

    def _price_line(self) -> str:
        prompt = "unknown" if self.predicted_prompt_tokens is None else f"about {self.predicted_prompt_tokens:,}"
        answer = "any number" if self.max_answer_tokens is None else f"{self.max_answer_tokens:,} at most"
        cost = "unknown" if self.most_usd is None else f"up to {dollars(self.most_usd)} each"
        if self.most_usd is not None and self.requests is not None and self.requests > 1:
            cost += f", {dollars(self.most_usd * self.requests)} for all (vision-batch estimate predicts it)"
        if self.pages is not None:
            return f"pages: {self.pages:,}; cost: {cost}"
        return f"tokens: {prompt} in, {answer} out; cost: {cost}"


def first_request(job: Job, *, has_out: bool) -> FirstRequest | None:
    """Prepare the first image that a run would ask and that can be prepared; None where it would ask nothing.

    Sends and writes nothing. Raises what the run would raise of the source, the settings and, with `has_out`, of OUT.
    """
    source, total = open_job_source(job, has_out=has_out)
    line, passed = passed_line(job, source, total), passed_over(source)
    prompts = job.config.prompt_names
    total = None if total is None else total * len(prompts)
    wanted: Iterator[tuple[ImageRecord, Sequence[str]]]
    wanted = ((record, prompts) for record in islice(job.selected(source.records()), job.limit))
    requests = total
    if has_out:
        job = replace(job, config=with_last_model(job.out, job.config))
        would_refuse(job.out, job.config, job.rerun, is_rehearsal=job.emulated)
        if total is not None and has_rows(job.out):
            all_of_them = islice(job.selected(source.records()), job.limit)
            records = total // len(prompts)
            requests = count_missing(job.out, all_of_them, records, config=job.config, policy=job.rerun)
        if requests == 0:
            return None
        wanted = missing_records(job.out, (record for record, _ in wanted), config=job.config, policy=job.rerun)
    committed = 0 if total is None or requests is None else total - requests
    prepare = Preparer.build(job.config, Clock().utc().date())
    for record, names in islice(wanted, MOST_TRIED):
        found = _prepared(job, prepare, record, names)
        if found is not None:
            return replace(found, requests=requests, committed=committed, passed_over=passed, source_line=line)
    raise InputError(
        f"none of the first {MOST_TRIED} images can be prepared; run without `dry_run=` to see why in the rows"
    )


def _prepared(job: Job, prepare: Preparer, record: ImageRecord, names: Sequence[str]) -> FirstRequest | None:
    """The request of one record; None where an image of it cannot be prepared."""
    path = adapter_of(job.config).path
    address = f"the emulator (/{path.lstrip('/')})" if job.emulated else below(endpoint_name(job), path)
    one = job.config.all_endpoints[0]
    headers = {} if job.emulated else shown_headers(one, has_key=_has_key(one))
    fetched = _fetched(job, record)
    if fetched is None:
        return FirstRequest(requests=None, committed=0, address=address, image=record.image, headers=headers)
    images = prepare.images(record, fetched)
    if isinstance(images, Failure):
        return None
    request = prepare.requests(record, images, names)[0]
    prices = prices_for(job.config, job.config.all_endpoints[0], emulated=job.emulated)
    return FirstRequest(
        requests=None, committed=0, address=address, image=record.image, headers=headers, facts=request.facts,
        body=prepare.preview(request, images), max_answer_tokens=request.max_answer_tokens,
        predicted_prompt_tokens=request.predicted_prompt_tokens,
        pages=request.pages if traits_of(job.config).bills_pages else None,
        most_usd=_most_usd(most_amounts(request, prices)),
    )  # fmt: skip


def _fetched(job: Job, record: ImageRecord) -> FetchedImages | None:
    """What a run would fetch, as far as it is known without that: addresses that are passed on; None where it is not.

    Addresses are shown without secrets.
    """
    found: list[PassedUrl | None] = []
    for image in record.images:
        if isinstance(image, ImageUrl) and job.config.request.pass_urls and host_to_pass(image.url):
            found.append(PassedUrl(image.name))
        elif image.is_remote:
            return None
        else:
            found.append(None)
    return tuple(found)


def _sizes(facts: ImageFacts) -> str:
    if facts.is_passed:
        return "the provider fetches it, where its host is public; a run reads its size first"
    if facts.size is None or facts.sent_size is None:
        pages = "" if facts.pages is None else f" of {counted(facts.pages, 'page')}"
        return f"a PDF{pages}, {facts.sent_bytes:,} bytes"
    before, sent = (f"{width} x {height}" for width, height in (facts.size, facts.sent_size))
    return f"{before}, {facts.source_bytes:,} bytes -> {sent}, {facts.sent_bytes:,} bytes"


def _has_key(endpoint: EndpointConfig) -> bool:
    """Whether a run would send a key; where it would refuse to begin without one, too."""
    try:
        return find_key(endpoint) is not None
    except InputError:
        return True


def _most_usd(most: Amounts) -> Decimal | None:
    return None if most.nano_usd is None else usd(most.nano_usd)
