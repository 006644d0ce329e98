"""Faults as people name them, made ready for injection.

The transport's fault injection knows no dialects, so what an empty answer looks like is said here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

import msgspec

from crossfade.config.settings import Config
from crossfade.core.errors import InvalidRequest
from crossfade.core.target import Dialect
from crossfade.transport.chaos import ChaosTransport, Fault, FaultKind, parse_fault

_EMPTY: Mapping[Dialect, bytes] = MappingProxyType(
    {
        "openai": b'{"id":"chatcmpl-injected","object":"chat.completion","created":0,"model":"injected","choices":'
        b'[{"index":0,"message":{"role":"assistant","content":""},"finish_reason":"stop"}]}',
        "anthropic": b'{"id":"msg_injected","type":"message","role":"assistant","model":"injected","content":[],'
        b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":0}}',
        "gemini": b'{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP",'
        b'"index":0}]}',
        "bedrock": b'{"output":{"message":{"role":"assistant","content":[{"text":""}]}},"stopReason":"end_turn",'
        b'"usage":{"inputTokens":1,"outputTokens":0,"totalTokens":1}}',
        "cohere": b'{"id":"chaos","message":{"role":"assistant","content":[{"type":"text","text":""}]},'
        b'"finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":1,"output_tokens":0}}}',
        "ollama": b'{"model":"injected","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop",'
        b'"prompt_eval_count":1,"eval_count":0}',
    }
)


class Injection:
    """The faults that are injected below dispatch of a running gateway. `providers` are those of its configuration."""

    def __init__(self, transport: ChaosTransport, config: Config, clock: Callable[[], float]):
        self.config = config
        self._transport = transport
        self._clock = clock

    def set(self, asked: Iterable[tuple[str, float, float]]) -> None:
        """Replaces all faults: each is `target=kind`, its share of the calls, and the seconds until it is off.
        Raises InvalidRequest, and then everything is as it was."""
        now = self._clock()
        rules = [
            msgspec.structs.replace(fault, rate=rate, expires_at=now + seconds)
            for text, rate, seconds in asked
            for fault in faults_of([text], self.config)
        ]
        self._transport.set_rules(rules)

    def shown(self) -> list[dict[str, str | float]]:
        """The faults that are on."""
        now = self._clock()
        live = [rule for rule in self._transport.rules if rule.expires_at is None or rule.expires_at > now]
        return [_shown(rule, now) for rule in live]


def _shown(fault: Fault, now: float) -> dict[str, str | float]:
    shown: dict[str, str | float] = {"target": fault.match, "kind": fault.kind, "rate": fault.rate}
    if fault.expires_at is not None:
        shown["expires_in"] = round(fault.expires_at - now, 1)
    return shown


def faults_of(texts: Iterable[str], config: Config) -> list[Fault]:
    """The faults of `TARGET=KIND` texts; TARGET is a provider, `provider/model`, or a pattern of either.

    Raises InvalidRequest for an unknown kind, and for a target that no provider of the configuration matches.
    """
    faults: list[Fault] = []
    for text in texts:
        try:
            fault = parse_fault(text)
        except ValueError as error:
            raise InvalidRequest(f"{text}: {error}") from None
        providers = [name for name in config.providers if fnmatchcase(name, fault.match.partition("/")[0])]
        if not providers:
            known = ", ".join(config.providers)
            raise InvalidRequest(f"{text}: no provider is called {fault.match!r}; there are {known}")
        faults += [_for_provider(fault, name, config) for name in providers]
    return faults


def _for_provider(fault: Fault, provider: str, config: Config) -> Fault:
    model = fault.match.partition("/")[2]
    match = f"{provider}/{model}" if model else provider
    body = _EMPTY[config.providers[provider].vendor.dialect] if fault.kind is FaultKind.EMPTY else fault.body
    return msgspec.structs.replace(fault, match=match, body=body)
