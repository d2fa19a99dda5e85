"""The endpoints of a configuration as the engine asks them."""

import resource
import sys
from collections.abc import Callable, Sequence

import aiohttp

from pipeline.config.families import family_for
from pipeline.config.run_config import RunConfig
from pipeline.config.sections import EndpointConfig
from pipeline.endpoints.adapter import RequestTemplate, adapter_of
from pipeline.endpoints.client import EndpointClient
from pipeline.endpoints.parameters import AdaptableTemplate, EndpointParameters
from pipeline.endpoints.pricing import prices_for
from pipeline.endpoints.secrets import redactor_of
from pipeline.endpoints.target import Target
from pipeline.engine.stages import Endpoint
from pipeline.errors import InputError
from pipeline.limits.concurrency import MOST
from pipeline.run.job import Job, check_budget, endpoint_names
from pipeline.run.labels import readers_of
from pipeline.run.prepare import Preparer
from pipeline.run.sharding import limits_shard


def targets_of(config: RunConfig, keys: Sequence[str | None]) -> list[Target]:
    """Every endpoint with its key. Raises InputError where one of them cannot be asked; nothing is sent."""
    redactor = redactor_of(config, keys)
    return [Target.of(one, key, redactor) for one, key in zip(config.all_endpoints, keys, strict=True)]


def endpoints_of(
    job: Job,
    targets: Sequence[Target],
    sessions: Sequence[aiohttp.ClientSession],
    prepare: Preparer,
    say: Callable[[str], None] = lambda _: None,
) -> list[Endpoint]:
    """What the engine asks; `say` shows the user what an endpoint does not take.

    Raises InputError where a budget in dollars is set and a price is unknown.

    With one endpoint its first bill shows how many tokens the text has; several may count text differently.
    """
    config, adapter = job.config, adapter_of(job.config)
    endpoints, names = [], endpoint_names(job)
    readers = readers_of(config, prepare.template, names, say)
    for target, session, name, labels in zip(targets, sessions, names, readers, strict=True):
        one = target.endpoint
        prices = prices_for(config, one, emulated=job.emulated)
        check_budget(config, one.model or config.request.model or "", prices.asked)
        client = EndpointClient(
            session,
            target,
            adapter,
            prepare.template,
            prices=prices,
            tier=prepare.effective.request.service_tier,
            observe=prepare.learn if len(targets) == 1 else None,
            labels=labels,
            parameters=parameters_of(config, prepare.template, name, say),
            keep_thinking=config.request.keep_thinking,
        )
        endpoints.append(endpoint_of(config, one, client, name))
    return endpoints


def parameters_of(
    config: RunConfig, template: RequestTemplate, name: str, say: Callable[[str], None]
) -> EndpointParameters | None:
    """What the endpoint `name` takes of the parameters; None where its requests cannot be adapted."""
    if not isinstance(template, AdaptableTemplate):
        return None
    request = config.request
    settings = {field: f"request.{field}" for field in request.sent_parameters}
    settings |= {"reasoning": "request.reasoning_effort"} if request.reasoning_effort else {}  # the Responses API
    settings |= {"stream": "request.stream"} if request.stream else {}
    settings |= {field: f"request.extra.{field}" for field in request.extra}
    if request.max_tokens_field != "auto":
        settings[request.max_tokens_field] = "request.max_tokens_field"
    return EndpointParameters(template.fields, settings, name=name, adapts=request.adapt, say=say)


def endpoint_of(config: RunConfig, one: EndpointConfig, client: EndpointClient, name: str) -> Endpoint:
    """One endpoint of a configuration with its limits."""
    most = max_concurrency(len(config.all_endpoints))
    limits, family = config.limits, family_for(config, one)
    concurrency = limits.concurrency if one.concurrency is None else one.concurrency
    counted = limits.count_tokens
    if counted == "auto":
        counted = "requested" if family is None or family.counts_requested else "billed"
    shard = limits_shard(config)
    if shard is not None and isinstance(concurrency, int):
        if concurrency < shard.count:
            raise InputError(
                f"`limits.concurrency` is {concurrency}, and {shard.count} shards divide it: each needs one request in "
                "flight at least. Set it higher, use fewer shards, or give each all of it with `divide_limits=False`"
            )
        concurrency = shard.part_of(concurrency)
    return Endpoint(
        name=name,
        shard=shard,
        ask=client.ask,
        most=client.most,
        concurrency=None if concurrency == "auto" else min(concurrency, most),
        max_concurrency=min(MOST, most),
        rpm=one.rpm or limits.rpm,
        tpm=one.tpm or limits.tpm,
        weight=one.weight,
        counts_billed=counted == "billed",
        timeout_s=one.timeout_s,
    )


def max_concurrency(endpoints: int = 1) -> int:
    """Requests in flight that each of N endpoints may have: every one needs a file handle of this process."""
    handles, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if handles == resource.RLIM_INFINITY else max(1, handles // 2 // endpoints)
