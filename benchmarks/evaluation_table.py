"""How long the table of 25 configurations x 500 tasks takes: `python benchmarks/evaluation_table.py [--repeat N]`.

With intervals and every paired comparison with the baseline, and the report of three of them as routers among the
others. To reach: 1 s after import for either.
"""

import argparse
import io
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

CONFIGURATIONS, TASKS = 25, 500


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the evaluation table takes.")
    parser.add_argument("--repeat", type=int, default=7)
    repetitions = max(parser.parse_args().repeat, 1)
    began = time.perf_counter()
    from scipy import special  # noqa: F401  The quantiles' library is part of what is imported, not of the table.

    from langchain_finops.evals.results import AttemptResult, Verdict
    from langchain_finops.evals.routers import RouterOptions, router_report
    from langchain_finops.evals.routers_table import routers_table
    from langchain_finops.evals.table import evaluation_table
    from langchain_finops.reports.render import Table, render

    imported_s = time.perf_counter() - began
    generator, at = random.Random(1), datetime(2026, 1, 1, tzinfo=UTC)
    attempts, verdicts = [], []
    for task in range(TASKS):
        for number in range(CONFIGURATIONS):
            name, cost = f"c{number}", Decimal(generator.randrange(10**6, 10**8)).scaleb(-12)
            attempts.append(
                AttemptResult(
                    configuration=name,
                    task=f"t{task}",
                    repeat=0,
                    try_number=1,
                    status="completed",
                    cost_usd=cost,
                    known_usd=cost,
                    contracted_usd=cost,
                    billed_usd=Decimal(0),
                    latency_s=generator.random(),
                    started_at=at,
                    ended_at=at,
                    task_id=f"{name}/{task}",
                    fingerprint="f",
                    usage={"input_tokens": 300, "output_tokens": 30},
                )
            )
            won = generator.random() < 0.3 + number / 60
            verdicts.append(
                Verdict(configuration=name, task=f"t{task}", repeat=0, try_number=1, scorer="exact", success=won)
            )
    print(f"import {imported_s:.2f} s")
    routers = RouterOptions(routers=("c22", "c23", "c24"))
    makers: dict[str, Callable[[], Table]] = {
        "table": lambda: evaluation_table(attempts, verdicts),
        "routers": lambda: routers_table(router_report(attempts, verdicts, options=routers)),
    }
    for name, make in makers.items():
        seconds, cpu_seconds = [], []
        for _ in range(repetitions):
            began, cpu_began = time.perf_counter(), time.process_time()
            render(make(), "json", io.StringIO())
            seconds.append(time.perf_counter() - began)
            cpu_seconds.append(time.process_time() - cpu_began)
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} s in {repetitions} repetitions"
        what = f"{name} of {CONFIGURATIONS} configurations x {TASKS} tasks"
        print(f"{what}: {statistics.median(seconds):.2f} s ({spread}; to reach: 1 s)")
        print(f"of the processor's time {statistics.median(cpu_seconds):.2f} s, which a busy machine does not lengthen")


if __name__ == "__main__":
    main()
