"""Where tags stand for each destination, within its limits, and how users are hashed."""

import json
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from hashlib import sha256
from hmac import digest
from pathlib import Path
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from langchain_finops.errors import BadArguments
from langchain_finops.langchain.tagging import _chosen, hashed_user, tag_requests
from langchain_finops.langchain.tagging_styles import STYLES, Tags, cut, header_value, label_value
from langchain_finops.langchain.tagging_users import _process_key, warn_once

TAGS = Tags(agent_id="support", user_id="u-7", task_id="t-42", run_id="r-1", team="cx")


def fields(style: str, tags: Tags = TAGS, **given: Any) -> dict[str, Any]:
    return STYLES[style].fields(tags, given)


def test_each_style_writes_its_own_fields() -> None:
    """What is documented of each destination, and nothing beside it."""
    pairs = {"agent_id": "support", "user_id": "u-7", "task_id": "t-42", "run_id": "r-1"}
    assert fields("openai") == {"safety_identifier": "u-7"}
    assert fields("openai", stored=True) == {"safety_identifier": "u-7", "metadata": pairs}
    assert fields("azure") == {"user": "u-7"}
    assert fields("anthropic") == {"metadata": {"user_id": "u-7"}}
    named = {"agent": "support", "user": "u-7", "task": "t-42", "run": "r-1"}
    assert fields("bedrock") == {"request_metadata": named}
    assert fields("google") == {"labels": {"agent": "support", "team": "cx"}}
    trace = {"trace_id": "r-1", "trace_name": "support", "task_id": "t-42"}
    assert fields("openrouter") == {"user": "u-7", "extra_body": {"session_id": "t-42", "trace": trace}}
    assert fields("openrouter", kind="openrouter") == {"user": "u-7", "session_id": "t-42", "trace": trace}
    headers = {"X-Agent-Id": "support", "X-User-Id": "u-7", "X-Task-Id": "t-42", "X-Run-Id": "r-1"}
    assert fields("gateway") == {"extra_headers": headers}
    litellm = fields("litellm")["extra_headers"]
    assert json.loads(litellm.pop("x-litellm-spend-logs-metadata")) == {
        n: v for n, v in pairs.items() if n != "user_id"
    }
    assert litellm == {
        "x-litellm-tags": "agent:support,team:cx",
        "x-litellm-end-user-id": "u-7",
        "x-litellm-trace-id": "r-1",
    }
    assert fields("helicone")["extra_headers"] == {
        "Helicone-User-Id": "u-7",
        "Helicone-Session-Id": "r-1",
        "Helicone-Session-Path": "/support",
        "Helicone-Session-Name": "support",
        "Helicone-Property-Agent-Id": "support",
        "Helicone-Property-Task-Id": "t-42",
        "Helicone-Property-Team": "cx",
    }
    portkey = fields("portkey")["extra_headers"]
    assert portkey["x-portkey-trace-id"] == "r-1"
    assert json.loads(portkey["x-portkey-metadata"])["_user"] == "u-7"
    assert json.loads(fields("cloudflare")["extra_headers"]["cf-aig-metadata"]) == pairs


@pytest.mark.parametrize("style", STYLES)
def test_what_is_not_known_is_not_sent(style: str) -> None:
    """No field is sent for nothing: not as an empty text, and not as `None`."""
    assert fields(style, Tags()) == {}
    assert "None" not in str(fields(style, Tags(agent_id="support"), stored=True))


@pytest.mark.parametrize("style", STYLES)
def test_limits_hold_for_any_name(style: str) -> None:
    """Names of 2,000 letters of any plane fit each field, in characters, pairs and alphabet."""
    long = "\u00e4\U0001f600 \r\n," * 400
    added = fields(style, Tags(agent_id=long, user_id=long, task_id=long, run_id=long, team=long), stored=True)
    limits = {"safety_identifier": 128, "user": 128, "session_id": 128}
    for name, value in added.items():
        if isinstance(value, str):
            assert len(value) <= limits[name]
    for value in added.get("metadata", {}).values():
        assert len(value) <= 512
    for value in added.get("request_metadata", {}).values():
        assert len(value) <= 256
        assert set(value) <= set("abcdefghijklmnopqrstuvwxyz0123456789 -#,\r\n")
    for value in added.get("labels", {}).values():
        assert len(value) <= 63
        assert set(value) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    for value in added.get("extra_headers", {}).values():
        assert value.isascii()
        assert value.isprintable()


