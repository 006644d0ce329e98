"""What it costs to choose a chain: 20 rules and 10 targets, in this process alone and without any socket.

`measure_planning` runs this module with the interpreter whose crossfade is measured; run so, it prints microseconds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.scenarios import Bench, Result

RULES, TARGETS = 20, 10
_REACH: Final = 15.0
_ROUNDS: Final = 15
_CALLS: Final = 5_000

_WHENS: Final = (
    "{tools: false, input_tokens: {above: 10000%d}}",
    "{stream: false, images: true, key: 'k%d'}",
    "{response_format: [json_object, json_schema], model: 'm%d'}",
    "{tags: ['batch-*', 't%d']}",
    "{headers: {x-tier: 'gold-*-%d'}}",
    "{files: false, key: [web, 'app-%d-*']}",
    "{model: ['gpt-*', 'claude-*-%d']}",
)
"""Made different by a number. None of them holds for the request."""
_ASK: Final = (
    "Our importer reads a million lines a minute and falls behind on Mondays. Explain how you would find the cause,"
    " which measurements you would take in which order, and what each of them would rule out."
)


def measure_planning(bench: Bench) -> list[Result]:
    """CPU of a request's rules and plan."""
    from bench.scenarios import Result

    command = [str(bench.python), "-m", "bench.planning"]
    figures: dict[str, list[float]] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    plain, scored = figures["planning"], figures["scored"]
    bench.note(
        f"planning: {statistics.median(plain):.1f} us, with a rule about complexity {statistics.median(scored):.1f}"
    )
    note = f"with a rule about complexity, and an ask of {len(_ASK)} characters: {statistics.median(scored):.1f} µs"
    return [
        Result(
            name=f"planning, {RULES} rules, {TARGETS} targets",
            values=plain,
            reach=_REACH,
            form="{:.1f} µs",
            unit="µs/request",
            pairs=[],
            notes=[f"planning: {note}"],
        )
    ]


def _config(whens: list[str]) -> str:
    chain = ", ".join(f"p{number}/m" for number in range(TARGETS))
    lines = ["providers:"]
    for number in range(TARGETS):
        models = f"{{m: {{price_in: {number + 1}, price_out: {number + 1}, window: 200000}}}}"
        lines.append(f"  p{number}: {{dialect: openai, base_url: 'http://127.0.0.1:9/v1', models: {models}}}")
    lines += ["routes:", "  chat:", f"    chain: [{chain}]", "    max_cost: 8x", "    rules:"]
    for number, when in enumerate(whens):
        lines.append(f"    - {{when: {when.replace('%d', str(number))}, chain: [{chain}]}}")
    return "\n".join(lines)


def _planner(text: str) -> Callable[[], Any]:
    """A call that does what the gateway does with a request between reading it and its first call."""
    from crossfade.config.directory import Directory
    from crossfade.config.loader import load_config
    from crossfade.core.health import HealthBoard
    from crossfade.core.planner import plan
    from crossfade.edge.intake import Caller, Intake
    from crossfade.edge.openai_chat import CHAT_COMPLETIONS
    from crossfade.providers.compatible import VENDORS

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crossfade.yaml"
        file.write_text(text)
        config = load_config(file, {}, VENDORS)
    board = HealthBoard(lambda: 0.5)
    board.configure(config.routes.values())
    intake = Intake(Directory(config))
    caller = Caller.of({"content-type": "application/json", "x-tier": "silver"}, None)
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": _ASK}]}).encode()
    inbound = CHAT_COMPLETIONS.read(body, caller)
    now = time.perf_counter()

    def one() -> Any:
        admitted = intake.admit(inbound.ours, inbound.facts, caller, body)
        return plan(admitted.route, inbound.facts, board.ranks("chat", now), None, None)

    made = one()
    assert len(made.rungs) == 8, "two of ten cost more than 8 times what the first does"
    return one


def _microseconds(call: Callable[[], Any]) -> list[float]:
    found = []
    for _ in range(_ROUNDS):
        began = time.process_time()
        for _ in range(_CALLS):
            call()
        found.append((time.process_time() - began) / _CALLS * 1e6)
    return found


def main() -> None:
    """Prints the figures as JSON: without, and with a rule that looks at the text."""
    whens = [_WHENS[number % len(_WHENS)] for number in range(RULES)]
    scored = [*whens[:-1], "{complexity: {below: 0.1}}"]
    figures = {"planning": _microseconds(_planner(_config(whens))), "scored": _microseconds(_planner(_config(scored)))}
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
