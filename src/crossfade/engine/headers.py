"""Our headers of an answer, rendered. What hardly varies (the route, the target) is rendered and checked once."""

from __future__ import annotations

from typing import Final

from crossfade.core.target import Target
from crossfade.http1.head import Fields, rendered_fields

WHOLE: Final = "content-type: application/json\r\n"
STREAMED: Final = "content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
FAILED: Final = "content-type: application/json\r\nx-should-retry: false\r\n"
"""The official SDKs would walk a chain that has failed twice more."""

_MOST_KNOWN: Final = 4096
_HUNDREDTHS: Final = [f".{hundredths:02d}\r\n" for hundredths in range(100)]


class AnswerHeaders:
    """Renders for one worker. Callers can name models freely, so what is remembered is bounded."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def render(
        self,
        first: str,
        request: str,
        route: str,
        target: Target | None,
        attempts: int,
        fallbacks: int,
        overhead: float,
        reason: str | None,
        more: str = "",
    ) -> Fields:
        """`first` is one of this file's; `overhead` is in seconds; `reason` is why the walk last fell back. `request`
        and `more` are of our own making and go as they are."""
        named = self._known.get((route, "" if target is None else target.name)) or self._remembered(route, target)
        # In pieces: a format specification takes five times as long.
        hundredths = int(overhead * 100_000 + 0.5)
        text = (
            f"x-request-id: {request}\r\nx-crossfade-attempts: {attempts}\r\nx-crossfade-fallbacks: {fallbacks}\r\n"
            f"x-crossfade-overhead-ms: {hundredths // 100}{_HUNDREDTHS[hundredths % 100]}{named}{first}"
        )
        if reason is not None:
            text = f"{text}x-crossfade-fallback-reason: {reason}\r\n"
        return Fields(f"{text}{more}" if more else text)

    def _remembered(self, route: str, target: Target | None) -> str:
        headers = [("x-crossfade-route", route)]
        if target is not None:
            headers += (("x-crossfade-provider", target.provider), ("x-crossfade-model", target.model))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        named = self._known[route, "" if target is None else target.name] = rendered_fields(headers).text
        return named
