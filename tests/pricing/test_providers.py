"""Who answered, and which model, whatever the integration calls them."""

import pytest

from langchain_finops.pricing.providers import Identity, canonical_provider, identify, is_known_endpoint


def who(
    asked_provider: str | None = None,
    answering_provider: str | None = None,
    asked_model: str | None = None,
    answering_model: str | None = None,
    *,
    host: str | None = None,
    aliases: dict[str, str] | None = None,
) -> Identity:
    """Identify an answer."""
    return identify(
        asked_provider=asked_provider,
        answering_provider=answering_provider,
        asked_model=asked_model,
        answering_model=answering_model,
        host=host,
        aliases=aliases or {},
    )


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("openai", "openai"),
        ("azure", "azure"),
        ("anthropic", "anthropic"),
        ("amazon_bedrock", "aws"),
        ("anthropic-bedrock", "aws"),
        ("bedrock-mantle", "aws"),
        ("google_genai", "google"),
        ("google_vertexai", "google"),
        ("mistralai", "mistral"),
        ("Groq", "groq"),
        ("xai", "x-ai"),
        ("together", "together"),
        ("ollama", "ollama"),
        ("SomethingElse", "somethingelse"),
    ],
)
def test_one_name_a_provider(name: str, provider: str) -> None:
    """The one that the catalogue uses; a name that nobody knows stays."""
    assert canonical_provider(name) == provider


def test_azures_answers_call_themselves_openai() -> None:
    """So what the request says goes first; the deployment's name is no model, the answer's is."""
    identity = who("azure", "openai", "my-deployment", "gpt-4.1-mini-2025-04-14")

    assert (identity.provider, identity.model) == ("azure", "gpt-4.1-mini-2025-04-14")
    assert identity.requested_model == "my-deployment"


def test_the_answer_says_who_it_is_where_the_request_does_not() -> None:
    """As with a message that is priced without its callback."""
    assert who(None, "google_genai").provider == "google"
    assert who().provider is None


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.deepseek.com", "deepseek"),
        ("openrouter.ai", "openrouter"),
        ("API.X.AI:443", "x-ai"),
        ("my-resource.openai.azure.com", "azure"),
        ("api.groq.com", "groq"),
        ("eu.api.openai.com", "openai"),
        ("localhost:8000", "openai"),
        ("notopenrouter.ai", "openai"),
        (None, "openai"),
    ],
)
def test_a_client_that_is_pointed_elsewhere(host: str | None, provider: str) -> None:
    """ChatOpenAI with a `base_url` is not OpenAI; an unknown host leaves the name."""
    assert who("openai", host=host).provider == provider


def test_a_closed_client_is_believed() -> None:
    """Azure behind a company's own gateway is still Azure."""
    assert who("azure", host="openrouter.ai").provider == "azure"


@pytest.mark.parametrize(
    ("provider", "host", "known"),
    [
        ("openai", "api.openai.com", True),
        ("openai", "api.openai.com:443", True),
        ("openai", None, True),
        ("anthropic", "api.anthropic.com", True),
        ("openai", "eu.api.openai.com", False),
        ("openai", "localhost:8000", False),
        ("anthropic", "gateway.example", False),
        ("azure", "gateway.example", True),
        ("deepseek", "api.deepseek.com", True),
    ],
)
def test_the_list_price_is_sure_only_at_the_providers_own_host(provider: str, host: str | None, known: bool) -> None:
    """A gateway or a region may charge another price."""
    assert is_known_endpoint(provider, host) == known


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("publishers/google/models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("azure/gpt-4.1", "gpt-4.1"),
        (" gpt-4.1 ", "gpt-4.1"),
        ("openai/gpt-4o", "openai/gpt-4o"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0",
         "anthropic.claude-3-haiku-20240307-v1:0"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
         "us.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc",
         "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"),
        ("", None),
        ("  ", None),
    ],
)  # fmt: skip
def test_a_models_plain_name(name: str, model: str | None) -> None:
    """Without what clouds put before it; an application's profile has no model in its name."""
    assert who("openai", None, name).model == model


def test_a_stream_may_name_the_model_once_a_chunk() -> None:
    """LangChain joins the strings of chunks."""
    assert who("x", None, "gemini-2.5-flash", "gemini-2.5-flash" * 3).model == "gemini-2.5-flash"
    assert who("x", None, "a", "aab").model == "aab"
    assert who("x", None, "gemini-flash", "models/gemini-2.5-flash" * 2).model == "gemini-2.5-flash"
    assert who("x", None, "gogo", "gogo").model == "gogo"  # As it was asked for.


@pytest.mark.parametrize(
    ("asked", "answered", "model"),
    [
        ("my-deployment", None, "gpt-4.1-mini"),
        ("my-deployment", "gpt-4o", "gpt-4.1-mini"),
        ("something", "my-deployment", "gpt-4.1-mini"),
        ("something", "gpt-4o", "gpt-4o"),
    ],
)
def test_an_alias_replaces_whichever_name_it_is_for(asked: str, answered: str | None, model: str) -> None:
    """The user knows what runs behind a deployment."""
    assert who("azure", None, asked, answered, aliases={"my-deployment": "gpt-4.1-mini"}).model == model


def test_an_alias_may_be_for_an_arn() -> None:
    """As it was given, prefix and all."""
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"

    assert who("aws", None, arn, aliases={arn: "us.anthropic.claude-opus-4-5"}).model == "us.anthropic.claude-opus-4-5"


def test_an_application_profile_is_what_the_request_says() -> None:
    """Its ARN names no model; `base_model_id` may, and so may an alias."""
    arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/abc"

    assert who("amazon_bedrock", None, "us.amazon.nova-pro-v1:0", arn).model == "us.amazon.nova-pro-v1:0"
    assert who("amazon_bedrock", None, arn, arn).model == arn
    assert (
        who("amazon_bedrock", None, "x", arn, aliases={arn: "amazon.nova-lite-v1:0"}).model == "amazon.nova-lite-v1:0"
    )
