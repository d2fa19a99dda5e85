"""What a run would send and cost, looked at beforehand: nothing is sent, nothing is written."""

import json
from dataclasses import asdict, dataclass
from decimal import Decimal
from itertools import islice

from pipeline.endpoints.adapter import adapter_of
from pipeline.endpoints.pricing import most_cost_usd, price_for
from pipeline.engine.progress import counted, dollars
from pipeline.engine.stages import Clock
from pipeline.errors import InputError
from pipeline.formatting import printable_lines
from pipeline.money import usd_text
from pipeline.records import Failure, ImageFacts
from pipeline.run.job import Job, endpoint_name, open_job_source
from pipeline.run.prepare import Preparer


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRequest:
    """The first request that a run would send."""

    requests: int | None
    """How many like it; None where that is unknown."""
    address: str
    image: str
    facts: ImageFacts | None = None
    body: str | None = None
    """Indented JSON without the base64; None, as `facts`, of an image that only a run fetches."""
    predicted_prompt_tokens: int | None = None
    max_answer_tokens: int | None = None
    most_usd: Decimal | None = None
    """The most that this one request may cost; None where no price is known, or no end of the answer."""

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "requests": self.requests,
            "address": self.address,
            "image": self.image,
            "facts": None if self.facts is None else asdict(self.facts),
            "predicted_prompt_tokens": self.predicted_prompt_tokens,
            "max_answer_tokens": self.max_answer_tokens,
            "most_usd": usd_text(self.most_usd),
            "body": None if self.body is None else json.loads(self.body),
        }

    def __str__(self) -> str:
        """For people; the body's own line breaks are the only ones in it."""
        count = "an unknown number of requests" if self.requests is None else counted(self.requests, "request")
        heading = f"{count} like this one to {self.address} (nothing is sent now):"
        facts = self.facts
        if facts is None:
            return printable_lines([heading, f"the first image is remote and is fetched only by a run: {self.image}"])
        sizes = f"{facts.width} x {facts.height}, {facts.source_bytes:,} bytes -> "
        sizes += f"{facts.sent_width} x {facts.sent_height}, {facts.sent_bytes:,} bytes"
        body = (self.body or "").split("\n")
        return printable_lines([heading, f"{self.image}: {sizes}", self._price_line(), *body])

    def _price_line(self) -> str:
        prompt = "unknown" if self.predicted_prompt_tokens is None else f"about {self.predicted_prompt_tokens:,}"
        answer = "any number" if self.max_answer_tokens is None else f"{self.max_answer_tokens:,} at most"
        cost = "unknown" if self.most_usd is None else f"up to {dollars(self.most_usd)} each"
        if self.most_usd is not None and self.requests is not None and self.requests > 1:
            cost += f", {dollars(self.most_usd * self.requests)} for all (vision-batch estimate predicts it)"
        return f"tokens: {prompt} in, {answer} out; cost: {cost}"


def first_request(job: Job) -> FirstRequest:
    """Prepare the first image that can be prepared. Sends and writes nothing."""
    source, total = open_job_source(job)
    total = None if total is None else total * len(job.config.prompt_names)
    prepare = Preparer.build(job.config, Clock().utc().date())
    one = job.config.all_endpoints[0]
    address = f"{endpoint_name(job)}/{adapter_of(job.config).path}"
    for record in islice(source.records(), 100):
        if any(image.is_remote for image in record.images):
            return FirstRequest(requests=total, address=address, image=record.image)
        images = prepare.images(record, (None,) * len(record.images))
        if not isinstance(images, Failure):
            request, price = prepare.requests(record, images)[0], price_for(job.config, one, emulated=job.emulated)
            return FirstRequest(
                requests=total, address=address, image=record.image, facts=request.facts,
                body=prepare.preview(request, images), max_answer_tokens=request.max_answer_tokens,
                predicted_prompt_tokens=request.predicted_prompt_tokens,
                most_usd=None if price is None else most_cost_usd(request, price),
            )  # fmt: skip
    raise InputError("none of the first 100 images can be prepared; run without `dry_run=` to see why in the rows")
