"""Digests of a prompt are kept in a few hundred bytes, and come back as they were."""

import pytest

from langchain_finops.ledger.marks import LENGTHS, End, Marks, read_marks


def digest(number: int) -> bytes:
    return number.to_bytes(8)


LONG = Marks(
    whole=digest(1),
    size=120_000,
    tools=digest(2),
    tools_sorted=digest(3),
    tools_size=3_000,
    system=digest(4),
    system_masked=digest(5),
    system_size=9_000,
    system_inner=tuple(map(digest, range(10, 17))),
    first_inner=tuple(map(digest, range(20, 23))),
    ends=(End("human", 1, 400, digest(30)), End("ai", 2, 90_000, digest(31)), End("tool", 99, 108_000, digest(32))),
    recent=(b"aaaa", b"bbbb"),
)


@pytest.mark.parametrize(
    "marks",
    [
        LONG,
        Marks(whole=digest(1), size=2**33),
        Marks(whole=digest(1), size=4_000, ends=(End("other", 1, 4_000, digest(2)),), recent=(b"aaaa",)),
        Marks(whole=digest(1), size=9, tools=digest(2), tools_sorted=digest(2), ends=(End("system", 0, 0, digest(3)),)),
    ],
)  # fmt: skip
def test_marks_come_back_as_they_were(marks: Marks) -> None:
    """Each field, whether it is there or not."""
    assert read_marks(marks.to_bytes()) == marks


def test_they_take_a_few_hundred_bytes() -> None:
    """17 for a short prompt; a head of 18, 8 a digest, 15 a message's end, 4 a last message."""
    assert len(Marks(whole=digest(1), size=900).to_bytes()) == 17
    assert len(LONG.to_bytes()) == 18 + 8 * (1 + 4 + 7 + 3) + 3 * 15 + 2 * 4


def test_the_lengths_grow_by_a_half_and_a_third() -> None:
    """So that of what is shared a third at most is overlooked."""
    assert LENGTHS[:6] == (1024, 1536, 2048, 3072, 4096, 6144)
    assert (len(LENGTHS), LENGTHS[-1]) == (16, 196_608)


@pytest.mark.parametrize("data", [b"", b"\1too short", b"\3" + LONG.to_bytes()[1:], LONG.to_bytes()[:-1], b"\2" * 10])
def test_what_is_no_digests_is_said_so(data: bytes) -> None:
    """Such as those of a version to come: never half understood."""
    with pytest.raises(ValueError, match="digests of a prompt"):
        read_marks(data)
