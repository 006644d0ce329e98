"""The table of failures, against the same table written out by hand."""

from __future__ import annotations

import pytest

from crossfade.core.failure import DEFAULT_FALLBACK, DISPOSITIONS, FALLBACK_WORDS, FailureReason

# reason: origin, retry of the same target, fall back, health, status, alert, soft, a later rung's defect
TABLE = """
connect_error       local       once              default        failure            502   -      -     -
timeout             local       no                default        failure            504   -      -     -
server_error        upstream    once_delayed      default        failure            502   -      -     -
overloaded          upstream    no                default        failure            503   -      -     -
rate_limit          upstream    limited           default        eject              429   -      -     -
quota_exhausted     upstream    other_credential  default        eject_long         429   alert  -     -
protocol_error      local       no                default        failure            502   -      -     -
stream_interrupted  local       no                default        failure            502   -      -     -
stream_stalled      local       no                default        failure            504   -      -     -
malformed_output    upstream    no                default        failure            502   -      -     -
empty_output        upstream    no                default        route_and_breaker  502   -      soft  -
invalid_json        upstream    no                default        route              502   -      soft  -
invalid_tool_call   upstream    no                default        route              502   -      soft  -
rejected_output     local       no                default        route              502   -      soft  -
truncated_output    upstream    no                opt_in         none               None  -      soft  -
model_unavailable   upstream    no                default        eject_long         404   alert  -     defect
context_overflow    upstream    no                larger_window  none               400   -      -     -
content_filter      upstream    no                opt_in         none               None  -      soft  -
invalid_request     upstream    no                never          none               None  -      -     defect
auth_error          upstream    other_credential  opt_in         eject_credential   502   alert  -     defect
cancelled           downstream  no                never          none               499   -      -     -
internal_error      local       no                never          none               500   alert  -     -
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_row(row: list[str]) -> None:
    reason, origin, retry, fall_back, health, status, alert, soft, defect = row
    found = DISPOSITIONS[FailureReason(reason)]
    assert (found.origin, found.retry, found.fall_back, found.health) == (origin, retry, fall_back, health)
    assert str(found.status) == status
    assert (found.is_alert, found.is_soft, found.is_defect) == (alert == "alert", soft == "soft", defect == "defect")


def test_table_is_whole() -> None:
    assert [row[0] for row in ROWS] == [str(reason) for reason in FailureReason]
    assert set(DISPOSITIONS) == set(FailureReason)


def test_nobody_can_change_it() -> None:
    with pytest.raises(TypeError):
        DISPOSITIONS[FailureReason.TIMEOUT] = DISPOSITIONS[FailureReason.CANCELLED]  # type: ignore[index]


def test_words_are_made_of_reasons_that_fall_back_by_default() -> None:
    groups = [reasons for word, reasons in FALLBACK_WORDS.items() if word != "default"]
    together = frozenset().union(*groups)
    assert together | {FailureReason.CONTEXT_OVERFLOW} == DEFAULT_FALLBACK
    assert sum(map(len, groups)) == len(together), "no reason belongs to two words"
