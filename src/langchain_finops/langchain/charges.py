"""Charges that the user records: costs that are no model call, in the run and node they are recorded in."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from langchain_core.runnables.config import var_child_runnable_config

from langchain_finops.langchain.recorder import Recorder
from langchain_finops.langchain.sums import who_of
from langchain_finops.records import ChargeRecord

__all__ = ["record_charge"]

GIVEN_KEPT = 10_000
"""Charges with an id of the user's own that are remembered: the same one again counts on no sum and no budget."""


def record_charge(recorder: Recorder, charge: ChargeRecord, metadata: Mapping[str, Any]) -> ChargeRecord:
    """Attribute a charge, by the context it is recorded in and by what `metadata` says, price it and write it down.

    One without an id gets one. One whose id the user gave before is the one that was written down then.
    """
    if not charge.charge_id:
        return _written(recorder, replace(charge, charge_id=str(uuid4())), metadata)
    given = recorder.given_charges
    known = given.setdefault(charge.charge_id, charge)
    if known is not charge:
        return known
    try:
        written = given[charge.charge_id] = _written(recorder, charge, metadata)
    except BaseException:
        del given[charge.charge_id]  # It was not written down: the same one again must be.
        raise
    if len(given) > GIVEN_KEPT:
        given.pop(next(iter(given)), None)
    return written


def _written(recorder: Recorder, charge: ChargeRecord, metadata: Mapping[str, Any]) -> ChargeRecord:
    config = var_child_runnable_config.get()
    told = {**((config or {}).get("metadata") or {}), **metadata}
    tracker = recorder.tracker
    span = tracker.place(None, told)
    if span is None:
        attribution = tracker.outside(told)
        charge = recorder.meter.charge(replace(charge, attribution=attribution))
        recorder.observers.tell(charge)
        recorder.sums.add_charge(who_of(attribution), charge, None)
        return charge
    _, attribution, who = tracker.attribute(span, told, None)
    run = span.run
    charge = replace(charge, run_id=run.run_id, invocation_id=run.invocation_id, attribution=attribution)
    charge = recorder.meter.charge(charge, state=run.state)
    recorder.observers.tell(charge)
    if not run.add_charge(who, charge):
        recorder.sums.add_charge(who, charge, run.folded)
    return charge
