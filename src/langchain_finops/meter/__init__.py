"""The only place that knows the order: hold, price, settle, write down."""

from langchain_finops.budgets.estimate import Request
from langchain_finops.clock import CALL_CLOCK, CallClock
from langchain_finops.meter.calls import NOTHING, UNKNOWN_ENDPOINT, Answer, Endpoint, Faults, OpenCall
from langchain_finops.meter.drafts import draft_of
from langchain_finops.meter.meter import Meter

__all__ = [
    "CALL_CLOCK",
    "NOTHING",
    "UNKNOWN_ENDPOINT",
    "Answer",
    "CallClock",
    "Endpoint",
    "Faults",
    "Meter",
    "OpenCall",
    "Request",
    "draft_of",
]
