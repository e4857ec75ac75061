"""What prompt caching saves: the recording of a scripted provider, its rules, and the figures that the page tells."""

import asyncio
import importlib.util
import json
import threading
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from langchain_finops import FinOpsHandler
from langchain_finops.evals import CompareOptions, compare

ROOT = Path(__file__).parents[2]
LEVERS = ROOT / "golden_datasets" / "levers"
PAGE = (ROOT / "docs" / "levers.md").read_text(encoding="utf-8")
FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXAMPLE = load(ROOT / "examples" / "lever_caching.py")
SCRIPT = load(LEVERS / "scripted_claude.py")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the example prints, replayed once for all tests."""
    folder = tmp_path_factory.mktemp("caching")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("XDG_DATA_HOME", str(folder))
        EXAMPLE.main(folder, show=lambda line: None)
    return folder


def figures(results: Path, name: str, way: str) -> tuple[str, str]:
    """Cost per success with nothing marked; and of a configuration, with its ratio to that, as the page has them."""
    row = compare(f"{results / name}:{way}", f"{results / name}:plain", CompareOptions(min_tasks=8)).rows[0]
    own, plain = (f"${float(row[f'{side}_cost_per_success_usd']):#.3g}" for side in ("a", "b"))
    return plain, f"{own}, {row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"


def test_the_page_tells_what_the_example_finds(results: Path) -> None:
    """Costs per success and intervals of all configurations, in the order of the table's columns."""
    for name, row in (
        ("caching", "loops of three to five calls"),
        ("caching-day", "six questions, half a minute to 40 minutes apart"),
        ("caching-apart", "single questions, two hours apart"),
    ):
        (plain, policy), (_, always) = (figures(results, name, way) for way in ("policy", "always"))
        assert f"| {row} | {plain} | {policy} | {always} |" in PAGE
    told = figures(results, "caching", "policy-told")[1]
    assert f"what marking every prompt does: {told}." in PAGE


def test_far_apart_the_lever_sends_what_is_sent_without_it(results: Path) -> None:
    """Call by call the same requests, and so the same cost to the last digit; nothing is cached."""
    bodies: dict[str, list[Any]] = {"plain": [], "policy": [], "always": []}
    for line in (LEVERS / "recordings" / "caching-apart.jsonl").read_text(encoding="utf-8").splitlines()[1:]:
        call = json.loads(line)
        if "body" in call:
            bodies[call["configuration"]].append(call["body"])
    row = compare(f"{results / 'caching-apart'}:policy", f"{results / 'caching-apart'}:plain").rows[0]

    assert len(bodies["plain"]) == 32
    assert bodies["policy"] == bodies["plain"]
    assert bodies["always"] != bodies["plain"]
    assert "cache_control" not in json.dumps(bodies["policy"])
    assert row["cost_difference_usd"] == 0


def test_the_script_says_again_what_was_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real SDK against the script, live: the same answer and cost as in the recording, for the longest loop."""
    recorded: list[Any] = []
    for line in (LEVERS / "recordings" / "caching.jsonl").read_text(encoding="utf-8").splitlines()[1:]:
        call = json.loads(line)
        if call.get("task") == "l04" and call.get("configuration") == "policy" and "answer" in call:
            recorded.append(json.loads(call["answer"])["usage"])
    item = next(
        json.loads(line)
        for line in (LEVERS / "caching.jsonl").read_text(encoding="utf-8").splitlines()
        if '"l04"' in line
    )
    server = SCRIPT.serve(0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("FINOPS_MODEL_URL", f"http://127.0.0.1:{server.server_port}")
    handler = FinOpsHandler(ledger=":memory:")
    try:
        said = EXAMPLE.build({"caching": "policy"}).ainvoke(item["inputs"], {"callbacks": [handler]})
        answer = asyncio.run(said)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    usages = [call.usage for call in handler.ledger.calls()]

    assert answer == item["outputs"]
    assert [usage.input_tokens for usage in usages] == [each["input_tokens"] for each in recorded]
    assert [usage.cache_read_tokens for usage in usages] == [each["cache_read_input_tokens"] for each in recorded]
    assert sum(usage.cache_read_tokens for usage in usages) > 1_500
    assert sum(usage.cache_write_5m_tokens for usage in usages) > 600


# --- the rules that the script plays ---------------------------------------------------------------------------------


def text(tokens: int, **marks: Any) -> dict[str, Any]:
    """A block that the script counts as so many tokens: four bytes each, with the block's own JSON around the text."""
    frame = len(json.dumps(["system", {"type": "text", "text": ""}]))
    return {"type": "text", "text": "x" * (4 * tokens - frame), **marks}


