"""`finops-eval routers`: routers beside the singles they choose among."""

from typing import Annotated, Any

import typer

from langchain_finops.cli.common import FormatOption, OutputFormat, busy
from langchain_finops.cli.eval_common import (
    CardsOption,
    LevelOption,
    MinSuccessesOption,
    MinTasksOption,
    ScorerOption,
    need,
    render_report,
    warn_of_results,
)
from langchain_finops.cli.eval_table import (
    ColumnsOption,
    FailureOption,
    Impute,
    ImputeOption,
    SourcesArgument,
    ZeroOption,
    dollars,
)

__all__ = ["mount"]

RoutersOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Configurations that choose among models, with commas; may be repeated. Default: those with `router: "
        "true` in the suite.",
        show_default=False,
    ),
]
SinglesOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAMES", help="What they choose among. Default: all others.", show_default=False),
]


def mount(app: typer.Typer) -> None:
    """Add the command."""
    app.command("routers")(routers_command)


def routers_command(
    sources: SourcesArgument,
    *,
    routers: RoutersOption = None,
    singles: SinglesOption = None,
    failure_usd: FailureOption = None,
    columns: ColumnsOption = None,
    zero_is_unknown: ZeroOption = False,
    impute: ImputeOption = Impute.NONE,
    scorer: ScorerOption = None,
    cards: CardsOption = None,
    level: LevelOption = 0.95,
    min_tasks: MinTasksOption = 50,
    min_successes: MinSuccessesOption = 10,
    output_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Does a router beat the best single model? Beside BestSingle, Random and Oracle.

    \b
    finops-eval routers results/tiers --routers cascade,by-rule
    finops-eval routers results/tiers --failure-usd 2.50 --format json
    """
    need("scipy", "finops-eval routers")
    from langchain_finops.evals.foreign import columns_of
    from langchain_finops.evals.routers import RouterOptions, names_of, router_report
    from langchain_finops.evals.routers_table import routers_table
    from langchain_finops.evals.sources import read_sources

    alike: dict[str, Any] = {"scorer": scorer, "level": level, "min_tasks": min_tasks, "min_successes": min_successes}
    mending = dollars(failure_usd, "--failure-usd")
    with busy("Reading results"):
        read = read_sources(sources, columns=columns_of(columns), zero_is_unknown=zero_is_unknown, cards=cards)
        names = {attempt.configuration for attempt in read.attempts} | set(read.plan.configurations)
        options = RouterOptions(
            routers=names_of(routers or (), names),
            singles=names_of(singles or (), names),
            cards=read.cards,
            impute=impute.value,
            failure_usd=mending,
            **alike,
        )
        report = router_report(read.attempts, read.verdicts, plan=read.plan, options=options)
    for results in read.folders:
        warn_of_results(results)
    render_report(routers_table(report), output_format)
