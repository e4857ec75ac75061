"""`gate`: rules on a results folder, decided on the bounds of intervals."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from langchain_finops.cli.common import run
from langchain_finops.cli.finops_eval import app
from langchain_finops.errors import BadArguments, BadData, EvalError
from langchain_finops.evals import gate_files
from langchain_finops.evals.gating import GateOptions, gate
from langchain_finops.evals.rules import METRICS, read_rules

MakeResults = Callable[..., Path]


def many(cost: str, won: int, tasks: int = 60, *, dearer: str | None = None) -> dict[str, list[tuple[str, bool]]]:
    """Tasks t0, t1, ...: the first `won` of them solved; every second one at the dearer cost."""
    return {f"t{n}": [((dearer or cost) if n % 2 else cost, n < won)] for n in range(tasks)}


def outcomes(folder: Path, *rules: str, **options: object) -> list[tuple[str, str, str | None]]:
    """Configuration, outcome and reason of every check."""
    checks = gate(folder, list(rules), GateOptions(**options)).checks
    return [(check.configuration, check.outcome, check.why) for check in checks]


# --- the grammar ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cost_per_success <= 0.05", ("cost_per_success", "<=", Decimal("0.05"), None, None)),
        ("cost_per_success<=$0.05", ("cost_per_success", "<=", Decimal("0.05"), None, None)),
        ("success_rate >= 80%", ("success_rate", ">=", Decimal("0.8"), None, None)),
        ("unpriced == 0 for model=openai:gpt, n=1", ("unpriced", "==", Decimal(0), None, "model=openai:gpt, n=1")),
        ("success_rate not_worse_than baseline by 0.02", ("success_rate", None, None, Decimal("0.02"), None)),
        (
            "cost_per_success not_worse_than baseline by 10% for small",
            ("cost_per_success", None, None, Decimal("0.1"), "small"),
        ),
        ("latency_p95_s < 30", ("latency_p95", "<", Decimal(30), None, None)),
        ("cost_per_success_usd <= 1", ("cost_per_success", "<=", Decimal(1), None, None)),
    ],
)
def test_a_rule_reads_as_it_is_written(text: str, expected: tuple[object, ...]) -> None:
    """Dollars, per cent, and the names of the table's JSON fields are understood."""
    (rule,) = read_rules(text)

    assert (rule.metric, rule.operator, rule.limit, rule.margin, rule.configuration) == expected


def test_all_faults_of_all_rules_are_told_at_once(tmp_path: Path) -> None:
    """File and line, and what would be right; comments and blank lines count as lines."""
    path = tmp_path / "gate.rules"
    path.write_text(
        "# what may be released\n"
        "\n"
        "cost_per_sucess <= 0.05\n"
        "success_rate >= 80   # per cent?\n"
        "cost_per_success = abc\n"
        "success_rate not_worse_than baseline\n"
        "errors not_worse_than baseline by 2\n"
        "cost_per_success == 0.05\n"
        "please be cheap\n"
        "total_cost <= -1\n"
        "success_rate not_worse_than yesterday by 0.1\n"
    )

    with pytest.raises(BadData) as caught:
        read_rules([path, "bogus > 1"])

    assert [str(fault).removeprefix(f"{path}") for fault in caught.value.faults] == [
        ":3: 'cost_per_sucess' is no metric: 'cost_per_success' is meant?",
        ":4: limit 80 of a rate lies between 0 and 1: 80% is meant?",
        ":5: '=' is no comparison: choose one of <=, <, >=, >, ==",
        ":5: limit 'abc' is not a number",
        ":6: `by MARGIN` is missing: such as `by 0.02`",
        ":7: errors has no baseline to be compared with: cost_per_success, expected_cost and success_rate have",
        ":8: cost_per_success is never exactly a number: use <= or >=",
        (
            ":9: 'please be cheap' is no rule: `METRIC <= NUMBER` or `METRIC not_worse_than baseline by MARGIN` is "
            "expected, with ` for CONFIGURATION` behind it where it does not hold for all"
        ),
        ":10: limit -1 is negative",
        ":11: not_worse_than yesterday: `not_worse_than baseline by MARGIN` is expected",
        caught.value.faults[-1].where + ": " + caught.value.faults[-1].what,
    ]
    assert str(caught.value.faults[-1]).startswith("rule 2: 'bogus' is no metric: choose one of cost_per_success, ")


