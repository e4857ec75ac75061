"""Regular expressions that take for ever stop nothing."""

import re

from langchain_finops.evals.patterns import search


def test_a_pattern_is_searched_for_anywhere() -> None:
    """As `re.search` does, flags and odd texts included."""
    assert search(r"\d+ €", 0, "it is\n24 €\ud800") is True
    assert search("IT IS", int(re.IGNORECASE), "so it is") is True
    assert search("IT IS", 0, "so it is") is False


def test_a_search_that_takes_for_ever_cannot_tell() -> None:
    """It would take 2 to the 60 steps. Its process is ended, and the next search has a new one."""
    assert search(r"(a+)+$", 0, "a" * 60 + "!", limit_s=0.2) is None
    assert search("a", 0, "a") is True
