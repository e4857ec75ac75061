"""What pricing a call takes, as ratios measured in one run: `python benchmarks/pricing.py [--repeat N]`.

Each row prices the same answer by us and by others in turn, A B A B, and prints the median of the ratios pair by pair.
Times are of the CPU, so that a machine that does other things still tells the truth.
Others get it in the form that suits them best: genai-prices its `Usage` and `calc_price`, litellm `cost_per_token`,
which is faster than its `completion_cost`. litellm is installed into an environment of its own that goes away again
(400 MB; `--litellm PYTHON` names one that is there, `--no-litellm` leaves it out).
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genai_prices import Usage, calc_price
from langchain_core.messages import AIMessage

from langchain_finops import PriceBook

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
CALLS = 2_000
"""Of ours in one measurement; others make a tenth, because they take so much longer."""


def usage(input_tokens: int, output_tokens: int, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
    """Counts as LangChain's integrations give them."""
    total = input_tokens + output_tokens
    details = {"input_token_details": dict(inputs), "output_token_details": dict(outputs)}
    return {"input_tokens": input_tokens, "output_tokens": output_tokens, "total_tokens": total, **details}


WRITES = {"cache_read": 400, "cache_creation": 0, "ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50}
ANTHROPIC = {
    "input_tokens": 450,
    "cache_read_input_tokens": 400,
    "cache_creation_input_tokens": 150,
    "output_tokens": 100,
    "service_tier": "standard",
    "inference_geo": "global",
    "server_tool_use": None,
}
ANSWERS: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "OpenAI, cached input": (
        "openai",
        "gpt-4.1-mini",
        usage(1000, 100, {"audio": 0, "cache_read": 400}, {"audio": 0, "reasoning": 0}),
        {"model_name": "gpt-4.1-mini-2025-04-14", "model_provider": "openai", "service_tier": "default"},
    ),
    "Anthropic, writes by time to live": (
        "anthropic",
        "claude-sonnet-4-5",
        usage(1000, 100, WRITES, {}),
        {"model_name": "claude-sonnet-4-5-20250929", "model_provider": "anthropic", "usage": ANTHROPIC},
    ),
    "Gemini, reasoning": (
        "google_genai",
        "gemini-2.5-pro",
        usage(1000, 100, {"cache_read": 200}, {"reasoning": 50}),
        {"model_name": "gemini-2.5-pro", "model_provider": "google_genai"},
    ),
    "a model that nobody knows": (
        "nobody",
        "unknown",
        usage(1000, 100, {}, {}),
        {"model_name": "unknown"},
    ),
}
LITELLM = """
import json, sys, time
import litellm
litellm.suppress_debug_info = True
for line in sys.stdin:
    order = json.loads(line)
    arguments = order["arguments"]
    try:
        litellm.cost_per_token(**arguments)
    except Exception as error:
        print(json.dumps({"error": type(error).__name__}), flush=True)
        continue
    begin = time.process_time()
    for _ in range(order["calls"]):
        litellm.cost_per_token(**arguments)
    print(json.dumps({"seconds": time.process_time() - begin}), flush=True)
"""