def test_a_yaml_list_of_rules_reads_the_same(tmp_path: Path) -> None:
    """Whoever writes it beside the suite writes YAML."""
    path = tmp_path / "gate.yaml"
    path.write_text("rules:  # for releases\n  - unpriced == 0\n  - 'errors <= 2'\n")

    assert [(rule.where, rule.text) for rule in read_rules(path)] == [
        (f"{path}:2", "unpriced == 0"),
        (f"{path}:3", "errors <= 2"),
    ]


def test_no_rules_are_no_pass(tmp_path: Path) -> None:
    """An empty file, or one of comments, must not wave a release through; nor one that is not there."""
    (tmp_path / "empty").write_text("# nothing\n")

    with pytest.raises(BadData, match="has no rule"):
        read_rules(tmp_path / "empty")
    with pytest.raises(BadData, match="there are none"):
        read_rules([])
    with pytest.raises(BadData, match="has no rule"):
        read_rules("")
    with pytest.raises(EvalError, match="No such file"):
        read_rules("gate.rulez")


def test_faults_that_only_the_results_show_come_at_once_too(make_results: MakeResults) -> None:
    """A configuration that is not there, a baseline without anyone to compare, an expected cost without a failure's."""
    folder = make_results({"only": many("0.01", 50)})

    with pytest.raises(BadData) as caught:
        gate(
            folder,
            [
                "errors == 0 for other",
                "success_rate not_worse_than baseline by 0.1",
                "expected_cost <= 1",
                "unpriced == 0",
            ],
        )

    assert [str(fault) for fault in caught.value.faults] == [
        f"rule 1: 'other' is no configuration of {folder}: it has only",
        "rule 2: no configuration is left to compare with the baseline 'only'",
        "rule 3: expected_cost needs what a failure costs: `failure_usd` in the suite, or --failure-usd",
    ]


# --- limits ---


def test_the_bound_decides_and_not_the_point(make_results: MakeResults) -> None:
    """60 tasks at 1 or 2 cents, 40 solved: R = 0.9 / 40 = 0.0225. Its interval is about .018 to .028."""
    folder = make_results({"x": many("0.01", 40, dearer="0.02")})

    (check,) = gate(folder, "cost_per_success <= 0.0226").checks
    assert check.value == pytest.approx(0.0225)
    assert 0.017 < check.low < 0.0225 < check.high < 0.030
    assert (check.outcome, check.why) == ("INCONCLUSIVE", "the limit lies within the interval")
    assert gate(folder, "cost_per_success <= 0.03").outcome == "PASS"
    assert gate(folder, "cost_per_success <= 0.015").outcome == "FAIL"
    assert gate(folder, "success_rate >= 0.5").outcome == "PASS"  # Wilson's low is .54
    assert gate(folder, "success_rate >= 0.6").outcome == "INCONCLUSIVE"
    assert gate(folder, "success_rate >= 0.9").outcome == "FAIL"


def test_too_few_tasks_or_successes_are_inconclusive(make_results: MakeResults) -> None:
    """20 tasks decide nothing, unless 20 are said to be enough; 9 successes make no cost per success, and no pass."""
    few = make_results({"x": many("0.01", 18, tasks=20, dearer="0.011")}, name="few")
    assert outcomes(few, "cost_per_success <= 1") == [("x", "INCONCLUSIVE", "20 tasks: 50 are needed")]
    assert outcomes(few, "cost_per_success <= 1", min_tasks=20) == [("x", "PASS", None)]

    rare = make_results({"x": many("0.01", 9)}, name="rare")
    assert outcomes(rare, "cost_per_success <= 9", "success_rate >= 0.01", "success_rate >= 0.9") == [
        ("x", "INCONCLUSIVE", "9 successes: 10 are needed"),
        ("x", "INCONCLUSIVE", "9 successes: 10 are needed"),
        ("x", "FAIL", "both bounds break it"),
    ]


