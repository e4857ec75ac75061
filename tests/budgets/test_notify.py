"""Who is told of an alert, over a real loopback server: signed, again if need be, and never in a call's way."""

import base64
import hashlib
import hmac
import json
import logging
import socket
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from langchain_finops.budgets import notify
from langchain_finops.budgets.notify import (
    Alert,
    AppriseNotice,
    Notifier,
    TryAgain,
    Webhook,
    backoff_s,
    body,
    signature,
)
from langchain_finops.errors import BadArguments, MissingExtra

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
ALERT = Alert(
    alert_id="a-1",
    alert="fast",
    kind="share",
    text="too fast",
    budget="$20/day per agent_id",
    scope="agent_id=support",
    unit="usd",
    limit=Decimal(20),
    spent=Decimal("5.000000000001"),
    threshold=Decimal("0.25"),
    value=Decimal("0.2500"),
    window_start=NOON - timedelta(hours=1),
    window_end=NOON,
    at=NOON,
)

# Its plug-ins import modules that Python is about to drop.
apprise_warns = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Receiver(ThreadingHTTPServer):
    """Answers with the statuses it is given, one a request, then with 200; keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                """Keep the test's output quiet."""

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, content))
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            do_GET = do_POST

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/7"


@pytest.fixture
def receiver(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Receiver() as server:
        yield server
        server.shutdown()


@pytest.fixture
def faults():
    return []


@pytest.fixture
def notifier(faults, monkeypatch):
    monkeypatch.setattr(notify, "FIRST_DELAY_S", 0.0)  # Nobody waits for a second here.
    return Notifier(faults.append)


def test_a_webhook_gets_json_that_says_it_all(receiver, notifier, faults):
    """One POST: what happened as a sentence and as fields, amounts exact."""
    notifier.tell(ALERT, (Webhook(url=receiver.url),))
    assert notifier.flush(10)

    ((headers, content),) = receiver.got
    said = json.loads(content)
    assert (said["type"], said["text"], said["timestamp"]) == (
        "finops.alert.share",
        "too fast",
        "2026-11-26T12:00:00+00:00",
    )
    assert said["data"]["spent"] == "5.000000000001"
    assert said["data"]["window_start"] == "2026-11-26T11:00:00+00:00"
    assert set(said["data"]) == set(Alert.__slots__)
    assert headers["content-type"] == "application/json"
    assert "webhook-signature" not in headers
    assert faults == []


@pytest.mark.parametrize(("secret", "key"), [("whsec_c2VjcmV0", b"secret"), ("p\u00e4ss", "p\u00e4ss".encode())])
def test_it_is_signed_as_standard_webhooks_says(receiver, notifier, secret, key):
    """HMAC-SHA256 of id, timestamp and body: a receiver with the secret works out the same, an altered body another."""
    notifier.tell(ALERT, (Webhook(url=receiver.url, secret=secret),))
    assert notifier.flush(10)

    ((headers, content),) = receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + content
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert headers["webhook-id"] == "a-1"
    assert abs(int(headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert signature(secret, "a-1", 1, content) != signature(secret, "a-1", 1, content + b" ")


def test_the_signature_is_that_of_the_standards_own_example():
    """The reference libraries' test vector."""
    content = b'{"test": 2432232314}'
    made = signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, content)

    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_failing_twice_then_good(receiver, notifier, faults):
    """Two answers that may pass are tried again, with the same id, and nothing is counted as a fault."""
    receiver.answers = [(503, {}), (429, {})]
    notifier.tell(ALERT, (Webhook(url=receiver.url, secret="s"),))
    assert notifier.flush(10)

    assert [headers["webhook-id"] for headers, _ in receiver.got] == ["a-1"] * 3
    assert len({content for _, content in receiver.got}) == 1
    assert (faults, notifier.given_up) == ([], 0)


def test_it_is_given_up_after_six_attempts(receiver, notifier, faults, caplog):
    """What never works is logged, without the address, and counted once."""
    receiver.answers = [(500, {})] * 20
    with caplog.at_level(logging.ERROR, "langchain_finops"):
        notifier.tell(ALERT, (Webhook(url=receiver.url),))
        assert notifier.flush(10)

    assert len(receiver.got) == 6
    assert (notifier.given_up, [type(fault) for fault in faults]) == (1, [TryAgain])
    assert caplog.messages == ["alert fast was not delivered to the webhook at 127.0.0.1: it answered 500"]


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 410])
def test_what_will_not_pass_is_given_up_at_once(receiver, notifier, faults, status):
    """A wrong address or secret is not tried again; a redirect would turn into a GET without the alert."""
    receiver.answers = [(status, {"location": receiver.url})]
    notifier.tell(ALERT, (Webhook(url=receiver.url),))
    assert notifier.flush(10)

    assert (len(receiver.got), notifier.given_up, len(faults)) == (1, 1, 1)


def test_nobody_there_is_tried_again(notifier, faults):
    """A refused connection is no answer: six attempts, then given up."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        notifier.tell(ALERT, (Webhook(url=f"http://127.0.0.1:{taken.getsockname()[1]}/"),))
        assert notifier.flush(10)

    assert notifier.given_up == 1
    assert isinstance(faults[0], TryAgain)


def test_what_is_no_http_is_tried_again(notifier):
    """A port that answers something else may be about to be replaced."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def chatter() -> None:
            for _ in range(6):
                peer, _ = server.accept()
                with peer:
                    peer.recv(65_536)
                    peer.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=chatter)
        thread.start()
        notifier.tell(ALERT, (Webhook(url=f"http://127.0.0.1:{server.getsockname()[1]}/"),))
        assert notifier.flush(10)
        thread.join(10)

    assert notifier.given_up == 1


