"""Model policies: which models may be used where."""

import pickle

import pytest

from langchain_finops.budgets.models import ModelPolicy
from langchain_finops.errors import BadArguments

SMALL = ModelPolicy(match={"node": "router"}, allow=["*mini*", "*haiku*"])


@pytest.mark.parametrize(
    ("model", "allowed"),
    [
        ("gpt-4.1-mini", True),
        ("GPT-4.1-Mini-2026-01-01", True),
        ("anthropic/claude-haiku-5", True),
        ("gpt-4.1", False),
        ("", False),
        (None, False),  # What is not known cannot be told to be small.
    ],
)
def test_only_models_that_are_allowed_are_called(model: str | None, allowed: bool) -> None:
    """By globs on the whole name, whatever the case."""
    assert SMALL.allows(model) is allowed


@pytest.mark.parametrize(("model", "allowed"), [("claude-opus-5", False), ("gpt-4.1", True), (None, True)])
def test_without_allow_all_are_that_are_not_denied(model: str | None, allowed: bool) -> None:
    """A policy may only deny."""
    assert ModelPolicy(deny="*OPUS*").allows(model) is allowed


def test_denied_is_denied_whatever_is_allowed() -> None:
    """The narrower rule wins."""
    policy = ModelPolicy(allow=["gpt-*"], deny=["*-preview"])

    assert policy.allows("gpt-5")
    assert not policy.allows("gpt-5-preview")


def test_globs_know_classes_and_single_letters() -> None:
    """`?`, `[45]` and `[!4]`, as in file names."""
    assert ModelPolicy(allow="gpt-[45].?").allows("gpt-4.1")
    assert not ModelPolicy(allow="gpt-[!4].?").allows("gpt-4.1")


def test_a_policy_says_what_it_was_given() -> None:
    """It raises unless told to warn; it hashes and pickles; it is called by its name or by what it says."""
    assert (SMALL.match, SMALL.allow, SMALL.deny) == ((("node", "router"),), ("*mini*", "*haiku*"), ())
    assert (SMALL.on_exceed, ModelPolicy(allow="a", on_exceed="warn").on_exceed) == ("raise", "warn")
    assert SMALL.label == "models: allow *mini*, *haiku* where node=router"
    assert ModelPolicy(allow="a", deny=["b", "c"]).label == "models: allow a; deny b, c"
    assert ModelPolicy(allow="a", name="small first").label == "small first"
    assert pickle.loads(pickle.dumps(SMALL)) == SMALL
    assert hash(SMALL) == hash(ModelPolicy(match={"node": "router"}, allow=("*mini*", "*haiku*")))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"nothing is allowed or denied: give allow=\['\*mini\*'\] or deny=\['\*opus\*'\]"),
        ({"allow": []}, "nothing is allowed or denied"),
        ({"allow": [""]}, "allow: must be names of models such as '\\*mini\\*', not ''"),
        ({"deny": 5}, "deny: must be names of models such as '\\*mini\\*', not 5"),
        ({"allow": "a", "on_exceed": "drain"}, "on_exceed: must be one of raise, warn, not 'drain'"),
        ({"allow": "a", "match": {"model": "x"}}, "match: knows no 'model'"),
        ({"allow": "a", "name": 1}, "name: must be a text, not 1"),
        ({"allow": [1], "name": 1}, "allow: .*; name: "),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(arguments: dict[str, object], message: str) -> None:
    """All faults at once, each naming its field."""
    with pytest.raises(BadArguments, match=f"^ModelPolicy: {message}"):
        ModelPolicy(**arguments)  # type: ignore[arg-type]
