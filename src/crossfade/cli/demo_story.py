"""The story of the demo: what is broken act by act, as data, and how it is played and judged.

Every answer is compared with the text of a healthy provider, to the letter. Nothing here knows how the gateway was
started or what the screen looks like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Literal

import msgspec

from crossfade.cli import demo_client
from crossfade.cli.demo_client import Answer
from crossfade.cli.demo_screen import Result, Screen
from crossfade.core.events import Event, RequestEnded
from crossfade.gateway import Gateway
from crossfade.simulator.answers import healthy_text
from crossfade.simulator.faults import parse_step
from crossfade.simulator.thread import ProviderSimulator

ROUTE = "chat"
CHAIN = {"openai": "gpt-5.4", "anthropic": "claude-opus-5", "google": "gemini-3.8-flash"}
"""The targets of the route in order: provider and model."""
TARGETS = tuple(f"{provider}/{model}" for provider, model in CHAIN.items())
PRIMARY = next(iter(CHAIN))

WORDS = 20
PACE = 0.05
"""Fewest words of an answer, and seconds between two words of a stream: to be read along."""
RETURN_REQUESTS = 2
"""Sent once the primary is mended. Successes between outages keep its breaker closed until the story wants it open."""
BEAT = 0.2
"""Seconds between two acts, where somebody is looking on."""

_CLOCK_STEP = 0.02
"""Seconds by which an event loop may wake early."""

Mode = Literal["buffered", "streamed"]


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """One act. `broken`: the fault (`crossfade simulate --list-faults`) of each provider that has one.

    `waits`: it begins when the primary may be called again. `mends`: at its end the primary is mended, and answers.
    `is_outage`: nobody can answer, and the caller has to be told so.
    """

    title: str
    broken: Mapping[str, str] = {}
    asks: tuple[Mode, ...] = ("buffered",)
    note: str = ""
    waits: bool = False
    mends: bool = True
    is_outage: bool = False


ACTS = (
    Act(title="All is well", asks=("buffered", "streamed"), mends=False),
    Act(title="The primary answers 500", broken={"openai": "500"}),
    Act(title="The primary resets the connection", broken={"openai": "reset"}),
    Act(title="The primary answers 200, and says nothing", broken={"openai": "empty"}),
    Act(title="The primary answers 200, and it is no JSON", broken={"openai": "malformed"}),
    Act(
        title="The primary answers 429: come back in a second",
        broken={"openai": "429; retry_after=1"},
        asks=("buffered", "buffered"),
        note="The second request does not even ask it.",
    ),
    Act(
        title="The primary's stream turns into an error before its first word",
        broken={"openai": "error_event@start"},
        asks=("streamed",),
    ),
    Act(
        title="The primary's stream is cut in the middle",
        broken={"openai": "cut@middle"},
        asks=("streamed",),
        note="Half of the answer has gone out already: the next provider goes on in mid-sentence.",
    ),
    Act(
        title="The primary's stream turns into an error, and its successor's is reset",
        broken={"openai": "error_event@0.5; error=503", "anthropic": "cut_reset@0.7"},
        asks=("streamed",),
        note="One answer, three providers.",
    ),
    Act(
        title="The primary's stream goes silent in the middle",
        broken={"openai": "stall@middle"},
        asks=("streamed",),
        note="Two seconds without a word are too long here.",
    ),
    Act(
        title="The primary takes requests and never answers",
        broken={"openai": "silence"},
        asks=("buffered", "buffered"),
        note="Two silences in a row open its breaker.",
        mends=False,
    ),
    Act(
        title="It is still silent, but nobody waits for it any more",
        broken={"openai": "silence"},
        asks=("buffered", "streamed"),
        mends=False,
    ),
    Act(
        title="The primary is mended; when its breaker is due, the next request tries it",
        asks=("buffered", "buffered", "buffered"),
        waits=True,
        mends=False,
    ),
    Act(
        title="Everything is down (this one must fail, and say why)",
        broken={"openai": "503", "anthropic": "529", "google": "500"},
        mends=False,
        is_outage=True,
    ),
)


class Story:
    """Plays acts against a running gateway whose events it is given by `hear`; `results` has a row per request."""

    def __init__(self, gateway: Gateway, simulator: ProviderSimulator, screen: Screen):
        self.results: list[Result] = []
        self._gateway = gateway
        self._simulator = simulator
        self._screen = screen
        self._rows: dict[str, RequestEnded] = {}
        self._primary = gateway.board.of(gateway.config.routes[ROUTE].chain[0].targets[0])

    @property
    def is_good(self) -> bool:
        """Whether no caller had to complain."""
        return all(result.problem is None for result in self.results)

    def hear(self, event: Event) -> None:
        if isinstance(event, RequestEnded):
            self._rows[event.id] = event
        else:
            self._screen.tell(event)

    async def play(self, acts: Iterable[Act]) -> None:
        for number, act in enumerate(acts, 1):
            await self._act(number, act)
            if self._screen.is_live:
                await asyncio.sleep(BEAT)
        for provider in CHAIN:
            self._simulator.schedule(provider=provider)

    async def _act(self, number: int, act: Act) -> None:
        broken = [f"broken: {provider} = {fault}" for provider, fault in act.broken.items()]
        self._screen.head(f"{number}. {act.title}", [*broken, act.note] if act.note else broken)
        if act.waits:
            await self._wait_for_primary()
        for mode in act.asks:
            result = await self._request(mode, act.broken, is_outage=act.is_outage)
            # A stream's line has its label already: the text.
            self._screen.result("" if mode == "streamed" else mode, result)
        if act.mends:
            await self._return()

    async def _return(self) -> None:
        """The primary is mended, and requests go to it again."""
        waited = await self._wait_for_primary()
        results = [await self._request("buffered") for _ in range(RETURN_REQUESTS)]
        for result in results:
            if result.problem is not None:
                self._screen.result("mended", result)
        served = " and ".join(sorted({result.row.served or "nobody" for result in results if result.row is not None}))
        after = f", {waited:.1f} s later" if waited >= 0.1 else ""
        self._screen.line("mended", f"the next {len(results)} requests are answered by {served}{after}")

    async def _wait_for_primary(self) -> float:
        """Waits until the gateway would call the primary; gives the seconds that took."""
        now = perf_counter()
        until = self._primary.out_until(now)
        if until is None:
            return 0.0
        await asyncio.sleep(until - now + _CLOCK_STEP)
        return perf_counter() - now

    async def _request(self, mode: Mode, broken: Mapping[str, str] = {}, *, is_outage: bool = False) -> Result:
        """One request with the providers `broken`, judged."""
        prompt = f"Request {len(self.results) + 1} of the demo"
        words = words_for(prompt)
        for provider in CHAIN:
            self._simulator.schedule(then=fault_text(broken.get(provider, "ok"), mode, words), provider=provider)
        answer = await (self._streamed(prompt) if mode == "streamed" else self._ask(prompt))
        expected = healthy_text(prompt, words)
        result = Result(
            row=self._rows.pop(answer.request, None),
            answer=answer,
            problem=outage_problem(answer) if is_outage else problem_of(answer, expected),
            is_outage=is_outage,
        )
        self.results.append(result)
        return result

    async def _streamed(self, prompt: str) -> Answer:
        self._screen.start_stream("streamed")
        try:
            return await self._ask(prompt, is_streamed=True)
        finally:
            self._screen.end_stream()

    async def _ask(self, prompt: str, *, is_streamed: bool = False) -> Answer:
        """Asks from a thread, as a program of its own would; what it hears comes back to this one in order."""
        loop, screen = asyncio.get_running_loop(), self._screen

        def on_text(text: str) -> None:
            loop.call_soon_threadsafe(screen.piece, text)

        def on_comment(text: str) -> None:
            loop.call_soon_threadsafe(screen.comment, text)

        port = self._gateway.port
        heard = on_text if is_streamed else None
        return await asyncio.to_thread(demo_client.ask, "127.0.0.1", port, ROUTE, prompt, heard, on_comment)


def words_for(prompt: str) -> int:
    """The length of the answer: `WORDS`, and on to the end of the sentence, lest a whole answer look like a cut one."""
    words = healthy_text(prompt, 2 * WORDS).split()
    return next((n for n in range(WORDS, len(words)) if words[n - 1].endswith(".")), WORDS)


def fault_text(fault: str, mode: Mode, words: int) -> str:
    """The fault with the length and, for streams, the pace of the demo, where it has them."""
    options = parse_step(fault).row.options
    wanted = {"words": words} | ({"pace": PACE} if mode == "streamed" else {})
    return "; ".join([fault, *(f"{name}={value}" for name, value in wanted.items() if name in options)])


def problem_of(answer: Answer, expected: str) -> str | None:
    """What a caller would complain of, if anything."""
    if answer.status != 200 or answer.error:
        return f"the caller saw a failure: {answer.status} {answer.error}"
    if not answer.is_whole:
        return "the answer did not end as it should"
    if answer.text != expected:
        return f"the text is wrong: {answer.text!r} instead of {expected!r}"
    return None


def outage_problem(answer: Answer) -> str | None:
    """With everything down an error is right, if it is one and names every target."""
    if answer.status < 500:
        return f"{answer.status} is no honest answer while everything is down"
    missing = [name for name in TARGETS if name not in answer.error]
    return f"the error does not name {missing[0]}: {answer.error}" if missing else None
