"""`crossfade serve` but for its breaker, which never opens: so that every request of the measurement falls back.

With the real one a target that always fails is left alone after five failures, and there would be no fallback to
measure. Run as `python -m bench.worker CONFIG`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import uvloop

from crossfade.cli.loading import load
from crossfade.core.policy import BreakerPolicy, HealthPolicy
from crossfade.gateway import Gateway, settle_memory
from crossfade.recording import open_recorder

_NEVER = 10**9
HEALTH = HealthPolicy(
    breaker=BreakerPolicy(consecutive_failures=_NEVER, consecutive_silences=_NEVER, failure_ratio=2.0)
)


async def serve(file: Path) -> None:
    """Serves `file` until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    config = load(file)
    recorder = open_recorder(config, loop)
    try:
        async with await Gateway.open(config, os.environ, recorder, health=HEALTH):
            settle_memory()
            await stopped.wait()
    finally:
        recorder.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Path(sys.argv[1])))
