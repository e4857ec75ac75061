"""What an answer says of itself, with what only its request knows where the answer leaves it out."""

from collections.abc import Callable, Mapping
from datetime import datetime

from langchain_finops.budgets.estimate import Request
from langchain_finops.meter.calls import Answer, OpenCall
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import Reading
from langchain_finops.pricing.normalize import TTL_ASSUMED

__all__ = ["reading_of"]


def reading_of(
    prices: PriceBook, call: OpenCall, answer: Answer, *, at: datetime, request: Callable[[], Request]
) -> Reading:
    """Disjoint meters and a price key of an answer. How long what was written to a cache is to live, streams do not
    tell: then `request` is measured, whose marks do."""

    def read(context: Mapping[str, object] | None) -> Reading:
        return prices.read(
            answer.usage,
            answer.response,
            call.metadata,
            at=at,
            context=context,
            base_url_host=call.endpoint.base_url_host,
            tags=call.attribution.tags,
            shown=answer.shown,
        )

    reading = read(None)
    if TTL_ASSUMED in reading.reasons:
        ttl = request().cache_ttl
        if ttl is not None:
            return read({"cache_ttl": ttl})
    return reading
