"""Reading a ledger of a million calls, as whole processes: `finops report`, `top --once`, `advise`, `machines`,
`insight prefixes` and a FOCUS file. All calls have digests of their prompt; a fifth are of a machine of one's own.

    python benchmarks/reading.py [--calls 1000000] [--ledger FILE]

Makes its ledger in a temporary folder, or takes a file that is there.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from http.client import HTTPConnection
from pathlib import Path

from langchain_finops.ledger import open_ledger
from langchain_finops.ledger.marks import DIGEST_BYTES, LENGTHS, End, Marks
from langchain_finops.records import (
    Attribution,
    CallError,
    CallRecord,
    ChargeRecord,
    Outcome,
    Record,
    RunRecord,
    RunStatus,
)
from langchain_finops.usage import Usage

BATCH = 5_000
DAYS = 30
AGENTS = ("support", "research", "coder", "billing", "onboarding", "sales", "ops", "legal")
NODES = ("plan", "researcher/search", "researcher/read", "tools", "answer", "review")
MODELS = ("gpt-5-mini", "gpt-5", "claude-sonnet-4-5", "claude-haiku-4-5", "own")
ENDINGS: tuple[RunStatus, ...] = ("completed", "stopped", "failed")
FINOPS = str(Path(sys.executable).with_name("finops"))


def main() -> None:
    """Print what each way of reading takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--ledger", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--fill-only", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = given.ledger or Path(folder) / "ledger.db"
        if not path.exists():
            fill(path, given.calls)
        if not given.fill_only:
            commands(path, given.repeat)
            pages(path, given.repeat)
            exports(path)


def fill(path: Path, calls: int) -> None:
    """Write runs of a dozen calls over the last month, the newest of them still running."""
    ledger = open_ledger(path)
    batch: list[Record] = []
    for record in _records(calls, datetime.now(UTC)):
        batch.append(record)
        if len(batch) >= BATCH:
            ledger.write(*batch)
            batch.clear()
    ledger.write(*batch)
    ledger.close()


def _records(calls: int, now: datetime) -> Iterator[Record]:
    rng = random.Random(7)
    runs = calls // 12
    for number in range(runs):
        began = now - timedelta(days=DAYS) * (1 - number / runs)
        yield from _run(rng, number, began, is_running=number >= runs - 5)


def _run(rng: random.Random, number: int, began: datetime, *, is_running: bool) -> Iterator[Record]:
    agent = AGENTS[min(int(rng.expovariate(0.6)), len(AGENTS) - 1)]
    run, task = f"run-{number:06}", f"task-{number // 2:06}"
    at, who = began, Attribution(agent_id=agent)
    for step in range(1, 13):
        who = Attribution(
            agent_id=agent, user_id=f"user-{number % 997}", task_id=task, step=step, attempt=1,
            node=(path := rng.choice(NODES)).rpartition("/")[2], node_path=path,
        )  # fmt: skip
        yield _call(rng, f"{run}-{step}", run, who, at)
        at += timedelta(seconds=rng.uniform(1, 8))
    if number % 10 == 0:
        yield ChargeRecord(
            charge_id=f"{run}-t", kind="tool", run_id=run, invocation_id=run, attribution=who, name="web_search",
            cost_usd=Decimal("0.01"), cost_status="exact", at=at,
        )  # fmt: skip
    if not is_running:
        status: RunStatus = rng.choices(ENDINGS, (90, 6, 4))[0]
        reason = {"stopped": "budget:daily", "failed": "TimeoutError"}.get(status)
        yield RunRecord(
            run_id=run, invocation_id=run, attribution=who, name=agent, status=status, stop_reason=reason,
            started_at=began, ended_at=at, steps=12,
        )  # fmt: skip
    if number % 2:
        yield Outcome(task_id=task, success=rng.random() < 0.8, value_usd=Decimal(2), at=at, judged_by="check")


def _call(rng: random.Random, id_: str, run: str, who: Attribution, at: datetime) -> CallRecord:
    cost = None if rng.random() < 0.002 else Decimal(rng.randint(50, 90_000)) / 1_000_000
    failed, step = rng.random() < 0.01, who.step or 1
    model = rng.choice(MODELS)
    is_own = model == "own"
    return CallRecord(
        call_id=id_,
        run_id=run,
        invocation_id=run,
        attribution=who,
        provider="own" if is_own else "openai" if model.startswith("gpt") else "anthropic",
        model=model,
        usage=Usage(
            input_tokens=300 * step, cache_read_tokens=rng.choice((0, 800 * step)), output_tokens=rng.randint(20, 400)
        ),
        cost_usd=cost,
        contracted_usd=cost,
        billed_usd=cost,
        cost_status="unpriced" if cost is None else "exact",
        started_at=at,
        ended_at=at + timedelta(seconds=rng.uniform(0.3, 6)),
        billing_mode="self_hosted" if is_own else "payg",
        card_id="gpu" if is_own else None,
        service_tier=rng.choice(("default", "default", "priority", "batch")),
        prompt_digests=_digests(run, who.node or "", step),
        error=CallError(error_class="RateLimitError", http_status=429) if failed else None,
    )


