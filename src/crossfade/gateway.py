"""A gateway in this process: puts the parts together for one configuration, and runs them.

`crossfade serve` runs one in a process of its own; tests and other programs can run one beside their own code.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Self

import msgspec

import crossfade
from crossfade.config.directory import Directory
from crossfade.config.leaves import Address
from crossfade.config.problems import ConfigErrors
from crossfade.config.settings import Config
from crossfade.core.errors import ConfigError
from crossfade.core.health import HealthBoard
from crossfade.core.policy import HealthPolicy
from crossfade.edge.admin import AdminApp
from crossfade.edge.app import App
from crossfade.edge.auth import Gate, Key
from crossfade.edge.balance import Balance
from crossfade.edge.intake import Intake
from crossfade.edge.status import Status
from crossfade.engine.engine import Engine
from crossfade.engine.ports import Recorder
from crossfade.engine.probes import Prober
from crossfade.engine.targets import Upstream, Upstreams, upstreams_of
from crossfade.http1.limits import Limits
from crossfade.http1.listener import Listener
from crossfade.providers.registry import provider_for, versioned
from crossfade.rehearsal.faults import Injection
from crossfade.transport.base import Transport
from crossfade.transport.chaos import ChaosTransport, Fault
from crossfade.transport.http import HttpTransport

HEALTH = HealthPolicy()
DRAIN_TIME = 30.0
"""Seconds that requests under way have to end when the gateway is stopped."""


class Gateway:
    """A running gateway. Made by `open`; ended by `close`, or as a context manager.

    `engine`, `board` and `app` are there for those who look inside: tests, benches, commands.
    """

    def __init__(
        self,
        config: Config,
        app: App,
        status: Status,
        injection: Injection,
        extra_keys: tuple[tuple[str, Key], ...],
        health: HealthPolicy,
    ):
        self.config = config
        self.app = app
        self.engine = app.engine
        self.board = app.engine.board
        self.injection = injection
        self.prober = Prober(app.engine, app.probe, asyncio.get_running_loop())
        self.prober.configure(config.routes.values(), config.probes)
        status.probing = lambda: self.prober.probing
        self._status = status
        self._extra_keys = extra_keys
        self._health = health
        self._listeners: list[Listener] = []

    @classmethod
    async def open(
        cls,
        config: Config,
        environ: Mapping[str, str],
        recorder: Recorder,
        *,
        extra_keys: Iterable[tuple[str, Key]] = (),
        faults: Iterable[Fault] = (),
        health: HealthPolicy = HEALTH,
        transport: Transport | None = None,
        is_listening: bool = True,
    ) -> Self:
        """Starts a gateway on the running loop.

        `extra_keys` are hashes and keys beside the configured ones, `faults` are injected below dispatch, and
        `transport` replaces the real one. Raises ConfigErrors for a secret that cannot be read or an address that
        cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        board = HealthBoard(random.Random().random, health)
        board.configure(config.routes.values(), health)
        inner: Transport = transport or HttpTransport(loop=loop, proxies=environ)
        chaos = ChaosTransport(inner, faults, loop=loop)
        engine = Engine(
            transport=chaos,
            upstreams=_upstreams(config, environ),
            board=board,
            recorder=recorder,
            loop=loop,
            overload=config.overload,
        )
        extra_keys = tuple(extra_keys)
        gate = _gate(config, extra_keys)
        runners = engine.runners
        status = Status(board, version=config.version, program=crossfade.__version__, under_way=lambda: len(runners))
        status.shedding = engine.shedding
        app = App(engine, Directory(config), gate, status)
        gateway = cls(config, app, status, Injection(chaos, config, loop.time), extra_keys, health)
        if is_listening:
            try:
                await gateway._listen()
            except BaseException:
                await gateway.close(0)
                raise
        return gateway

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(0)

    async def _listen(self) -> None:
        server = self.config.server
        limits = msgspec.convert(msgspec.structs.asdict(self.config.limits), Limits)
        settle = self.engine.recorder.settle  # a stream's commit is on record before its first bytes are out
        self._listeners.append(await _listener(self.config, "listen", server.listen, self.app, limits, settle))
        balance = Balance(self.board, self.engine.balancer, lambda: self.config.routes)
        admin = AdminApp(
            self._status, self.injection, balance, lambda: self.app.gate, is_loopback=server.admin.is_loopback
        )
        self._listeners.append(await _listener(self.config, "admin", server.admin, admin, Limits()))

    @property
    def listener(self) -> Listener:
        """That of the data plane."""
        return self._listeners[0]

    @property
    def port(self) -> int:
        """Where the data plane listens."""
        return self.listener.port

    @property
    def admin_port(self) -> int:
        return self._listeners[1].port

    @property
    def url(self) -> str:
        return f"http://{_shown_host(self.config.server.listen.host)}:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"http://{_shown_host(self.config.server.admin.host)}:{self.admin_port}"

    def reload(self, config: Config, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Takes a new configuration for all requests from now on; those under way keep the old one. Health is kept,
        but for providers whose address or keys are others now. Returns the names of settings that changed and need
        a restart. Raises ConfigErrors, and then everything is as it was."""
        upstreams = _upstreams(config, environ)
        before = self.config
        for name, provider in config.providers.items():
            old = before.providers.get(name)
            if old is None:
                continue
            # The same reference may lead to other keys: they have changed in their file.
            has_other_keys = self.engine.upstreams.secrets_of(name) != upstreams.secrets_of(name)
            known = (old.vendor, old.api_keys, old.accounts)
            if has_other_keys or known != (provider.vendor, provider.api_keys, provider.accounts):
                self.board.forget(name)
        self.board.configure(config.routes.values(), self._health)
        self.engine.upstreams = upstreams
        self.engine.shedding.retune(config.overload)
        self.prober.configure(config.routes.values(), config.probes)
        self.app.intake = Intake(Directory(config))
        self.app.gate = _gate(config, self._extra_keys)
        self._status.configuration = config.version
        self.config = self.injection.config = config
        return tuple(name for name in _AT_START if getattr(before, name) != getattr(config, name))

    async def close(self, timeout: float = DRAIN_TIME) -> None:
        """Takes no new requests, lets those under way end for `timeout` seconds, and ends the rest."""
        self._status.is_draining = True
        if self._listeners:
            await self._listeners[0].drain(timeout, self.engine.shut_down)
        self.prober.close()
        self.engine.close()
        for listener in self._listeners:
            await listener.close()
        self._listeners.clear()


_AT_START = ("server", "limits", "journal", "log", "state_dir")
"""Settings that are read when the gateway starts, and not again."""


def _gate(config: Config, extra_keys: tuple[tuple[str, Key], ...]) -> Gate:
    keys = [(key.hash, Key(key.name, key.route, key.project)) for key in config.gateway_keys]
    return Gate([*keys, *extra_keys], wants_keys=config.wants_keys, is_loopback=config.server.listen.is_loopback)


def settle_memory() -> None:
    """Freezes what start-up has made and relaxes the collector: requests make hardly any cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _upstreams(config: Config, environ: Mapping[str, str]) -> Upstreams:
    """Resolves the secrets of all providers. Raises ConfigErrors naming each that cannot be read."""
    errors: list[ConfigError] = []
    by_provider: dict[str, tuple[Upstream, ...]] = {}
    for provider in config.providers.values():
        secrets: list[str] = []
        for number, reference in enumerate(provider.api_keys):
            try:
                secrets.append(reference.read(environ))
            except ValueError as error:
                place = f"providers.{provider.name}.api_keys[{number}]"
                errors.append(ConfigError(str(error), file=config.file, field=place))
        by_provider[provider.name] = upstreams_of(
            provider_for(provider.vendor),
            versioned(provider.vendor),
            secrets,
            network=provider.network,
            keep_idle=provider.vendor.keep_idle,
            limits=provider.vendor.limits,
        )
    if errors:
        raise ConfigErrors(errors)
    return Upstreams(by_provider)


async def _listener(
    config: Config,
    what: str,
    address: Address,
    handler: App | AdminApp,
    limits: Limits,
    before_pieces: Callable[[], None] | None = None,
) -> Listener:
    try:
        return await Listener.open(address.host, address.port, handler, limits, before_pieces=before_pieces)
    except OSError as error:
        # Names that cannot be looked up have numbers of their own, below nought.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        hint = "stop what listens there, or change it" if error.errno == errno.EADDRINUSE else "change it"
        raise ConfigErrors(
            [ConfigError(f"cannot listen on {address}: {why}; {hint}", file=config.file, field=f"server.{what}")]
        ) from None


def _shown_host(host: str | None) -> str:
    if host in (None, "", "0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in str(host) else str(host)
