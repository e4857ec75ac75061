"""Which beginnings of prompts were sent before, and how long ago: keyed hashes and times in memory, no text."""

import json
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Final, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

from langchain_finops.budgets.estimate import tokens_of_bytes
from langchain_finops.langchain.extract import CACHE_MARKS, MESSAGE_TOKENS, request_of
from langchain_finops.ledger.forks import renew_in_child
from langchain_finops.levers.tiers import prompt_tokens

__all__ = ["Seen", "SeenPrefixes", "Step", "Uses"]

V = TypeVar("V")

KEPT_USES: Final = 32
"""Of one prefix: what it was used like longer ago does not count."""
KEPT_STEPS: Final = 64
"""Prompts of one agent, that is of one beginning of tools and system message, whose growth counts."""
KEPT_PREFIXES: Final = 2_048
KEPT_PROMPTS: Final = 8_192
NEVER_S: Final = 1e9
"""A gap that is longer than any cache lives: there was nothing to read."""
DIGEST_BYTES: Final = 16
CALLS: Final = frozenset({"tool_use", "tool_call"})
"""Kinds of blocks that a message's `tool_calls` hold too."""
RUNS: Final = frozenset({"tool_use", "tool_result"})
"""Kinds of blocks of which the Claude API itself counts those in a row as one:
https://platform.claude.com/docs/en/build-with-claude/prompt-caching"""
JSON: Final = json.JSONEncoder(default=repr, sort_keys=True)


@dataclass(slots=True)
class Uses:
    """How often a prefix was sent."""

    tokens: int
    """Estimated, of the whole prefix."""
    gaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_USES))
    """Between its last uses, oldest first."""
    begun: bool = False
    last_s: float | None = None
    """When the last request that has been answered was sent; what is still on its way cannot be read from yet."""

    def used(self, now_s: float) -> None:
        """Count one more use."""
        if self.begun:
            self.gaps_s.append(_gap(self.last_s, now_s))
        self.begun = True


@dataclass(frozen=True, slots=True)
class Step:
    """A prompt of an agent: its messages without the system message, in estimated tokens."""

    tokens: int
    tokens_before: int
    """Of the earlier prompt that it goes on from; 0 where there was none."""
    gap_s: float
    """Since that one was sent."""
    new_blocks: int = 0
    """Blocks behind the end of that one."""


@dataclass(slots=True)
class Sent:
    """A prompt that was sent, for the next one to go on from."""

    tokens: int
    blocks: int
    """What a provider takes for one: a text, an image, a call of a tool, a result; or calls, or results, in a row."""
    last_s: float | None = None


