"""What a middleware asks of a run's budgets before it makes a call, and tells them after a refusal."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage

from langchain_finops.langchain import extract
from langchain_finops.langchain.recorder import Recorder
from langchain_finops.langchain.tracker import namespace_of
from langchain_finops.meter import OpenCall
from langchain_finops.meter.affording import share_left
from langchain_finops.records import Attribution

__all__ = ["Asked", "affordable_output_tokens", "let_end", "share_left_of", "thinking_tokens", "whose"]


class Asked(NamedTuple):
    """A call that is about to be made."""

    prompt: Sequence[BaseMessage]
    model: Mapping[str, Any]
    """What callbacks are told of the model."""
    params: Mapping[str, Any]


def affordable_output_tokens(recorder: Recorder, asked: Asked, metadata: Mapping[str, Any]) -> int | None:
    """The longest answer that every budget which applies has room for; None where any length fits."""
    span = recorder.tracker.place(None, metadata)
    if span is None or recorder.gate.is_idle:
        return None
    run = span.run
    _, attribution, _ = recorder.tracker.attribute(span, metadata, None)
    request = partial(extract.request_of, asked.prompt, asked.params, asked.model)
    call = OpenCall(("", run.run_id, run.invocation_id), attribution, asked.model, request)
    if call.clock is not None:
        call.clock.end_call()  # It is not sent: without it the next call's time would be taken for its own.
    size = partial(extract.request_bytes, asked.prompt, asked.params)
    return recorder.meter.affordable_output_tokens(call, run.state, prompt_bytes=size)


def share_left_of(recorder: Recorder, metadata: Mapping[str, Any]) -> float | None:
    """What is left of the tightest limit in dollars or tokens that applies here, as a share of it; None: none does."""
    span = recorder.tracker.place(None, metadata)
    if span is None or recorder.gate.is_idle:
        return None
    _, attribution, _ = recorder.tracker.attribute(span, metadata, None)
    return share_left(recorder.meter.guard.accounts, attribution, datetime.now(UTC), span.run.state)


def whose(recorder: Recorder, metadata: Mapping[str, Any]) -> Attribution:
    """Whom a call that is made here belongs to, as the ledger will have it."""
    span = recorder.tracker.place(None, metadata)
    if span is None:
        return recorder.tracker.outside(metadata)
    _, attribution, _ = recorder.tracker.attribute(span, metadata, None)
    return attribution


def thinking_tokens(model: object, settings: Mapping[str, Any]) -> int:
    """Tokens that a model is told to think with at most; 0 where it is told nothing."""
    thinking = settings.get("thinking") or getattr(model, "thinking", None)
    tokens = thinking.get("budget_tokens") if isinstance(thinking, Mapping) else None
    return tokens if isinstance(tokens, int) else 0


def let_end(recorder: Recorder, metadata: Mapping[str, Any]) -> None:
    """Let the graph that this is in come to its end, though its run was refused: nothing that costs is admitted."""
    span, namespace = recorder.tracker.place(None, metadata), namespace_of(metadata)
    if span is not None and namespace is not None:
        run, graph = span.run, namespace.rpartition("|")[0]
        with run.lock:  # The last one alone: with another of the same graph beside it, both could go on in turns.
            run.ending.difference_update({each for each in run.ending if each.rpartition("|")[0] == graph})
            run.ending.add(namespace)
