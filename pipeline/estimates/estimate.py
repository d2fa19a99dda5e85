"""What a set of images would cost on one model or several, before anything is paid: sizes x token rules x prices."""

from math import ceil

from pipeline.errors import InputError
from pipeline.estimates.figures import (
    Estimate,
    Unreadable,
)
from pipeline.estimates.histogram import Moments, SizeHistogram
from pipeline.estimates.job import EstimateJob, check_job
from pipeline.estimates.modelled import Population, model_estimate
from pipeline.estimates.survey import Show, Survey, SurveyJob, flaw_of, survey
from pipeline.formatting import passed_words
from pipeline.images.probe import ImageSize
from pipeline.sources import source_name
from pipeline.tokens.ranges import Range

PAGES_HINT = "With `source.pdf=pages` each page is an image"


async def estimate_job(job: EstimateJob, show: Show) -> Estimate:
    """Look at the images' sizes, and apply each model's rule and price.

    Raises InputError for a command or a source that is wrong, and where no image can be read.
    """
    check_job(job)
    histogram = SizeHistogram([candidate.prompt_shape(job.today) for candidate in job.candidates])
    seen = _imagined(job, histogram) if job.count is not None else await _surveyed(job, histogram, show)
    return estimated(job, histogram, seen)


def _nothing_seen(job: EstimateJob, seen: Survey) -> InputError:
    shard = next((one.config.source.own_shard for one in job.candidates), None)
    where = "" if shard is None else f": nothing of the source belongs to shard {shard}"
    passed = f"; passed over: {words}" if (words := passed_words(seen.passed_over)) else ""
    return InputError(f"no images to estimate{where}{passed}")


def estimated(job: EstimateJob, histogram: SizeHistogram, seen: Survey) -> Estimate:
    """What was seen, on each model. Raises InputError where no image can be read."""
    sizes = histogram.distribution()
    if sizes is None and not seen.seen and not seen.documents:
        raise _nothing_seen(job, seen)
    if sizes is None and not seen.seen:
        raise InputError(
            f"there are only PDFs ({seen.documents:,}), which are sent whole: what they take cannot be predicted. "
            f"{PAGES_HINT}"
        )
    if sizes is None:
        name, kind, message = (*seen.examples, *seen.unknown_examples)[0]
        raise InputError(
            f"none of {seen.seen:,} images has a size that would be sent; the first, {name}: {kind}: {message}"
        )
    readable = readable_images(histogram.images, seen)
    for counted in histogram.counted:
        counted.add_unreadable(seen.unreadable)
    images = Population(survey=seen, readable=readable, typical=sizes.typical, pixels=sizes.pixels)
    each = zip(job.candidates, histogram.shapes, histogram.counted, strict=True)
    models = [model_estimate(job, candidate, shape, counted, images) for candidate, shape, counted in each]
    return Estimate(
        source=", ".join(map(source_name, job.sources)) or _imagined_name(job),
        images=seen.images,
        seen=seen.seen,
        readable=readable,
        declared=seen.declared,
        unreadable=Unreadable(images=seen.unreadable, by_kind=dict(seen.by_kind), examples=tuple(seen.examples)),
        size_unknown=Unreadable(
            images=seen.unknown, by_kind=dict(seen.by_reason), examples=tuple(seen.unknown_examples)
        ),
        source_bytes=source_bytes(seen),
        seed=job.seed if seen.seen < seen.images else None,
        sizes=sizes,
        models=tuple(models),
        made_on=job.today,
        notes=(*job.notes, *_documents(seen)),
        documents=seen.documents,
        passed_over=dict(seen.passed_over),
    )


def _documents(seen: Survey) -> list[str]:
    if not seen.documents:
        return []
    what = "1 PDF is" if seen.documents == 1 else f"{seen.documents:,} PDFs are"
    return [f"{what} sent whole, which cannot be predicted: the figures are those of the other images. {PAGES_HINT}"]


def readable_images(readable: int, seen: Survey) -> Range[int]:
    """Of all images, those that would be sent, from those that were seen."""
    moments = Moments()
    moments.add(1, readable)
    moments.add(0, seen.unreadable)
    expected, half = round(moments.scaled(seen.images)), round(moments.half_width(seen.images))
    low = max(readable, expected - half)
    return Range(expected, low, min(seen.images - seen.unreadable, expected + half))


def source_bytes(seen: Survey) -> Range[int] | None:
    """Of all files, from those that were seen; what cannot be read, and what only a manifest describes, has none."""
    measured = seen.file_bytes
    if not measured.count:
        return None
    moments = Moments(measured.count, measured.total, measured.squares)
    moments.add(0, seen.known - measured.count)
    expected, half = round(moments.scaled(seen.images)), ceil(moments.half_width(seen.images))
    return Range(expected, max(measured.total, expected - half), expected + half)


async def _surveyed(job: EstimateJob, histogram: SizeHistogram, show: Show) -> Survey:
    config = job.candidates[0].config
    what = SurveyJob(sources=job.sources, config=config, limit=job.limit, probe=job.probe, seed=job.seed)
    return await survey(what, histogram, show)


def _imagined(job: EstimateJob, histogram: SizeHistogram) -> Survey:
    count = job.count or 0
    seen = Survey(images=count, seen=count)
    each, more = divmod(count, len(job.sizes))
    for number, size in enumerate(job.sizes):
        times = each + (number < more)
        flaw = flaw_of(ImageSize(*size, None), job.candidates[0].config.images)
        if times and flaw is not None:
            seen.reject(f"{size[0]} x {size[1]}", flaw, times)
        elif times:
            histogram.add(size, times, job.candidates[0].config.images.frames)
    return seen


def _imagined_name(job: EstimateJob) -> str:
    return "of " + ", ".join(f"{width} x {height}" for width, height in job.sizes)