def test_no_success_can_fail_and_never_pass(make_results: MakeResults) -> None:
    """Nothing solved in 60 tasks at a cent: by hand more than .01 / (1 - .05^(1/60)) = $0.205 a success."""
    folder = make_results({"x": many("0.01", 0)})

    report = gate(folder, ["cost_per_success <= 0.2", "cost_per_success <= 0.3"])

    assert [check.outcome for check in report.checks] == ["FAIL", "INCONCLUSIVE"]
    assert report.checks[0].value is None
    assert report.checks[0].low == pytest.approx(0.2053, rel=1e-3)


def test_unknown_costs_are_inconclusive(make_results: MakeResults) -> None:
    """However cheap the rest is. Filled with the dearest attempt's, where that is asked for, the rule can be kept."""
    folder = make_results({"x": many("0.01", 50) | {"t0": [(None, True)]}})

    rules = ("cost_per_success <= 100", "total_cost <= 100", "unpriced == 0", "unknown_costs <= 1")
    assert [each[1:] for each in outcomes(folder, *rules)] == [
        ("INCONCLUSIVE", "unknown costs"),
        ("INCONCLUSIVE", "unknown costs"),
        ("FAIL", "it is more"),
        ("PASS", None),
    ]
    assert outcomes(folder, "cost_per_success <= 100", impute="max") == [("x", "PASS", None)]


def test_unscored_attempts_count_for_the_worse_end(make_results: MakeResults) -> None:
    """40 of 60 solved and 15 unscored: by hand 0.6 / 40 = $0.015 a success and 67%, not 0.6 / 55 and 92%. For a rule
    that wants a rate to be low they count as successes."""
    tasks = {f"t{n}": [("0.01", True if n < 40 else None if n < 55 else False)] for n in range(60)}
    folder = make_results({"x": tasks})

    report = gate(folder, ["cost_per_success <= 0.0145", "success_rate >= 0.8", "success_rate <= 0.8", "unscored == 0"])

    assert [check.value for check in report.checks] == [
        pytest.approx(0.015),
        pytest.approx(40 / 60),
        pytest.approx(55 / 60),
        15,
    ]
    assert [check.outcome for check in report.checks] == ["INCONCLUSIVE", "FAIL", "FAIL", "FAIL"]


def test_facts_of_the_run_need_no_minimum(make_results: MakeResults) -> None:
    """What was counted is counted, on two tasks as on two hundred; sums are exact."""
    folder = make_results({"x": {"t1": [("0.1", True)], "t2": [("0.2", "stopped")]}})

    rules = ("stopped == 0", "stopped <= 1", "errors == 0", "total_cost <= 0.3", "total_cost < 0.3", "estimated == 0")
    assert [each[1] for each in outcomes(folder, *rules)] == ["FAIL", "PASS", "PASS", "PASS", "FAIL", "PASS"]


def test_every_metric_can_be_asked_for(make_results: MakeResults) -> None:
    """No metric of the grammar is without a figure. Scorers that ask no model cost nothing."""
    folder = make_results({"x": many("0.01", 50)}, failure_usd="1")

    rules = [f"{metric} <= 1" for metric in METRICS]
    checks = gate(folder, rules).checks

    assert [check.metric for check in checks] == list(METRICS)
    assert {check.metric: check.value for check in checks}["judge_cost"] == 0


def test_hand_offs_are_counted(make_results: MakeResults) -> None:
    """An attempt that asked a person is no success, and has a name of its own."""
    folder = make_results({"x": {"t1": [("0.1", True)], "t2": [("0.2", "handed_off")]}})

    assert outcomes(folder, "handed_off == 0", "handed_off <= 1") == [("x", "FAIL", "it is more"), ("x", "PASS", None)]


def test_a_percentile_is_held_by_its_bound(make_results: MakeResults) -> None:
    """0.95^71 is above 2.5%, 0.95^72 is not: p95 has an upper bound from 72 tasks on, and never passes without."""
    few = make_results({"x": many("0.01", 50, tasks=71)}, name="few")
    enough = make_results({"x": many("0.01", 50, tasks=72)}, name="enough")

    why = "fewer than 72 tasks leave it without an upper bound"
    assert outcomes(few, "latency_p95 <= 5") == [("x", "INCONCLUSIVE", why)]
    assert outcomes(few, "latency_p95 <= 0.5") == [("x", "FAIL", "both bounds break it")]
    assert outcomes(enough, "latency_p95 <= 5") == [("x", "PASS", None)]