class Litellm:
    """Another process, in another environment, that prices when it is told to."""

    def __init__(self, python: str) -> None:
        environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "PATH": ""}  # Without it the import goes online.
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen([python, "-c", LITELLM], text=True, env=environment, **pipes)

    def seconds(self, arguments: Mapping[str, object], calls: int) -> float | None:
        """For one call; None where it has no price."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": arguments, "calls": calls}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["seconds"] / calls if "seconds" in answer else None

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextlib.contextmanager
def litellm(python: str | None, wanted: bool) -> Iterator[Litellm | str]:
    """The other process, or why there is none."""
    if not wanted:
        yield "left out"
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            if python is None:
                subprocess.run([sys.executable, "-m", "venv", folder], check=True, capture_output=True)
                python = str(Path(folder) / "bin" / "python")
                subprocess.run([python, "-m", "pip", "install", "-q", "litellm"], check=True, capture_output=True)
            process = Litellm(python)
        except (OSError, subprocess.CalledProcessError) as error:
            yield f"could not be installed ({type(error).__name__})"
            return
        yield process
        process.close()


def timed(call: Callable[[], object], calls: int) -> float:
    """Seconds for one call."""
    begin = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - begin) / calls


def genai_call(provider: str, model: str, counts: Any) -> Callable[[], object]:
    """The same answer as genai-prices takes it, usage and price; a model that it does not know raises."""
    details = counts["input_token_details"]
    seller = {"google_genai": "google"}.get(provider, provider)
    written = sum(count for name, count in details.items() if name.startswith("ephemeral"))

    def call() -> object:
        used = Usage(
            input_tokens=counts["input_tokens"],
            output_tokens=counts["output_tokens"],
            cache_read_tokens=details.get("cache_read"),
            cache_write_tokens=written or None,
        )
        try:
            return calc_price(used, model_ref=model, provider_id=seller, genai_request_timestamp=AT)
        except LookupError:
            return None

    return call


def litellm_arguments(provider: str, model: str, counts: Any) -> dict[str, object]:
    """The same answer as litellm takes it."""
    details = counts["input_token_details"]
    return {
        "model": model if provider != "google_genai" else f"gemini/{model}",
        "prompt_tokens": counts["input_tokens"],
        "completion_tokens": counts["output_tokens"],
        "cache_read_input_tokens": details.get("cache_read", 0),
        "cache_creation_input_tokens": sum(n for name, n in details.items() if name.startswith("ephemeral")),
    }


def row(name: str, book: PriceBook, other: Litellm | str, repeat: int) -> None:
    """Measure one answer and print its rows."""
    provider, model, counts, said = ANSWERS[name]
    metadata = {"ls_provider": provider, "ls_model_name": model}
    message = AIMessage("ok", usage_metadata=counts, response_metadata=said)
    theirs = genai_call(provider, model, counts)
    arguments = litellm_arguments(provider, model, counts)
    sides: dict[str, Callable[[], float | None]] = {
        "handler": lambda: timed(lambda: book.price(book.read(counts, said, metadata, at=AT)), CALLS),
        "message": lambda: timed(lambda: book.price_message(message, metadata=metadata, at=AT), CALLS),
        "genai": lambda: timed(theirs, CALLS // 10),
        "litellm": lambda: None if isinstance(other, str) else other.seconds(arguments, CALLS // 10),
    }
    for side in sides.values():
        side()
    rounds = [{what: side() for what, side in sides.items()} for _ in range(repeat)]
    for what, label, reach in (("handler", "the handler's path", "5 us"), ("message", "price_message", "25 us")):
        ours = statistics.median(each[what] or 0 for each in rounds) * 1e6
        told = f"{ours:.1f} us; {compared(rounds, what, 'genai')} of genai-prices"
        told += (
            f", {compared(rounds, what, 'litellm')} of litellm" if not isinstance(other, str) else f"; litellm {other}"
        )
        print(f"{f'{name}: {label}':52} reach {reach:>6}   got {told}", flush=True)


def compared(rounds: list[dict[str, float | None]], ours: str, theirs: str) -> str:
    """Our share of what another takes, and what that is."""
    pairs = [(each[ours], each[theirs]) for each in rounds]
    known = [(mine, other) for mine, other in pairs if mine is not None and other is not None]
    if not known:
        return "(no price)"
    ratio = statistics.median(mine / other for mine, other in known)
    return f"{ratio:.3f}x ({statistics.median(other for _, other in known) * 1e6:.0f} us)"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--litellm", metavar="PYTHON")
    parser.add_argument("--no-litellm", action="store_true")
    arguments = parser.parse_args()
    book = PriceBook()
    with litellm(arguments.litellm, not arguments.no_litellm) as other:
        for name in ANSWERS:
            row(name, book, other, arguments.repeat)


if __name__ == "__main__":
    main()
