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


def record_charge(recorder: Recorder, charge: ChargeRecord, metadata: Mapping[str, Any]) -> ChargeRecord:
    """Attribute a charge, by the context it is recorded in and by what `metadata` says, price it and write it down.

    One without an id gets one.
    """
    charge_id = charge.charge_id or str(uuid4())
    config = var_child_runnable_config.get()
    told = {**((config or {}).get("metadata") or {}), **metadata}
    tracker = recorder.tracker
    span = tracker.place(None, told)
    if span is None:
        attribution = tracker.outside(told)
        charge = replace(charge, charge_id=charge_id, attribution=attribution)
        charge = recorder.meter.charge(charge)
        recorder.observers.tell(charge)
        recorder.sums.add_charge(who_of(attribution), charge, None)
        return charge
    _, attribution, who = tracker.attribute(span, told, None)
    charge = replace(
        charge,
        charge_id=charge_id,
        run_id=span.run.run_id,
        invocation_id=span.run.invocation_id,
        attribution=attribution,
    )
    charge = recorder.meter.charge(charge, state=span.run.state)
    recorder.observers.tell(charge)
    if not span.run.add_charge(who, charge):
        recorder.sums.add_charge(who, charge, span.run.folded)
    return charge
