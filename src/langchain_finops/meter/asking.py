"""What a call that is about to be sent would cost: asked only by budgets that need to know, each in its own way."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from langchain_finops.budgets.estimate import DEFAULT_SECONDS, Expectation, Past, Request, bound, expect
from langchain_finops.budgets.holding import Estimate
from langchain_finops.budgets.policy import Budget
from langchain_finops.meter.calls import OpenCall
from langchain_finops.money import to_pico
from langchain_finops.pricing.book import PriceBook

__all__ = ["CallEstimates"]

MICROSECONDS: Final = 1_000_000
BYTES_PER_TOKEN: Final = 4
"""Where nobody measures a prompt's bytes: tokens are estimated from them, rounded up."""


class CallEstimates:
    """Estimates of one call, made once for all budgets that want the same."""

    __slots__ = ("_call", "_made", "_past", "_prices", "_prompt_bytes", "_request", "_sized")

    def __init__(
        self,
        call: OpenCall,
        prices: PriceBook,
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
        usd, unpriced = self._price(expected, DEFAULT_SECONDS if took is None else took / MICROSECONDS)
        return Estimate(
            usd=usd,
            tokens=expected.input_tokens + expected.output_tokens,
            # Nothing bounds how long a call takes; what is held keeps calls at once from each seeing all that is left.
            seconds=MICROSECONDS if took is None else took,
            expected=expected,
            unpriced=unpriced,
        )

    def _price(self, expected: Expectation, seconds: float) -> tuple[int, str | None]:
        """Picodollars at the price in force, and why there is none where there is none."""
        call = self._call
        usage = {
            "input_tokens": expected.input_tokens,
            "output_tokens": expected.output_tokens,
            "total_tokens": expected.input_tokens + expected.output_tokens,
        }
        reading = self._prices.read(
            usage,
            {},
            call.metadata,
            at=call.started_at,
            base_url_host=call.endpoint.base_url_host,
            tags=call.attribution.tags,
        )
        cost = self._prices.price(reading, seconds=seconds)
        amount: Decimal | None = cost.contracted_usd
        return (0, ", ".join(cost.reasons) or "unpriced") if amount is None else (to_pico(amount), None)
