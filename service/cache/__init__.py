"""Codes of inputs that were tokenised before: in memory, in a Redis that replicas share, or on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from service.cache.cache import CodesCache
    from service.settings import Settings


def cache_of(settings: Settings, capacity: int, registry: CollectorRegistry) -> CodesCache | None:
    """The cache of this process, `capacity` bytes of it in memory; None where the settings turn it off.

    Raises:
        StartError: the URL of Redis cannot be taken.
    """
    if not settings.cache_bytes:
        return None
    from service.cache.cache import CodesCache
    from service.cache.counts import CacheCounts
    from service.cache.memory import Memory

    counts, memory = CacheCounts(registry), Memory(capacity)
    counts.watch_memory(memory)
    if settings.redis_url is None:
        return CodesCache(memory, counts)
    # Importing its client takes a quarter of a second, which only those pay who use it.
    from service.cache.link import link_to_redis
    from service.cache.shared import SharedCodes

    link = link_to_redis(settings, counts)
    counts.watch_breaker(link.breaker)
    return CodesCache(memory, counts, SharedCodes(link, settings.redis_ttl_seconds))
