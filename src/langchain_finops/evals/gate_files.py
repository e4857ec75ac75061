"""A gate's outcome where a pull request shows it: as Markdown, and as JUnit XML."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree as ET

from langchain_finops.errors import EvalError
from langchain_finops.evals.gating import Check, GateReport
from langchain_finops.reports.render import render

__all__ = ["junit", "markdown", "write"]


def markdown(report: GateReport) -> str:
    """A summary for a pull request: the outcome as a heading, the checks as a table, what they were decided on."""
    text = io.StringIO()
    render(report.table(), "markdown", text)
    return f"## finops-eval gate: {report.headline()}\n\n{text.getvalue()}"


def junit(report: GateReport) -> str:
    """JUnit XML: a test case a check. What failed is a failure, what is inconclusive an error: neither is green."""
    counts = {"tests": len(report.checks), "failures": report.count("FAIL"), "errors": report.count("INCONCLUSIVE")}
    numbers = {name: str(count) for name, count in counts.items()}
    suites = ET.Element("testsuites", {"name": "finops-eval gate", **numbers})
    of = {"name": _legal(str(report.results.folder)), **numbers, "skipped": "0", "time": "0"}
    suite = ET.SubElement(suites, "testsuite", of)
    properties = ET.SubElement(suite, "properties")
    for name, value in (("run_id", report.results.run["run_id"]), ("outcome", report.outcome)):
        ET.SubElement(properties, "property", name=name, value=_legal(str(value)))
    for check in report.checks:
        owner = _legal(check.configuration or "run")
        case = ET.SubElement(suite, "testcase", classname=owner, name=_legal(check.rule), time="0")
        if check.outcome != "PASS":
            kind = "failure" if check.outcome == "FAIL" else "error"
            message = _legal(check.why or _figures(check))
            problem = ET.SubElement(case, kind, type=check.outcome, message=message)
            problem.text = _legal(f"{check.where}: {check.rule}: {_figures(check)}")
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def _figures(check: Check) -> str:
    told = {"value": check.value, "low": check.low, "high": check.high}
    return ", ".join(f"{name} {'unknown' if value is None else value}" for name, value in told.items())


_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _legal(text: str) -> str:
    """Without what XML cannot hold, such as control characters and halves of surrogate pairs."""
    return _ILLEGAL.sub("\ufffd", text)


def write(path: Path, text: str) -> None:
    """Write a summary. Raises EvalError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", errors="replace")
    except OSError as error:
        raise EvalError(f"{path} cannot be written: {error.strerror or error}") from error
