"""Who may see the page and change something, and what a hostile page or visitor cannot do."""

import re
from html import unescape

import pytest

from langchain_finops.budgets.switch import kills
from langchain_finops.dashboard.access import Access, is_loopback
from langchain_finops.errors import BadArguments
from langchain_finops.testing.records import a_call

OPERATOR, VIEWER = "operator-token-0123456789", "viewer-token-0123456789"
TOKENS = {"operator_token": OPERATOR, "viewer_token": VIEWER}
KILL = {"scope": "agent_id", "value": "coder", "reason": "loops", "lasts": ""}
PAGES = ("/", "/runs", "/runs/r1", "/agents", "/models", "/alerts", "/live", "/nothing")


def test_every_answer_forbids_foreign_scripts(client, ledger):
    """Pages, errors, redirects and assets: the same strict policy, no inline script or style, nothing kept."""
    ledger.write(a_call())
    for page in ("/", "/runs/r1", "/nothing", "/static/page.css", "/login"):
        answer = client.get(page)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        if not page.startswith("/static"):
            assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "", "[", "169.254.1.1"]
)
def test_a_page_of_another_name_that_resolves_here_reads_nothing(client, host):
    """DNS rebinding: the request names a host that is not this one."""
    for page in PAGES:
        answer = client.get(page, headers={"host": host})
        assert answer.status_code == 421
        assert "session" not in answer.headers.get("set-cookie", "") or "agent" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:9", "[::1]:8321", "LOCALHOST"])
def test_this_machines_own_names_are_known(client, host):
    """With and without a port."""
    assert client.get("/alerts", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "my-server", "example.com"])
def test_any_other_address_needs_a_token(host):
    """It is refused before anything listens, with the remedy."""
    with pytest.raises(BadArguments, match=r"\$FINOPS_OPERATOR_TOKEN"):
        Access(host=host)
    assert Access(host=host, viewer_token=VIEWER).needs_token


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ({"operator_token": "short"}, r"operator token .* has 5 letters"),
        ({"viewer_token": OPERATOR, "operator_token": OPERATOR}, "are the same"),
    ],
)
def test_tokens_that_protect_nothing_are_refused(tokens, said):
    """One that can be guessed, and one that makes every viewer an operator."""
    with pytest.raises(BadArguments, match=said):
        Access(host="127.0.0.1", **tokens)


def test_what_is_loopback():
    """A name is not: it may mean any address."""
    assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "loopback", "")] == [False] * 5


def test_without_a_token_nothing_is_shown(visit, ledger):
    """Pages lead to the login, everything else is refused; a cookie that nobody here signed is worth nothing."""
    ledger.write(a_call(agent_id="secret-agent"))
    client = visit(host="0.0.0.0", **TOKENS)
    mine, _, session = log_in(client, OPERATOR).headers["set-cookie"].partition(";")[0].partition("=")
    client.cookies.clear()
    other = Access(host="0.0.0.0", **TOKENS).new_session("operator").cookie
    assert client.get("/alerts", headers={"cookie": f"{mine}={session}"}).status_code == 200
    for cookie in (None, "operator.9999999999.x.deadbeef", "operator", ".", session[:-1], other):
        headers = {} if cookie is None else {"cookie": f"{mine}={cookie}"}
        for page in PAGES:
            answer = client.get(page, headers=headers)
            assert (answer.status_code, answer.headers["location"]) == (303, "/login")
            assert client.get(page, headers={**headers, "accept": "*/*"}).status_code == 401
        assert client.post("/alerts/kill", data=KILL, headers=headers).status_code == 401
    assert "secret-agent" not in client.get("/login").text


def log_in(client, token):
    return client.post("/login", data={"token": token})


def test_a_wrong_token_gives_no_session(visit):
    """It is told, with no hint of how wrong it was."""
    client = visit(host="0.0.0.0", **TOKENS)
    for token in ("", "wrong", OPERATOR[:-1], OPERATOR + "x"):
        answer = log_in(client, token)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
        assert "nobody's token" in answer.text.replace("&#39;", "'")