def test_a_slow_receiver_holds_nobody_up(notifier):
    """Telling returns while the receiver has not even answered."""
    gate = threading.Event()
    told: list[Alert] = []

    def slow(alert: Alert) -> None:
        gate.wait(10)
        told.append(alert)

    notifier.tell(ALERT, (slow,))
    assert told == []
    assert not notifier.flush(0.01)
    gate.set()
    assert notifier.flush(10)
    assert told == [ALERT]


def test_a_target_that_raises_costs_the_others_nothing(notifier, faults, caplog):
    """The user's own function may fail: the next one is told, and of its error only the class is logged."""
    told: list[Alert] = []

    def broken(alert: Alert) -> None:
        raise RuntimeError("with a secret in it")

    with caplog.at_level(logging.ERROR, "langchain_finops"):
        notifier.tell(ALERT, (broken, told.append))
        assert notifier.flush(10)

    assert told == [ALERT]
    assert (notifier.given_up, [type(fault) for fault in faults]) == (1, [RuntimeError])
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_no_more_than_a_thousand_wait(faults, monkeypatch, caplog):
    """A receiver that is down for days does not fill the memory: what does not fit is counted and logged."""
    monkeypatch.setattr(notify, "MOST_WAITING", 2)
    notifier = Notifier(faults.append)
    gate, begun = threading.Event(), threading.Event()

    def stuck(alert: Alert) -> None:
        begun.set()
        gate.wait(10)

    notifier.tell(ALERT, (stuck,))
    assert begun.wait(10)
    notifier.tell(ALERT, (stuck, stuck, stuck))
    assert (notifier.given_up, len(faults)) == (1, 1)
    gate.set()
    assert notifier.flush(10)


def test_back_off_doubles_at_random_up_to_a_minute():
    """At random between nothing and 1, 2, 4 ... 60 s; at least what the receiver asks for, a minute at most."""
    for attempt, most in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (12, 60)):
        waits = [backoff_s(attempt) for _ in range(200)]
        assert all(0 <= wait <= most for wait in waits)
        assert max(waits) > most / 2  # One in 2**200 would not be.
    assert 5 <= backoff_s(1, 5.0) <= 6
    assert backoff_s(1, 86_400.0) == 60


def test_the_receivers_patience_is_heeded(receiver):
    """429 with `retry-after: 7` is tried again in 7 s, a date as if nothing was said."""
    for header, after in (("7", 7.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("\u00b2", None)):
        receiver.answers = [(429, {"retry-after": header})]
        with pytest.raises(TryAgain) as caught:
            Webhook(url=receiver.url)(ALERT)
        assert caught.value.after_s == after


@pytest.mark.parametrize("url", ["", "example.com", "ftp://example.com/", "file:///etc/passwd", "http://"])
def test_an_address_that_is_none_is_refused(url):
    """At construction, and without saying what it was: it may hold a password."""
    with pytest.raises(BadArguments, match="a webhook's url is the address of an HTTP server"):
        Webhook(url=url)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!"])
def test_a_secret_that_signs_nothing_is_refused(secret):
    """An empty key would make a signature that anybody can make."""
    with pytest.raises(BadArguments, match="secret"):
        Webhook(url="https://example.com/", secret=secret)


def test_a_webhook_shows_neither_address_nor_secret():
    """Addresses of chat services are secrets; logs and audit trails get the host."""
    hook = Webhook(url="https://hooks.example.com/T0/B1/pass", secret="hush")

    assert "pass" not in f"{hook!r} {hook}"
    assert "hush" not in f"{hook!r} {hook}"
    assert str(hook) == "the webhook at hooks.example.com"


def test_the_log_tells_it_without_any_target(notifier, caplog):
    """Nobody has to set anything up to find an alert in the log."""
    with caplog.at_level(logging.WARNING, "langchain_finops"):
        notifier.tell(ALERT, ())
    assert caplog.messages == ["too fast"]


@apprise_warns
def test_apprise_tells_a_real_service(receiver, notifier, faults):
    """One URL of Apprise's: here its JSON service, on this machine."""
    pytest.importorskip("apprise")
    notifier.tell(ALERT, (AppriseNotice(receiver.url.replace("http://", "json://")),))
    assert notifier.flush(30)

    ((_, content),) = receiver.got
    assert (json.loads(content)["title"], json.loads(content)["message"]) == ("FinOps alert: fast", "too fast")
    assert faults == []


@apprise_warns
def test_a_service_that_fails_is_tried_again(receiver, notifier, faults):
    """Apprise says only that it did not work: that may pass."""
    pytest.importorskip("apprise")
    receiver.answers = [(500, {})]
    notifier.tell(ALERT, (AppriseNotice(receiver.url.replace("http://", "json://")),))
    assert notifier.flush(30)

    assert (len(receiver.got), faults) == (2, [])


@apprise_warns
def test_a_service_that_apprise_does_not_know_is_refused():
    """At construction, without the URL's password."""
    pytest.importorskip("apprise")
    with pytest.raises(BadArguments, match="URL 2, which begins with 'nonsense'") as caught:
        AppriseNotice("json://localhost/", "nonsense://user:hush@host/")
    assert "hush" not in str(caught.value)


def test_without_apprise_the_extra_is_named(monkeypatch):
    """Whoever lacks it is told the one line that brings it."""
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(MissingExtra, match=r"pip install 'langchain-finops\[notify\]'"):
        AppriseNotice("json://localhost/")


def test_the_body_is_the_same_for_the_same_alert():
    """So that a receiver can compare attempts; another alert has another."""
    assert body(ALERT) == body(replace(ALERT))
    assert body(ALERT) != body(replace(ALERT, text="else"))