def test_the_users_own_entries_are_kept_whole() -> None:
    """16 pairs of theirs leave no room for ours; a name they have used is theirs; what is no mapping is left alone."""
    sixteen = {f"k{number}": "v" for number in range(16)}
    assert fields("openai", stored=True, user="u", metadata=sixteen) == {}
    assert fields("bedrock", request_metadata={**sixteen}) == {}
    assert fields("anthropic", metadata={"user_id": "mine"}) == {}
    assert fields("anthropic", extra_body={"metadata": {"user_id": "mine"}}) == {}
    assert fields("google", labels={"agent": "mine"}) == {"labels": {"agent": "mine", "team": "cx"}}
    assert fields("openai", stored=True, user="u", metadata="odd") == {}
    assert fields("openrouter", user="u", extra_body={"session_id": "s", "trace": {}, "a": 1}) == {}
    assert fields("litellm", extra_headers={"X-LiteLLM-Tags": "a"})["extra_headers"]["X-LiteLLM-Tags"] == "a"
    assert "x-litellm-tags" not in fields("litellm", extra_headers={"X-LiteLLM-Tags": "a"})["extra_headers"]


def test_two_names_stay_two_however_they_are_cut() -> None:
    """Cut or cleaned, a value carries a digest of the whole; one that fits is as it was."""
    assert cut("x" * 64, 64) == "x" * 64
    assert cut("x" * 65, 64) == "x" * 55 + "~" + sha256(b"x" * 65).hexdigest()[:8]
    assert label_value("support-bot_2") == "support-bot_2"
    assert label_value("Support") == "support"
    assert label_value("a b") == "a-b-" + sha256(b"a b").hexdigest()[:8] != label_value("a.b")
    assert label_value("\u4f60") == sha256("\u4f60".encode()).hexdigest()[:8]
    assert header_value("a b,c%\r\n") == "a%20b%2Cc%25%0D%0A"
    assert len({header_value("\u00e4" * number) for number in range(40, 60)}) == 20


class Plain(BaseChatModel):
    """A model of somebody's own."""

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        assert not kwargs
        return ChatResult(generations=[ChatGeneration(message=AIMessage(str(self.fields())))])

    def fields(self) -> dict[str, Any]:
        """What of ours has reached it."""
        names = ("request_metadata", "labels")
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}


class ChatBedrockConverse(Plain):
    """As in langchain-aws: arguments are rewritten in camel case, the field is sent as it is."""

    request_metadata: dict[str, str] | None = None


class ChatGoogleGenerativeAI(Plain):
    """As in langchain-google-genai, which refuses labels away from Vertex."""

    labels: dict[str, str] | None = None
    use_vertexai: bool = True

    @property
    def _use_vertexai(self) -> bool:
        return self.use_vertexai


CONFIG: Any = {"metadata": {"agent_id": "Support", "user_id": "u-7", "task_id": "t-42", "tags": {"team": "cx"}}}


def test_a_models_own_fields_take_the_tags_of_one_call() -> None:
    """Bedrock's and Vertex's tags are fields of the model: a call gets them, and neither model keeps them."""
    bedrock = ChatBedrockConverse(request_metadata={"cost_center": "9"})
    tagged = tag_requests(bedrock, users="plain")
    said = tagged.invoke("hi", CONFIG).text
    named = "{'request_metadata': {'cost_center': '9', 'agent': 'Support', 'user': 'u-7', 'task': 't-42', 'run': '"
    assert said.startswith(named)
    assert tagged.request_metadata == bedrock.request_metadata == {"cost_center": "9"}

    vertex = tag_requests(ChatGoogleGenerativeAI(), users="plain")
    assert vertex.invoke("hi", CONFIG).text == "{'labels': {'agent': 'support', 'team': 'cx'}}"
    assert tag_requests(ChatGoogleGenerativeAI(use_vertexai=False)).invoke("hi", CONFIG).text == "{}"


def openai_at(url: str | None) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-4.1", api_key="k", base_url=url)  # type: ignore[arg-type]


