"""What a call that is about to be sent would cost: asked only by budgets that need to know, each in its own way."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from langchain_finops.budgets.estimate import (
    DEFAULT_SECONDS,
    WRITE_METERS,
    Expectation,
    Past,
    Request,
    bound,
    expect,
)
from langchain_finops.budgets.holding import Estimate
from langchain_finops.budgets.policy import Budget
from langchain_finops.meter.calls import OpenCall
from langchain_finops.money import to_pico
from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cost import PriceKey, Reading
from langchain_finops.records import CallRecord
from langchain_finops.usage import Usage

__all__ = ["AskedPrices", "CallEstimates"]

MICROSECONDS: Final = 1_000_000
ONE_TOKEN: Final = {"input_tokens": 1, "output_tokens": 0, "total_tokens": 1}
KEYS_KEPT: Final = 4_096
WRITE_WHEN_ASKED: Final = frozenset({"anthropic", "aws", "google"})
"""Who writes to a cache only what a request marks; others may write any prompt."""
Terms = tuple[tuple[str, str], ...]
BYTES_PER_TOKEN: Final = 4
"""Where nobody measures a prompt's bytes: tokens are estimated from them, rounded up."""


class CallEstimates:
    """Estimates of one call, made once for all budgets that want the same."""

    __slots__ = ("_call", "_made", "_past", "_prices", "_prompt_bytes", "_request", "_sized")

    def __init__(
        self,
        call: OpenCall,
        prices: "AskedPrices",
        past: Past,
        request: Callable[[], Request],
        prompt_bytes: Callable[[], int] | None,
    ) -> None:
        self._call, self._prices, self._past = call, prices, past
        self._request, self._prompt_bytes = request, prompt_bytes
        self._sized: Request | None = None
        self._made: dict[tuple[str, int | None], Estimate] = {}

    def __call__(self, budget: Budget) -> Estimate:
        """What a budget takes the call for."""
        kind = budget.admission, budget.expected_output_tokens
        made = self._made.get(kind)
        if made is None:
            made = self._made[kind] = self._estimate(budget)
        return made

    @property
    def expectations(self) -> list[Expectation]:
        """What was made so far."""
        return [made.expected for made in self._made.values() if made.expected is not None]

    @property
    def prompt_tokens(self) -> int:
        """The prompt's size before it was corrected; 0 where nobody has asked."""
        return 0 if self._sized is None else self._sized.prompt_tokens

    def _estimate(self, budget: Budget) -> Estimate:
        call, past = self._call, self._past
        path, model = call.attribution.node_path, call.requested_model
        request = self._sized
        if request is None:
            request = self._sized = self._request()
        promised = budget.expected_output_tokens
        if budget.admission == "strict":
            size = request.prompt_tokens * BYTES_PER_TOKEN if self._prompt_bytes is None else self._prompt_bytes()
            expected = bound(request, size, promised=promised)
        else:
            expected = expect(request, past, node_path=path, model=model, promised=promised)
        took = past.microseconds(path, model)
        seconds = DEFAULT_SECONDS if took is None else took / MICROSECONDS
        usd, unpriced = self._price(expected, seconds, request.terms)
        return Estimate(
            usd=usd,
            tokens=expected.input_tokens + expected.output_tokens,
            # Nothing bounds how long a call takes; what is held keeps calls at once from each seeing all that is left.
            seconds=MICROSECONDS if took is None else took,
            expected=expected,
            unpriced=unpriced,
        )

    def _price(self, expected: Expectation, seconds: float, terms: Terms) -> tuple[int, str | None]:
        """Picodollars at the price in force, and why there is none where there is none."""
        key, price = self._prices.key_of(self._call, terms), self._prices.book.price
        usage = expected.usage
        if expected.strict:
            unasked = () if key.provider in WRITE_WHEN_ASKED else WRITE_METERS

            def amount_of(usage: Usage) -> Decimal | None:
                return price(Reading(usage=usage, key=key), seconds=seconds).contracted_usd

            usage = expected.dearest(amount_of, *unasked)
        cost = price(Reading(usage=usage, key=key), seconds=seconds)
        amount = cost.contracted_usd
        return (0, ", ".join(cost.reasons) or "unpriced") if amount is None else (to_pico(amount), None)


class AskedPrices:
    """The price book, and by which key it knows what was asked for: reading that anew takes longer than pricing."""

    __slots__ = ("_keys", "book")

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self._keys: dict[tuple[object, ...], PriceKey] = {}

    def key_of(self, call: OpenCall, terms: Terms = ()) -> PriceKey:
        """What the price of a call depends on, as far as its request tells; `terms` are what it asks for."""
        metadata, host, tags = call.metadata, call.endpoint.base_url_host, call.attribution.tags
        names = (
            metadata.get("ls_provider"),
            metadata.get("ls_model_name"),
            host,
            call.endpoint.region,
            terms,
            *(sorted(tags.items()) if tags else ()),
        )
        key = self._keys.get(names)
        if key is None:
            at, said = call.started_at, dict(terms)
            if metadata.get("ls_provider") == "anthropic" and call.endpoint.region is not None:
                said.setdefault("region", call.endpoint.region)  # Its client is told where to infer when it is made.
            reading = self.book.read(ONE_TOKEN, {}, metadata, at=at, context=said, base_url_host=host, tags=tags)
            if len(self._keys) >= KEYS_KEPT:
                self._keys.clear()
            key = self._keys[names] = reading.key
        return replace(key, at=call.started_at)

    def amount_of(self, call: CallRecord) -> int | None:
        """Picodollars of a call whose answer has no known price: its tokens, as plain ones, at the price of the model
        that was asked for. None without one."""
        metadata = {"ls_provider": call.provider, "ls_model_name": call.requested_model}
        at, host, tags = call.started_at, call.base_url_host, call.attribution.tags
        key = self.book.read(ONE_TOKEN, {}, metadata, at=at, base_url_host=host, tags=tags).key
        tokens = call.usage.total_input_tokens, call.usage.total_output_tokens
        reading = Reading(usage=Usage(input_tokens=tokens[0], output_tokens=tokens[1]), key=key)
        amount = self.book.price(reading, seconds=max(0.0, (call.ended_at - at).total_seconds())).contracted_usd
        return None if amount is None else to_pico(amount)