def test_viewers_look_and_change_nothing(visit, ledger, form_token):
    """They have no forms, and a form that they make themselves is refused."""
    client = visit(host="0.0.0.0", **TOKENS)
    answer = log_in(client, VIEWER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "HttpOnly; SameSite=Strict" in answer.headers["set-cookie"]
    page = client.get("/alerts")
    assert page.status_code == 200
    assert "/alerts/kill" not in page.text
    token = form_token(page.text)  # That of the form to log out.
    assert client.post("/alerts/kill", data={**KILL, "form_token": token}).status_code == 403
    assert client.post("/alerts/revive", data={**KILL, "form_token": token}).status_code == 403
    assert kills(ledger) == []


def test_operators_kill_and_allow_again_and_the_trail_says_who(visit, ledger, form_token):
    """Both go through the switch: the ledger has the kill, and the events."""
    client = visit(host="0.0.0.0", **TOKENS)
    log_in(client, OPERATOR)
    token = form_token(client.get("/alerts").text)
    answer = client.post("/alerts/kill", data={**KILL, "lasts": "1h", "by": "anna", "form_token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts#standing")
    (kill,) = kills(ledger)
    assert (kill.key, kill.by, kill.reason) == ("agent_id=coder", "anna (web page)", "loops")
    assert kill.until is not None
    assert "Allow again" in client.get("/alerts").text
    client.post("/alerts/revive", data={"scope": "agent_id", "value": "coder", "by": "ben", "form_token": token})
    assert kills(ledger) == []
    assert [(event.action, event.actor) for event in ledger.events()] == [
        ("kill", "anna (web page)"),
        ("revive", "ben (web page)"),
    ]


def test_everything_can_be_stopped(client, ledger, form_token):
    """`all` needs no name; answers in flight are cut off where asked."""
    token = form_token(client.get("/alerts").text)
    client.post("/alerts/kill", data={"scope": "all", "value": "x", "lasts": "", "now": "yes", "form_token": token})
    (kill,) = kills(ledger)
    assert (kill.scope, kill.value, kill.now, kill.until) == ("all", None, True, None)
    assert "All calls are refused" in client.get("/").text


def test_a_form_from_elsewhere_changes_nothing(client, visit, ledger, form_token):
    """Without the session's own token, with another session's, or sent by another site: refused."""
    page = client.get("/alerts")
    token = form_token(page.text)
    other = form_token(visit().get("/alerts").text)
    assert other != token
    for given in ({}, {"form_token": ""}, {"form_token": other}, {"form_token": token[:-1]}):
        assert client.post("/alerts/kill", data={**KILL, **given}).status_code == 403
    right = {**KILL, "form_token": token}
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ):
        assert client.post("/alerts/kill", data=right, headers=headers).status_code == 403
    assert client.get("/alerts/kill", params=right).status_code == 405
    assert kills(ledger) == []
    assert client.post("/alerts/kill", data=right, headers={"origin": "http://127.0.0.1:8321"}).status_code == 303
    assert len(kills(ledger)) == 1


@pytest.mark.parametrize("name", ["line\nbreak", "line\r\nbreak", " lead%0A", "a+b&c=ü"])
def test_a_name_is_stopped_and_allowed_again_to_the_letter(client, ledger, form_token, name):
    """Browsers take line breaks out of a field that is seen, and change those of one that is hidden."""

    def fields(html, action):
        (form,) = re.findall(rf'action="{action}".*?</form>', html, re.DOTALL)
        found = re.findall(r'<input[^>]*name="(\w+)" value="([^"]*)"', form)
        return {key: re.sub(r"[\r\n]", "", unescape(value)) for key, value in found}

    for given, killed in (({}, name), ({"value": "other"}, "other")):
        page = client.get("/alerts", params={"scope": "agent_id", "value": name}).text
        sent = {**fields(page, "/alerts/kill"), "scope": "agent_id", "lasts": "", **given}
        assert client.post("/alerts/kill", data=sent).status_code == 303
        assert [kill.value for kill in kills(ledger)] == [killed]
        client.post("/alerts/revive", data=fields(client.get("/alerts").text, "/alerts/revive"))
        assert kills(ledger) == []


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"scope": "everybody"}, 400),
        ({"value": "  "}, 400),
        ({"lasts": "2 weeks"}, 400),
        ({"reason": "x" * 30_000}, 413),
        ({f"field-{n}": "x" for n in range(20)}, 400),
    ],
)
def test_a_form_that_makes_no_sense_is_told(client, ledger, form_token, given, status):
    """And nothing is killed."""
    token = form_token(client.get("/alerts").text)
    answer = client.post("/alerts/kill", data={**KILL, **given, "form_token": token})
    assert answer.status_code == status
    assert "<h1>" in answer.text
    assert kills(ledger) == []


