"""What an advice promised, beside what the evaluation of its configuration shows."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from langchain_finops.evals import shown
from langchain_finops.evals.comparing import Comparison, Side, compare
from langchain_finops.evals.resume import Results
from langchain_finops.ledger.summary import show_usd

__all__ = ["against_baseline", "promise_and_proof"]

SIGNS: Final = {"at_least": "at least ", "at_most": "at most "}


def against_baseline(results: Results) -> Comparison:
    """The advice's configuration against the one that it would change, task by task."""
    advice: Mapping[str, Any] = results.run["advice"]
    new, old = advice["configuration"], advice["baseline"]
    return compare(Side(results=results, configuration=new), Side(results=results, configuration=old))


def promise_and_proof(results: Results, comparison: Comparison) -> Iterator[str]:
    """What was promised, what was tested, and whether the promise holds on these tasks: a sentence each."""
    advice: Mapping[str, Any] = results.run["advice"]
    yield f"{_what(advice)} promised {_amount(advice)}; {advice['confidence']} confidence."
    changed = ", ".join(
        f"{name} {_value(new)}" + ("" if old is None else f" instead of {_value(old)}")
        for name, (old, new) in advice["changed"].items()
    )
    yield f"Tested as {advice['configuration']}: {advice['baseline']} with {changed}."
    yield _seen(comparison.rows[0])


def _what(advice: Mapping[str, Any]) -> str:
    where = "/".join(advice[name] for name in ("agent", "node") if advice[name])
    about = " for ".join(part for part in (advice["model"], where) if part)
    kind = advice["kind"].replace("_", " ")
    return f"Advice {advice['n']} of {advice['source']} ({kind}{f', {about}' if about else ''})"


def _amount(advice: Mapping[str, Any]) -> str:
    if advice["usd_per_month"] is None:
        return "a saving that nobody knows"
    sign = SIGNS.get(advice["saving_is"], "")
    share = "" if advice["share"] is None else f", {advice['share']:.1%} of what the ledger's period cost"
    return f"{sign}{show_usd(Decimal(advice['usd_per_month']), bound=bool(sign))} a month{share}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def _seen(row: Mapping[str, Any]) -> str:
    """The verdict on the promise. Cheaper and worse is no saving: a success is what one pays for."""
    times = shown.ratio(row["ratio"], row["ratio_low"], row["ratio_high"])
    rate = shown.points(
        row["success_rate_difference"], row["success_rate_difference_low"], row["success_rate_difference_high"]
    )
    tasks = f"on {row['tasks']:,} tasks"
    before = f"{row['b_successes']:,} of {row['b_attempts']:,} before"
    rates = f"{row['a_successes']:,} of {row['a_attempts']:,} attempts succeed, {before}: {rate} points"
    cost = f"a success costs {times} times as much as before ({row['verdict']})"
    if not row["a_successes"]:
        cost = "nothing succeeds, so that a success has no cost"
    if row["rate_verdict"] == "WORSE":
        return f"The advice does not hold {tasks}: it solves fewer of them ({rates}); {cost}."
    if row["verdict"] == "WORSE":
        return f"The advice does not hold {tasks}: {cost}; {rates}."
    if row["verdict"] == "BETTER":
        doubt = " Whether it solves as many, they do not tell." if row["rate_verdict"] == "INCONCLUSIVE" else ""
        return f"The advice holds {tasks}: {cost}; {rates}.{doubt}"
    if row["verdict"] == "NON_INFERIOR":
        return f"No saving is seen {tasks}: {cost}, which is no more than the margin allows; {rates}."
    return f"INCONCLUSIVE {tasks}, because of: {row['verdict_why']}; {cost}; {rates}. More tasks may tell."