def asked(cache: Any, system: list[Any], now: float, **more: Any) -> tuple[int, int, int, int]:
    """Tokens in full, read, written for five minutes and for an hour, of the system prompt alone."""
    usage = cache.usage({"system": system, "messages": [], **more}, now)
    written = usage["cache_creation"]
    return (
        usage["input_tokens"],
        usage["cache_read_input_tokens"],
        written["ephemeral_5m_input_tokens"],
        written["ephemeral_1h_input_tokens"],
    )


def test_the_script_writes_what_is_marked_and_reads_it_until_its_time_is_up() -> None:
    """600 tokens marked, 40 behind the mark. A read keeps them for five minutes again; 300 s later is too late."""
    cache, prompt = SCRIPT.Cache(), [text(600, cache_control=FIVE), text(40)]

    assert asked(cache, prompt, 0) == (40, 0, 600, 0)
    assert asked(cache, prompt, 299) == (40, 600, 0, 0)
    assert asked(cache, prompt, 598) == (40, 600, 0, 0)
    assert asked(cache, prompt, 898) == (40, 0, 600, 0)


def test_the_script_caches_nothing_below_512_tokens_and_nothing_unmarked() -> None:
    cache = SCRIPT.Cache()
    for _ in range(2):
        assert asked(cache, [text(511, cache_control=FIVE)], 0) == (511, 0, 0, 0)
        assert asked(cache, [text(900)], 0) == (900, 0, 0, 0)
    assert asked(cache, [text(512, cache_control=FIVE)], 0) == (0, 0, 512, 0)


def test_the_script_reads_the_longest_beginning_and_writes_only_what_is_new() -> None:
    """What was written at an earlier mark is read, each mark's part is written for its own time, an hour first."""
    cache = SCRIPT.Cache()
    assert asked(cache, [text(600, cache_control=HOUR)], 0) == (0, 0, 0, 600)
    grown = [text(600, cache_control=HOUR), text(100), text(50)]
    assert asked(cache, grown, 10, cache_control=FIVE) == (0, 600, 150, 0)
    assert asked(cache, grown, 400, cache_control=FIVE) == (0, 600, 150, 0)


def test_the_script_looks_back_over_20_blocks_and_no_further() -> None:
    """A mark finds what was cached up to 20 blocks before it."""
    for blocks, read in ((20, 600), (21, 0)):
        cache = SCRIPT.Cache()
        asked(cache, [text(600, cache_control=FIVE)], 0)
        tail = [text(20) for _ in range(blocks)]
        assert asked(cache, [text(600), *tail], 1, cache_control=FIVE)[1] == read


def test_the_script_refuses_what_the_provider_refuses() -> None:
    """A fifth mark, and an hour behind five minutes."""
    five = [text(600, cache_control=FIVE) for _ in range(5)]
    with pytest.raises(SCRIPT.Refused, match="4 marks"):
        asked(SCRIPT.Cache(), five, 0)
    with pytest.raises(SCRIPT.Refused, match="1h must not come after one of 5m"):
        asked(SCRIPT.Cache(), [text(600, cache_control=FIVE), text(600, cache_control=HOUR)], 0)


def test_marks_and_short_forms_of_text_are_no_part_of_a_prefix() -> None:
    """A text alone and a block of the same text are one prompt, marked or not."""
    block = text(700)
    cache = SCRIPT.Cache()
    first = {"system": [block | {"cache_control": FIVE}], "messages": []}
    again = {"system": block["text"], "messages": [], "cache_control": FIVE}

    assert cache.usage(first, 0)["cache_creation_input_tokens"] == 700
    assert cache.usage(again, 1)["cache_read_input_tokens"] == 700


def test_what_the_suites_charge_is_the_price_books() -> None:
    """The suites' cards are Claude Opus 5's list prices: $5 a million in, 6.25 and 10 written, 0.50 read."""
    from datetime import UTC, datetime

    from langchain_finops import PriceBook
    from langchain_finops.pricing.cache_terms import caches_of
    from langchain_finops.pricing.cost import PriceKey

    book = PriceBook(catalog=True)
    key = PriceKey(provider="anthropic", model="claude-opus-5", at=datetime(2026, 11, 26, tzinfo=UTC))
    five, hour = caches_of(book, key)
    million = Decimal(1_000_000)

    assert (five.input_usd * million, five.read_usd * million) == (Decimal(5), Decimal("0.5"))  # type: ignore[operator]
    assert (five.write_usd * million, hour.write_usd * million) == (Decimal("6.25"), Decimal(10))  # type: ignore[operator]
    assert five.least_tokens == SCRIPT.LEAST_TOKENS == 512