@pytest.mark.parametrize("other", ['prefs={"a": 1}', "x=a b", "a[b]=1", 'jupyter="2|1:0|x"', "no-equals", "=;;", "ü=1"])
def test_cookies_of_other_programs_on_this_host_do_no_harm(client, ledger, form_token, other):
    """Browsers send them along, before ours and after, in shapes that no standard knows."""
    page = client.get("/alerts")
    mine, token = page.headers["set-cookie"].partition(";")[0], form_token(page.text)
    client.cookies.clear()
    for cookies in (f"{other}; {mine}", f"{mine}; {other}"):
        answer = client.post("/alerts/kill", data={**KILL, "form_token": token}, headers={"cookie": cookies.encode()})
        assert answer.status_code == 303
        assert "set-cookie" not in answer.headers
    assert len(kills(ledger)) == 1


def test_two_servers_on_a_host_keep_their_sessions_apart(visit, form_token):
    """Browsers have one jar for all ports: a look at the one must not end the session on the other."""
    one, two = visit(), visit("http://127.0.0.1:9000")
    token = form_token(one.get("/alerts").text)
    two.cookies = one.cookies
    two.get("/alerts")
    one.cookies = two.cookies
    assert one.post("/alerts/kill", data={**KILL, "form_token": token}).status_code == 303


def test_logging_out_ends_the_session(visit, form_token):
    """The browser's cookie is gone, and a copy of it is worth nothing; other sessions stay."""
    client = visit(host="0.0.0.0", **TOKENS)
    other = log_in(client, VIEWER).headers["set-cookie"].partition(";")[0]
    copy = log_in(client, VIEWER).headers["set-cookie"].partition(";")[0]
    token = form_token(client.get("/").text)
    assert client.post("/logout", data={"form_token": "x"}).status_code == 403
    answer = client.post("/logout", data={"form_token": token})
    assert answer.headers["location"] == "/login"
    assert client.get("/").headers["location"] == "/login"
    assert client.get("/alerts", headers={"cookie": copy}).headers["location"] == "/login"
    assert client.get("/alerts", headers={"cookie": other}).status_code == 200


def test_a_session_ends_by_itself(visit, monkeypatch):
    """After 12 hours its cookie is worth nothing."""
    client = visit(host="0.0.0.0", **TOKENS)
    log_in(client, VIEWER)
    assert client.get("/alerts").status_code == 200
    import time

    later = time.time() + 12 * 3600 + 1
    monkeypatch.setattr("langchain_finops.dashboard.access.time.time", lambda: later)
    assert client.get("/alerts").status_code == 303


def test_the_cookie_is_for_https_where_the_page_is(visit):
    """Behind a proxy with TLS a browser sends it over TLS only."""
    client = visit("https://finops.example", host="0.0.0.0", **TOKENS)
    assert log_in(client, VIEWER).headers["set-cookie"].endswith("; Secure")


def test_the_ledgers_place_stays_inside(client, ledger, monkeypatch, caplog):
    """No page, header or error names its path; a ledger that cannot be read is told without what it said."""
    ledger.write(a_call())
    place = re.compile(r"ledger\.db|nobody should know|sqlite", re.IGNORECASE)
    for page in PAGES[:6]:
        answer = client.get(page)
        assert not place.search(answer.text + str(answer.headers)), page
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%2fapp.py"):
        assert client.get(path).status_code in {400, 404}
    from langchain_finops.errors import LedgerError

    def broken(*_, **__):
        raise LedgerError(f"cannot read the ledger {ledger.url}: disk I/O error")

    for reading in ("look_at", "controls", "calls"):
        monkeypatch.setattr(type(ledger), reading, broken)
    for page in ("/alerts", "/runs/another"):
        answer = client.get(page)
        assert answer.status_code == 503
        assert "The ledger cannot be used now" in answer.text
        assert not place.search(answer.text + str(answer.headers))
    assert place.search(caplog.text)
