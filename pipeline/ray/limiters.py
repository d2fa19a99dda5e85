"""Which limiter a run asks: the one of its Ray cluster that equal captioners share, or one in this process."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, replace
from secrets import token_hex
from sys import modules

from pipeline.engine.stages import Clock
from pipeline.limits.budget import Amounts
from pipeline.limits.cluster import EndpointLimits
from pipeline.ray.actor import LimiterActor, RemoteLimiter, WholeLimits
from pipeline.ray.cluster import NAMESPACE
from pipeline.ray.leases import Limiter, SharedLimits


def leases_of(endpoints: tuple[EndpointLimits, ...], budget: Amounts, addresses: Sequence[str]) -> SharedLimits:
    """The leases of one captioner."""
    limiter, unreachable = _found(WholeLimits(endpoints, budget), addresses)
    name = f"captioner {token_hex(4)}"
    return SharedLimits(limiter, name, len(endpoints), Clock(), bounds=budget, unreachable=unreachable)


def _found(whole: WholeLimits, addresses: Sequence[str]) -> tuple[Limiter, tuple[type[Exception], ...]]:
    ray = modules.get("ray")
    if ray is None or not ray.is_initialized():
        return LimiterActor(whole), ()
    named = repr((sorted(addresses), [astuple(one) for one in whole.endpoints], astuple(whole.budget)))
    name = f"limits {hashlib.blake2b(named.encode(), digest_size=8).hexdigest()}"
    options = {"name": name, "namespace": NAMESPACE, "get_if_exists": True, "num_cpus": 0}
    actor = ray.remote(LimiterActor).options(**options)
    # It ends with the captioner that made it. What was sent by then is not known to the next one, which waits a minute.
    again = replace(whole, awaited=("the one before",))
    return RemoteLimiter(actor.remote(whole), lambda: actor.remote(again)), (ray.exceptions.RayError,)
