"""PostgreSQL URLs: read as libpq reads them, shown without secrets, and one ledger's are told from another's."""

import pytest

from langchain_finops.errors import LedgerError
from langchain_finops.ledger.postgres_url import address_of


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:s3cret@db.example.com:5433/costs", "postgresql://ada@db.example.com:5433/costs"),
        ("postgres://ada:s3%40%2F@db/costs?sslmode=require", "postgresql://ada@db/costs?sslmode=require"),
        ("postgresql+psycopg://db/costs?user=ada&password=s3cret", "postgresql://db/costs?user=ada"),
        ("postgresql://db/costs?sslpassword=s3&options=-csearch_path%3Da", "postgresql://db/costs?options=-csearch_path%3Da"),
        ("postgresql://ada:s3cret@a:1,b:2/costs?target_session_attrs=read-write",
         "postgresql://ada@a:1,b:2/costs?target_session_attrs=read-write"),
        ("postgresql://:s3cret@[::1]/", "postgresql://@[::1]/"),
        ("postgresql:///costs?host=/var/run/postgresql", "postgresql:///costs?host=/var/run/postgresql"),
        ("postgresql://", "postgresql://"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_secrets_and_still_names_its_ledger(url: str, shown: str):
    """What is shown opens the same ledger, given the password in another way."""
    address, again = address_of(url), address_of(shown)

    assert address.shown == again.shown == shown
    assert again.file_name == address.file_name
    secrets = {"password", "sslpassword"}
    assert {n: v for n, v in address.parameters.items() if n not in secrets} == dict(again.parameters)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ada:s3cret@more@db/costs",
        "postgresql://ada:s3/cret@db/costs",
        "postgresql://ada:s3cret@db/costs?colour=red",
        "postgresql://ada:s3%zzcret@db/costs",
        "postgresql://ada:s3cret@db/costs#s3cret",
        "postgresql:ada:s3cret@db",
    ],
)
def test_a_url_that_cannot_be_read_is_not_repeated(url: str):
    """Parts of a password may be anywhere in it, and the driver's message shows them."""
    with pytest.raises(LedgerError, match="cannot be read: write postgresql://USER@HOST/DATABASE") as raised:
        address_of(url)

    assert "cret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_files_are_named_by_host_database_and_schema():
    """Not by who signs in, nor how: whoever recovers finds what others of the same machine spilled."""
    names = [
        address_of(f"postgresql://{rest}").file_name
        for rest in ("a/x", "ada@a/x", "ada:s3cret@a/x?sslmode=require", "b/x", "a/y", "a:5433/x",
                     "a/x?options=-csearch_path%3Dz")
    ]  # fmt: skip

    assert names[0] == names[1] == names[2]
    assert len(set(names)) == 5
    assert names[0].startswith("postgresql-a-x-")
    assert address_of("postgresql:///../../etc?host=/../x").file_name.count("/") == 0


def test_a_time_for_connecting_may_be_given():
    """Else it is ten seconds: libpq by itself waits for ever."""
    assert address_of("postgresql://db/x").parameters["connect_timeout"] == 10
    assert address_of("postgresql://db/x?connect_timeout=3").parameters["connect_timeout"] == "3"