def test_what_is_free_is_known_to_be_free(make_results: MakeResults) -> None:
    """Every attempt cost exactly nothing: that keeps any limit."""
    assert outcomes(make_results({"x": many("0", 50)}), "cost_per_success <= 0.01") == [("x", "PASS", None)]


# --- the baseline ---


def test_not_worse_than_the_baseline(make_results: MakeResults) -> None:
    """By hand: `dear` costs four times as much for the same tasks: worse. `same` solves other tasks as often: the
    interval of its rate is too wide for 2 points, and not for 30."""
    same = {f"t{n}": [("0.01", n >= 10)] for n in range(60)}
    folder = make_results({"base": many("0.01", 50), "dear": many("0.04", 50), "same": same}, baseline="base")

    assert outcomes(folder, "cost_per_success not_worse_than baseline by 10% for dear") == [
        ("dear", "FAIL", "WORSE than the baseline")
    ]
    assert outcomes(
        folder, "success_rate not_worse_than baseline by 0.02", "success_rate not_worse_than baseline by 0.3"
    ) == [
        ("dear", "INCONCLUSIVE", "fewer than 5 tasks differ"),
        ("same", "INCONCLUSIVE", "the interval is too wide for the margin"),
        ("dear", "INCONCLUSIVE", "fewer than 5 tasks differ"),
        ("same", "PASS", None),
    ]


def test_the_baselines_unscored_attempts_count_as_its_successes(make_results: MakeResults) -> None:
    """A solves 55 of 60, the baseline 50 and perhaps 10 more: five points better as failures, as successes 60 to 55."""
    base = {f"t{n}": [("0.01", True if n < 50 else None)] for n in range(60)}
    folder = make_results({"base": base, "a": many("0.01", 55)}, baseline="base")

    rule = "success_rate not_worse_than baseline by 0.01"
    assert outcomes(folder, rule) == [("a", "FAIL", "the success rate is WORSE than the baseline's")]


def test_many_comparisons_of_rates_share_the_level(make_results: MakeResults) -> None:
    """A loses 9 tasks of 60 and wins 1: alone it is worse than the baseline, as one of ten it may be chance."""
    worse = {f"t{n}": [("0.01", n < 41 or n == 59)] for n in range(60)}
    others = {f"c{k}": many("0.01", 50) for k in range(9)}
    alone = make_results({"base": many("0.01", 50), "a": worse}, name="alone")
    among = make_results({"base": many("0.01", 50), "a": worse, **others}, name="among")

    rule = "success_rate not_worse_than baseline by 0.01"
    assert outcomes(alone, rule)[0][1] == "FAIL"
    assert outcomes(among, rule)[0][1] == "INCONCLUSIVE"


def test_expected_cost_weighs_failures(make_results: MakeResults) -> None:
    """A failure at $5 makes the dear configuration that always succeeds the cheaper one: 0.40 against 0.01 + 5 / 6."""
    folder = make_results({"cheap": many("0.01", 50), "dear": many("0.40", 60)}, baseline="cheap", failure_usd="5")

    report = gate(folder, ["expected_cost not_worse_than baseline by 0", "expected_cost <= 0.5"])

    assert [(check.configuration, check.outcome) for check in report.checks] == [
        ("dear", "PASS"),
        ("cheap", "INCONCLUSIVE"),
        ("dear", "PASS"),
    ]
    assert report.checks[0].value == pytest.approx(0.40 / (0.01 + 5 / 6))


def test_configurations_can_be_chosen(make_results: MakeResults) -> None:
    """A rule is on all, on those chosen, or on the one it names; another baseline may be named."""
    folder = make_results({"a": many("0.01", 50), "b": many("0.01", 50), "c": many("0.02", 50)})

    assert [each[0] for each in outcomes(folder, "errors == 0")] == ["a", "b", "c"]
    assert [each[0] for each in outcomes(folder, "errors == 0", "stopped == 0 for c", configurations=("b",))] == [
        "b",
        "c",
    ]
    rule = "cost_per_success not_worse_than baseline by 0.1"
    assert [each[0] for each in outcomes(folder, rule, baseline="c")] == ["a", "b"]
    with pytest.raises(BadArguments, match="'d' is no configuration"):
        outcomes(folder, "errors == 0", configurations=("d",))