def _digests(run: str, node: str, step: int) -> bytes:
    """Of a prompt that has the system prompt of its node, then the run's history, which grows by a message a step."""
    system, message = 4096, 1200
    ends = [
        End("tool" if number else "human", number + 1, message * (number + 1), _digest(run, number))
        for number in range(max(0, step - 4), step)
    ]
    return Marks(
        whole=_digest(run, node, step),
        size=system + message * step,
        system=_digest(node),
        system_masked=_digest(node),
        system_size=system,
        system_inner=tuple(_digest(node, length) for length in LENGTHS if length < system),
        ends=tuple(ends),
        recent=tuple(_digest(run, end.parts - 1)[:4] for end in ends),
    ).to_bytes()


def _digest(*parts: object) -> bytes:
    return blake2b(repr(parts).encode(), digest_size=DIGEST_BYTES).digest()


def show(what: str, target: str, seconds: list[float]) -> None:
    """One line: the median, and what was promised."""
    print(f"{what:<44} {statistics.median(seconds) * 1000:>9,.0f} ms   target {target}", flush=True)


def timed(action: Callable[[], object], repeat: int) -> list[float]:
    """How long each of several times takes."""
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return seconds


MACHINE = ("--usd-per-instance-hour", "2.40", "--concurrency", "16")
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "report": ("3 s", ("report", "--format", "json")),
    "report --by node": ("3 s", ("report", "--by", "node", "--format", "json")),
    "top --once": ("3 s", ("top", "--once")),
    "advise": ("10 s", ("advise", "--format", "json")),
    "machines": ("10 s", ("machines", "--card", "gpu", *MACHINE, "--format", "json")),
    "insight prefixes": ("10 s", ("insight", "prefixes", "--format", "json")),
}
"""Whole processes, and what each may take."""


def commands(path: Path, repeat: int) -> None:
    """What a person waits for at a prompt."""
    for name, (target, words) in COMMANDS.items():
        run = partial(subprocess.run, [FINOPS, *words, "--ledger", str(path)], capture_output=True, check=True)
        show(f"finops {name}", target, timed(run, repeat))


def exports(path: Path) -> None:
    """What a FOCUS file of the whole ledger takes, once, and what the process needs of memory for it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out = Path(folder) / "focus.csv"
        words = ["export", "focus", "--version", "1.4", "--out", str(out), "--ledger", str(path)]
        run = partial(subprocess.run, [FINOPS, *words], capture_output=True, check=True)
        show("finops export focus", "constant memory", timed(run, 1))
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"  {out.stat().st_size / 1e6:,.0f} MB written; no command above took more than {most:,.0f} MB of memory")


PAGES = (
    *("/", "/?span=30d", "/runs", "/runs?status=stopped&sort=cost", "/runs?q=80000", "/runs/run-080000"),
    *("/agents", "/agents?agent=support", "/models", "/alerts"),
)
PAUSE_S = 0.3
"""Between two looks, as a reader makes one: the server reckons figures anew meanwhile."""


def pages(path: Path, repeat: int) -> None:
    """What a visitor waits for, once the server has read the ledger; and how long that takes."""
    words = [FINOPS, "serve", "--ledger", str(path), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().partition("http://")[2].split()[0]
        began = time.perf_counter()
        while any(_status(address, page) == 503 for page in PAGES):
            time.sleep(PAUSE_S)
        show("finops serve: first figures of all pages", "seconds", [time.perf_counter() - began])
        for page in PAGES:
            seconds = []
            for _ in range(repeat):
                time.sleep(PAUSE_S)
                seconds += timed(partial(_status, address, page), 1)
            show(f"page {page}", f"300 ms; slowest {max(seconds) * 1000:,.0f} ms", seconds)
        server.terminate()


def _status(address: str, page: str) -> int:
    connection = HTTPConnection(address, timeout=60)
    connection.request("GET", page, headers={"accept": "text/html"})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


if __name__ == "__main__":
    main()