ADDRESSES: Mapping[str | None, str | None] = {
    None: "openai",
    "https://api.openai.com/v1": "openai",
    "https://eu.api.openai.com/v1": "openai",
    "https://openrouter.ai/api/v1": "openrouter",
    "https://oai.helicone.ai/v1": "helicone",
    "https://api.portkey.ai/v1": "portkey",
    "https://gateway.ai.cloudflare.com/v1/a/b/openai": "cloudflare",
    "http://localhost:8000/v1": "gateway",
    "http://127.0.0.1:4000/v1": "gateway",
    "http://10.1.2.3/v1": "gateway",
    "http://[::1]:9/v1": "gateway",
    "http://llm-gateway:4000/v1": "gateway",
    "http://llm.team.svc.cluster.local/v1": "gateway",
    "https://llm.corp.internal/v1": "gateway",
    "https://api.deepseek.com/v1": None,
    "https://api.groq.com/openai/v1": None,
    "https://llm.example.com/v1": None,
    "https://api.openai.com.example.com/v1": None,
    "https://notopenrouter.ai/v1": None,
    "http://8.8.8.8/v1": None,
    "https://generativelanguage.googleapis.com/v1beta/openai": None,
}


@pytest.mark.parametrize("url", ADDRESSES)
def test_auto_tells_only_whom_it_may(url: str | None) -> None:
    """The provider's own field at its own address, headers in a private network, and nothing to anybody else."""
    assert _chosen(openai_at(url), "auto") == ADDRESSES[url]


def test_auto_knows_other_clients() -> None:
    """Azure and Anthropic by their addresses; Anthropic's client at another's gets no field of Anthropic's."""
    azure = AzureChatOpenAI(
        azure_endpoint="https://a.openai.azure.com", api_version="2026-01-01", azure_deployment="d", api_key="k"
    )  # type: ignore[call-arg]
    assert _chosen(azure, "auto") == "azure"
    named = {"model_name": "claude", "api_key": "k"}
    assert _chosen(ChatAnthropic(**named), "auto") == "anthropic"  # type: ignore[arg-type]
    assert _chosen(ChatAnthropic(**named, base_url="https://anthropic.helicone.ai"), "auto") == "helicone"  # type: ignore[arg-type]
    assert _chosen(ChatAnthropic(**named, base_url="https://llm.example.com"), "auto") is None  # type: ignore[arg-type]


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    warn_once.cache_clear()
    _process_key.cache_clear()
    caplog.set_level(logging.WARNING, "langchain_finops")
    yield caplog
    warn_once.cache_clear()
    _process_key.cache_clear()


def test_users_are_hashed_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 bits of HMAC-SHA256: the key given, else the environment's; an empty one is refused, not used."""
    wanted = digest(b"secret", b"ada", sha256).hex()[:32]
    assert hashed_user("ada", "secret") == hashed_user("ada", b"secret") == wanted
    monkeypatch.setenv("FINOPS_USER_KEY", "secret")
    assert hashed_user("ada") == wanted
    monkeypatch.setenv("FINOPS_USER_KEY", "")
    with pytest.raises(BadArguments, match="FINOPS_USER_KEY is empty: anybody could undo its hashes"):
        hashed_user("ada")


def test_the_key_of_whoever_names_none_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once, for the owner's eyes only, and is the same from then on."""
    monkeypatch.delenv("FINOPS_USER_KEY", raising=False)
    monkeypatch.setattr("langchain_finops.langchain.tagging_users.default_path", lambda: tmp_path / "new" / "ledger.db")
    first = hashed_user("ada")
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == "tagging.key"
    assert len(path.read_bytes()) == 64
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert hashed_user("ada") == first
    path.write_bytes(b"another")
    assert hashed_user("ada") == hashed_user("ada", "another") != first


def test_without_a_place_for_the_key_hashes_hold_for_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warned: pytest.LogCaptureFixture
) -> None:
    """A read-only home or an empty key file stops nobody: one warning, and a key of this process."""
    monkeypatch.delenv("FINOPS_USER_KEY", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setattr(
        "langchain_finops.langchain.tagging_users.default_path", lambda: tmp_path / "file" / "ledger.db"
    )
    assert hashed_user("ada") == hashed_user("ada") != hashed_user("bob")
    (record,) = warned.records
    assert record.getMessage().endswith("Set FINOPS_USER_KEY to have them last")