# --- a run that is not over ---


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"finished_at": None}, "the run has not finished"),
        ({"stopped": "max_usd of $1 is spent"}, "the run was stopped: max_usd of $1 is spent"),
        ({"repeats": 2}, "the run has not finished (attempts made: x 60 of 120)"),
    ],
)
def test_a_run_that_is_incomplete_is_no_pass(make_results: MakeResults, changed: dict[str, object], said: str) -> None:
    """Whatever its figures are; what it breaks already it breaks."""
    folder = make_results({"x": many("0.01", 50)}, **changed)

    report = gate(folder, "errors == 0")
    assert report.outcome == "INCONCLUSIVE"
    assert report.checks[0].why == f"{said}; go on with it by the same `finops-eval run`"
    assert gate(folder, "errors > 0").outcome == "FAIL"


# --- the command and its files ---


def test_exit_codes_and_files(make_results: MakeResults, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0, 1, 2, 3; the Markdown names the outcome, and the JUnit file counts what a CI system counts."""
    folder = str(make_results({"x\x1b": many("0.01", 50), "y": many("0.01", 50)}))
    files = ["--markdown", str(tmp_path / "new" / "gate.md"), "--junit", str(tmp_path / "gate.xml")]
    bad = "cost_per_success <= 0.001"

    assert run(app, "finops-eval", ["gate", folder, "--rules", "errors == 0"]) == 0
    assert run(app, "finops-eval", ["gate", folder, "--rules", "success_rate >= 0.83"]) == 3
    assert run(app, "finops-eval", ["gate", folder, "--rules", "eror == 0"]) == 2
    capsys.readouterr()
    rules = ["--rules", f"{bad} for y", "--rules", "errors == 0", "--rules", "success_rate >= 0.83 for y"]
    assert run(app, "finops-eval", ["gate", folder, *rules, *files, "--format", "json"]) == 1

    rows = json.loads(capsys.readouterr().out)
    assert [row["outcome"] for row in rows] == ["FAIL", "PASS", "PASS", "INCONCLUSIVE"]
    text = (tmp_path / "new" / "gate.md").read_text()
    assert text.startswith("## finops-eval gate: FAIL: 4 checks, 1 failed, 1 inconclusive\n\n| configuration |")
    assert (
        "| y | cost_per_success &lt;= 0.001 for y | $0.0120 (0.0107-0.0135) | 60 | FAIL | both bounds break it |"
        in text
    )
    root = ET.parse(tmp_path / "gate.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "1", "1")
    cases = root.findall("testsuite/testcase")
    assert [[each.tag for each in case] for case in cases] == [["failure"], [], [], ["error"]]
    assert cases[1].get("classname") == "x\ufffd"


def test_markdown_carries_no_markup_of_a_name(make_results: MakeResults) -> None:
    """A configuration named like a table cell or a link stays text."""
    folder = make_results({"a|b`c": many("0.01", 50)})

    text = gate_files.markdown(gate(folder, "errors > 0"))

    assert "\n| a\\|b\\`c | errors > 0 | 0 | 60 | FAIL | it is just that |\n" in text


def test_a_summary_that_cannot_be_written_is_an_error(make_results: MakeResults, tmp_path: Path) -> None:
    """CI must not take a missing file for a pass."""
    folder = str(make_results({"x": many("0.01", 50)}))
    (tmp_path / "file").write_text("")

    words = ["gate", folder, "--rules", "errors == 0", "--junit", str(tmp_path / "file" / "gate.xml")]
    assert run(app, "finops-eval", words) == 2


def test_it_reads_at_80_columns(
    make_results: MakeResults, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcome, rule, figure and reason; what the minima are is said."""
    monkeypatch.setenv("COLUMNS", "80")
    folder = str(make_results({"small": many("0.01", 50), "large": many("0.04", 50)}))

    run(app, "finops-eval", ["gate", folder, "--rules", "cost_per_success <= 0.0121", "--rules", "errors == 0"])

    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    assert "50 tasks and 10 successes" in " ".join(out.split())
