"""The record of a process: its journal and its log, as the configuration wants them."""

from __future__ import annotations

import asyncio

from crossfade.config.settings import Config
from crossfade.store.journal import Journal
from crossfade.telemetry.hub import Hub
from crossfade.telemetry.logs import Logs


def open_recorder(config: Config, loop: asyncio.AbstractEventLoop) -> Hub:
    """A recorder on `loop`. Nothing of it raises for the disk's sake: a journal that cannot be written says so in the
    log, and requests go on."""
    logs = Logs(config.log.format, config.log.level, later=loop.call_later)
    logs.install()
    journal = Journal(
        config.journal.path, version=config.version, loop=loop, fsync=config.journal.fsync, report=logs.say
    )
    return Hub(journal, logs)
