"""How a second stream is joined to the text of a first one that was cut: proven, or refused.

Two proofs are looked for at once, since a target asked to go on may as well begin anew: the new stream's head
equals all that was delivered (*replay*), or it repeats the anchor it was asked for near its beginning
(*anchor*). A target declared to go on from a prefill needs no anchor (*prefill*). Nothing is guessed: there are
no overlap heuristics, and while both readings are possible the answer waits.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from crossfade.core.exchange import Continuation

ANCHOR_MIN, ANCHOR_MAX = 40, 80
ANCHOR_SLACK: Final = 200
"""The anchor must end within so many characters more than its own length."""


class JoinState(StrEnum):
    """How far a join has come."""

    OPEN = "open"
    JOINED = "joined"
    REFUSED = "refused"


def anchor_of(text: str) -> str:
    """The last 40 to 80 characters of `text`, from the beginning of a word where there is one; all of a short text."""
    if len(text) <= ANCHOR_MAX:
        return text
    tail = text[-ANCHOR_MAX:]
    for position in range(ANCHOR_MAX - ANCHOR_MIN):
        if tail[position].isspace() and not tail[position + 1].isspace():
            return tail[position + 1 :]
    return tail


def continuation_of(text: str, *, prefill: bool) -> Continuation:
    """What to ask of the next target after `text` was delivered."""
    return Continuation(text=text, anchor=anchor_of(text), prefill=prefill, delivered_tokens=len(text) // 4)


class Joiner:
    """Decides where the text of a second stream begins to be new. `feed` gives the new text, "" while undecided.

    `repeated` is how many characters of the second stream the caller has had before.
    """

    __slots__ = ("_anchor", "_delivered", "_head", "_is_same", "_prefill", "repeated", "state", "why")

    def __init__(self, continuation: Continuation):
        self._delivered = continuation.text
        self._anchor = continuation.anchor
        self._prefill = continuation.prefill
        self._is_same = True  # so far the text is the delivered one from its beginning, `repeated` characters of it
        self._head = ""  # the text since it is not
        self.repeated = 0
        self.state = JoinState.OPEN
        self.why = ""

    def feed(self, text: str) -> str:
        """Takes the next text of the second stream. Once `state` is JOINED, text passes through."""
        if self.state is JoinState.JOINED:
            return text
        if self.state is JoinState.REFUSED:
            return ""
        if not self._is_same:
            self._head += text
            return self._decide(is_whole=False)
        # A replay may be long: only what is new is compared.
        at, delivered = self.repeated, self._delivered
        if delivered.startswith(text, at):
            self.repeated += len(text)
            return self._join("") if self.repeated == len(delivered) else ""
        left = len(delivered) - at
        if text.startswith(delivered[at:]):
            self.repeated = len(delivered)
            return self._join(text[left:])
        self._is_same = False
        self._head = delivered[:at] + text
        return self._decide(is_whole=False)

    def finish(self, *, goes_on: bool = False) -> str:
        """The second stream's text is whole: decides what is still open. `goes_on`: not with text, but with tools."""
        if self.state is not JoinState.OPEN:
            return ""
        if self._is_same:
            self._is_same = False
            self._head = self._delivered[: self.repeated]
        if self._prefill and not goes_on and not self._head.strip():
            # Nothing at all may be the end of the answer or a failure: it proves neither.
            return self._refuse("the answer had nothing to go on with")
        return self._decide(is_whole=True)

    def _decide(self, *, is_whole: bool) -> str:
        """The text is no replay: whether it is the other thing that was asked for."""
        self.repeated = 0
        return self._decide_prefill(is_whole) if self._prefill else self._decide_anchor(is_whole)

    def _decide_prefill(self, is_whole: bool) -> str:
        """A head that begins as the delivered text did is an answer begun anew, not a continuation."""
        same = _common(self._head, self._delivered)
        if same >= min(ANCHOR_MIN, len(self._delivered)) and same > 0:
            return self._refuse("the answer was begun anew and took another way")
        new = self._head
        if self._delivered[-1:].isspace():
            # The prefill was sent without its trailing white space, so the answer may bring its own.
            new = new.lstrip()
        if not new.strip() and not is_whole:
            return ""  # white space alone may be all there is, which proves nothing
        return self._join(new)

    def _decide_anchor(self, is_whole: bool) -> str:
        if len(self._anchor) < ANCHOR_MIN:
            # All of a short text is its anchor; found anywhere but at the head it would prove nothing.
            return self._refuse("the answer does not begin as the delivered text did")
        most = len(self._anchor) + ANCHOR_SLACK
        window = self._head[:most]
        at = window.find(self._anchor)
        preamble = window[: max(at, 0)].strip(" \t")
        if at < 0 or preamble.strip():
            # Behind a preamble it is looked at as a whole: the anchor may be quoted before it is repeated.
            if not is_whole and len(self._head) < most:
                return ""
            if at < 0:
                return self._refuse("the answer did not begin by repeating the anchor")
            if window.find(self._anchor, at + 1) >= 0:
                return self._refuse("the anchor was repeated more than once")
            if not preamble.endswith("\n"):
                return self._refuse("the anchor was repeated in the middle of a line")
        self.repeated = at + len(self._anchor)
        return self._join(self._head[self.repeated :])

    def _join(self, new: str) -> str:
        self.state, self._head = JoinState.JOINED, ""
        return new

    def _refuse(self, why: str) -> str:
        self.state, self.why, self._head = JoinState.REFUSED, why, ""
        return ""


def _common(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    for position, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return position
    return min(len(one), len(other))
