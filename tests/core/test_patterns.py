from __future__ import annotations

import pytest

from crossfade.core.patterns import work_of


@pytest.mark.parametrize(
    "pattern",
    ["[ab]*a[ab]{900}c", "([ab]*a[ab]{90}c){9}", "(?:a?){1000}c", "((a{0,40}b{0,40}){5}c?){3}d", r"\w*a\w{600}\d"],
)
def test_expressions_that_keep_a_matcher_busy_are_seen(pattern: str) -> None:
    assert work_of(pattern) > 500


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[\w.+-]+@[\w-]+\.[a-z]{2,}$",
        r"(?i)\b(sorry|cannot|unable)\b.*",
        "[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}",
        r"\p{Lu}{3}",
        "x" * 1000,
    ],
)
def test_everyday_expressions_are_little_work(pattern: str) -> None:
    assert work_of(pattern) <= 101


@pytest.mark.parametrize("pattern", ["", "(((", ")))", "{5}", "a{2,", "[", "\\", "a{99999999999999999999}"])
def test_what_is_no_expression_is_counted_all_the_same(pattern: str) -> None:
    assert work_of(pattern) >= 0