@dataclass(slots=True)
class Agent:
    """Prompts that begin with the same tools and system message."""

    steps: deque[Step] = field(default_factory=lambda: deque(maxlen=KEPT_STEPS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen of a request's beginnings, this use included."""

    tools: Uses | None
    """None where it offers none."""
    system: Uses | None
    """Tools and system message; None where there is no system message."""
    steps: tuple[Step, ...]
    """Prompts of the same agent, this one last."""
    _live: tuple[Uses | Sent, ...]
    """What `answered` tells of the answer; others count it up meanwhile."""
    _at_s: float

    @property
    def tokens(self) -> int:
        """Estimated, of the whole prompt."""
        begun = self.system or self.tools
        return self.steps[-1].tokens + (0 if begun is None else begun.tokens)


class SeenPrefixes:
    """Remembers what was sent. Bounded; one serves all threads and event loops."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.after_fork()
        renew_in_child(self)
        self._key = secrets.token_bytes(32)
        self._uses: OrderedDict[bytes, Uses] = OrderedDict()
        self._agents: OrderedDict[bytes, Agent] = OrderedDict()
        self._prompts: OrderedDict[bytes, Sent] = OrderedDict()

    def after_fork(self) -> None:
        """The child knows what was sent before, and has a lock of its own."""
        self._lock = threading.Lock()

    def note(
        self,
        shape: Sequence[Any],
        tools: Sequence[Any],
        system: BaseMessage | None,
        messages: Sequence[BaseMessage],
        *,
        has_runs: bool = False,
    ) -> Seen:
        """Count a request that is about to be sent; `messages` without the system message.

        `shape`: what has to be the same for one request to read what another one had cached, such as the model.
        `has_runs`: calls of tools in a row count as one block, and results in a row do.
        """
        tools_key = self._digest([shape, tools])
        agent_key = tools_key if system is None else self._digest([shape, tools, _plain(system)])
        ends, tokens = self._ends(agent_key, messages)
        blocks = _blocks(messages, has_runs=has_runs)
        with self._lock:
            now = self._clock()
            offered = None if not tools else self._used(tools_key, now, tools, ())
            begun = None if system is None else self._used(agent_key, now, tools, (system,))
            before = next((self._prompts[end] for end in reversed(ends) if end in self._prompts), None)
            agent = _kept(self._agents, agent_key, Agent, KEPT_PREFIXES)
            if before is None:
                agent.steps.append(Step(tokens, 0, NEVER_S, blocks))
            else:
                gap, new = _gap(before.last_s, now), max(0, blocks - before.blocks)
                agent.steps.append(Step(tokens, min(before.tokens, tokens), gap, new))
            prompt = _kept(self._prompts, ends[-1] if ends else agent_key, lambda: Sent(tokens, blocks), KEPT_PROMPTS)
            live = tuple(each for each in (offered, begun, prompt) if each is not None)
            steps = tuple(agent.steps)
            return Seen(tools=_copy(offered), system=_copy(begun), steps=steps, _live=live, _at_s=now)

    def answered(self, seen: Seen) -> None:
        """The provider has begun to answer: from now on what was sent can be read from its cache."""
        with self._lock:
            for used in seen._live:  # noqa: SLF001  Of this module.
                if used.last_s is None or used.last_s < seen._at_s:  # noqa: SLF001
                    used.last_s = seen._at_s  # noqa: SLF001

    def _used(self, key: bytes, now: float, tools: Sequence[Any], system: Sequence[BaseMessage]) -> Uses:
        def measured() -> Uses:
            return Uses(request_of(system, {"tools": list(tools)}, {}).prompt_tokens)

        uses = _kept(self._uses, key, measured, KEPT_PREFIXES)
        uses.used(now)
        return uses

    def _digest(self, value: object) -> bytes:
        return blake2b(_json(value), key=self._key, digest_size=DIGEST_BYTES).digest()

    def _ends(self, agent: bytes, messages: Sequence[BaseMessage]) -> tuple[list[bytes], int]:
        """A digest for each message, of the agent and all messages up to there, and estimated tokens of all."""
        running, ends, tokens = blake2b(agent, key=self._key, digest_size=DIGEST_BYTES), [], 0
        for message in messages:
            content, calls = message.content, message.tool_calls if isinstance(message, AIMessage) else ()
            if not isinstance(content, str):
                running.update(_json(_plain(message)))
                tokens += prompt_tokens([message])
            else:  # Most are, and need no JSON.
                running.update(f"\0{message.type}\0".encode())
                text = content.encode("utf-8", "surrogatepass")
                if calls:
                    text += _json(_asked_for(calls))
                running.update(text)
                tokens += MESSAGE_TOKENS + tokens_of_bytes(len(text))
            ends.append(running.copy().digest())
        return ends, tokens


def _copy(uses: Uses | None) -> Uses | None:
    return None if uses is None else replace(uses, gaps_s=uses.gaps_s.copy())


def _blocks(messages: Iterable[BaseMessage], *, has_runs: bool) -> int:
    """How many blocks messages are to a provider; with runs, what follows its like does not count."""
    count = 0
    last = None
    for message in messages:
        for kind in _kinds(message):
            count += not (has_runs and kind == last and kind in RUNS)
            last = kind
    return count


def _kinds(message: BaseMessage) -> list[Any]:
    """A message's blocks to a provider: it takes no empty text, and a call of a tool is one, said twice."""
    if isinstance(message, ToolMessage):
        return ["tool_result"]
    calls = len(message.tool_calls) if isinstance(message, AIMessage) else 0
    if isinstance(message.content, str):
        return ["text"] * bool(message.content.strip()) + ["tool_use"] * calls
    kinds = [block.get("type") if isinstance(block, Mapping) else "text" for block in message.content]
    told = ["tool_use" if kind in CALLS else kind for kind in kinds]
    return told + ["tool_use"] * max(0, calls - told.count("tool_use"))


def _plain(message: BaseMessage) -> list[Any]:
    """A message without its ids, and without marks that say what is to be cached: they do not change the prefix."""
    content = message.content
    blocks = content if isinstance(content, str) else [_unmarked(block) for block in content]
    return [message.type, blocks, _asked_for(message.tool_calls if isinstance(message, AIMessage) else ())]


def _asked_for(calls: Iterable[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    return [(call.get("name"), call.get("args")) for call in calls]


def _unmarked(block: Any) -> Any:
    if not isinstance(block, Mapping):
        return block
    return {name: value for name, value in block.items() if name not in CACHE_MARKS}


def _json(value: object) -> bytes:
    return JSON.encode(value).encode()


def _gap(last_s: float | None, now_s: float) -> float:
    return NEVER_S if last_s is None else min(NEVER_S, max(0.0, now_s - last_s))  # Clocks are set back at times.


def _kept(store: OrderedDict[bytes, V], key: bytes, make: Callable[[], V], most: int) -> V:
    """The entry of a key, made where it is not there; what was not asked for longest goes."""
    value = store.get(key)
    if value is None:
        value = store[key] = make()
        if len(store) > most:
            store.popitem(last=False)
    else:
        store.move_to_end(key)
    return value
