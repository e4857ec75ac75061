"""Each request says whom it is for: two tenants share one model, and a gateway of one's own sees who is who. Offline.

python examples/tagged_requests.py
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from langchain_finops import FinOpsHandler
from langchain_finops.langchain import hashed_user, tag_requests

KEY = "a key that is kept secret"
"""In production: $FINOPS_USER_KEY, the same for all processes."""
TENANTS = {"ada": "t-1", "bob": "t-2"}

seen: list[dict[str, str]] = []


class Gateway(BaseHTTPRequestHandler):
    """Stands for a proxy in your own network: notes whom a request is for, and answers it."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        """Answer as OpenAI's API does."""
        self.rfile.read(int(self.headers["content-length"]))
        seen.append({name: self.headers[name] for name in ("X-Agent-Id", "X-User-Id", "X-Task-Id", "X-Run-Id")})
        answer: dict[str, Any] = {
            "id": "answer",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "gpt-4.1-mini",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def gateway() -> Iterator[str]:
    """The gateway's address, while it runs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


def main() -> None:
    """Two tenants ask the same model at the same time; print what the gateway saw."""
    handler = FinOpsHandler(agent_id="support", ledger=":memory:")
    with gateway() as url:
        model = tag_requests(ChatOpenAI(model="gpt-4.1-mini", base_url=url, api_key=SecretStr("none")), user_key=KEY)

        def ask(tenant: tuple[str, str]) -> None:
            user, task = tenant
            config: RunnableConfig = {"callbacks": [handler], "metadata": {"user_id": user, "task_id": task}}
            model.invoke("Hello?", config)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(ask, TENANTS.items()))

    runs = {record.run_id for record in handler.ledger.runs()}
    for user, task in TENANTS.items():
        (request,) = [each for each in seen if each["X-User-Id"] == hashed_user(user, KEY)]
        matches = request["X-Task-Id"] == task and request["X-Run-Id"] in runs
        print(f"{request['X-Agent-Id']} for {user} ({request['X-User-Id']}): {task if matches else 'mixed up'}")


if __name__ == "__main__":
    main()
