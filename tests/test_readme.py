"""The documentation's code runs, its commands exist, and the table it shows is the one the demo prints."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def any_graph() -> object:
    """A graph of one node that asks a scripted model."""
    answers = iter([AIMessage("yes", response_metadata={"model_name": "gpt-4.1"})] * 9)
    names = {"ls_provider": "openai", "ls_model_name": "gpt-4.1"}  # A model without a price is refused under a budget.
    model = GenericFakeChatModel(messages=answers, metadata=names)
    builder = StateGraph(MessagesState)
    builder.add_node("ask", lambda state: {"messages": [model.invoke(state["messages"])]})
    builder.add_edge(START, "ask")
    return builder.compile(name="support")


@pytest.fixture
def names() -> dict[str, object]:
    """What the reader of the README has already: a graph and something to ask it."""
    return {"graph": any_graph(), "question": {"messages": [("user", "hello")]}}


def test_the_python_of_the_readme_runs(names: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    """Each block runs as it stands, one after the other, with a graph of the reader's own."""
    code = blocks(README, "python")
    assert len(code) >= 4
    for block in code:
        exec(block, names)

    printed = capsys.readouterr().out
    assert re.search(r"^ask +1 ", printed, flags=re.MULTILINE)  # The summary: one call in the graph's node.
    assert "ask gpt-4.1" in printed  # The record of the call.


@pytest.mark.parametrize("page", ["prices.md"])
def test_the_python_of_the_documentation_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A thousand tokens in at $0.40 and a hundred out at $1.60 a million are $0.00056."""
    for block in blocks((ROOT / "docs" / page).read_text(encoding="utf-8"), "python"):
        exec(block, {})

    assert capsys.readouterr().out.startswith("0.000560000000 exact ")


def test_the_cards_of_the_documentation_are_read(tmp_path: Path) -> None:
    """The card file that is shown is one: every card in it is taken."""
    from langchain_finops import PriceBook

    (block,) = blocks((ROOT / "docs/prices.md").read_text(encoding="utf-8"), "yaml")
    (tmp_path / "prices.yaml").write_text(block, encoding="utf-8")

    assert PriceBook.load(tmp_path / "prices.yaml").hash != PriceBook.default().hash


def commands() -> list[str]:
    """Every command line that the README shows."""
    lines = [line for block in blocks(README, "sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_the_readme_has_exactly_two_commands_for_a_fresh_clone() -> None:
    """`make demo` and `make test`, and the Makefile has both."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    made = [line for line in commands() if line.startswith("make ")]

    assert made == ["make demo", "make test"]
    for line in made:
        assert re.search(rf"^{line.removeprefix('make ')}:", makefile, flags=re.MULTILINE)
    assert "\nmake test\n" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_the_finops_commands_of_the_readme_run(
    names: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each works on the ledger that the README's own Python leaves in the user's data directory."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for block in blocks(README, "python"):
        exec(block, names)
    shown = [line for line in commands() if line.startswith("finops ")]
    assert len(shown) == 7
    for line in shown:
        words = shlex.split(line)
        done = subprocess.run([BIN / words[0], *words[1:]], capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stderr


class Completions(BaseHTTPRequestHandler):
    """A model server that answers every completion alike, as OpenAI's API does."""

    def log_message(self, *args: object) -> None:
        """Keep the test's output quiet."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        usage = {"prompt_tokens": 50, "completion_tokens": 2, "total_tokens": 52}
        choice = {"text": " 71530", "index": 0, "finish_reason": "stop", "logprobs": None}
        answer = {"id": "c", "object": "text_completion", "created": 1, "model": "gemma-3-270m", "choices": [choice]}
        body = json.dumps({**answer, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_the_live_command_of_the_readme_asks_a_live_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command as it stands, on the first task and with the address of a server of this test: all solve it."""
    (line,) = [line for line in commands() if "--live" in line]
    first = (ROOT / "golden_datasets/tickets.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "tickets.jsonl").write_text(first + "\n", encoding="utf-8")
    (tmp_path / "tickets.yaml").write_bytes((ROOT / "golden_datasets/tickets.yaml").read_bytes())
    with ThreadingHTTPServer(("127.0.0.1", 0), Completions) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        setting, program, *words = shlex.split(line)
        name, _, _ = setting.partition("=")
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}/v1")
        words = [str(tmp_path / "tickets.jsonl") if word.startswith("golden_datasets/") else word for word in words]
        command = [BIN / program, *words, "--out", tmp_path / "out", "--format", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=os.environ)
        server.shutdown()

    assert done.returncode == 0, done.stderr
    assert [row["successes"] for row in json.loads(done.stdout)] == [3] * 5


def test_every_page_that_is_linked_exists() -> None:
    """No link of the README, CONTRIBUTING or the documentation leads nowhere."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in link:
                assert (page.parent / link).exists(), f"{page.name}: {link}"
