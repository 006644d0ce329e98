"""The admin listener of a worker: probes, the status of every target, changes of the balance, and fault injection for
rehearsals.

It has no keys of its own, so it answers loopback callers only as a keyless gateway does, and takes changes on a
loopback listener alone; orchestrators may probe its health under any name. Prompts, answers and secrets cannot be had
here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from crossfade.core.errors import InvalidRequest, RequestError
from crossfade.core.words import parse_duration
from crossfade.edge.auth import Gate
from crossfade.edge.balance import Balance
from crossfade.edge.openai_chat import CHAT
from crossfade.edge.problems import JSON, problem, problem_of
from crossfade.edge.status import Status
from crossfade.http1.request import Request
from crossfade.rehearsal.faults import Injection

_PROBES: Final = frozenset({"/healthz", "/readyz"})
_STATUS: Final = "/status"
_FAULTS: Final = "/faults"
_BALANCE: Final = "/balance"
_CHANGED: Final = {_FAULTS: "Faults can be injected", _BALANCE: "The balance can be changed"}


class _FaultAsked(msgspec.Struct, forbid_unknown_fields=True):
    """One fault to inject: `target` and `kind` as in `--break target=kind`."""

    target: str
    kind: str
    rate: float = 1.0
    expires_in: str | float = 300.0


class AdminApp:
    """The handler of the admin listener. `is_loopback` is whether it listens on a loopback address; elsewhere the
    status is shown to those alone who have a key by the gate of the data plane, which `keys` gives."""

    def __init__(
        self, status: Status, injection: Injection, balance: Balance, keys: Callable[[], Gate], *, is_loopback: bool
    ):
        self._keys = keys
        self._status = status
        self._injection = injection
        self._balance = balance
        self._is_loopback = is_loopback
        self._gate = Gate((), wants_keys=False, is_loopback=is_loopback)

    def on_head(self, request: Request) -> None:
        if request.path in _PROBES:
            self._status.answer(request)
            return
        if request.path == _STATUS:
            if self._admits(request):
                self._status.answer(request)
        elif (what := _CHANGED.get(request.path)) is None:
            self._refuse(request, 404, f"There is no {request.path!r} here.")
        elif request.method not in ("GET", "PUT", "DELETE"):
            self._refuse(request, 405, f"{request.path} takes GET, PUT and DELETE.")
        elif not self._is_loopback:
            self._refuse(request, 403, f"{what} on a loopback admin listener only.")
        elif self._admits(request) and request.method == "PUT" and not _is_json(request):
            self._refuse(request, 415, "The body must be `application/json`.")

    def _admits(self, request: Request) -> bool:
        """Whether the caller may ask; otherwise it is answered."""
        try:
            if self._is_loopback:
                self._gate.admit(request.headers, request.peer[0], request.received_at)
            else:
                self._keys().identify(request.headers, request.peer[0], request.received_at)
        except RequestError as error:
            headers, body = problem_of(CHAT, error)
            request.respond(error.status, headers, body)
            return False
        return True

    def on_request(self, request: Request) -> None:
        try:
            shown = self._balanced(request) if request.path == _BALANCE else self._injected(request)
        except RequestError as error:
            headers, body = problem_of(CHAT, error)
            request.respond(error.status, headers, body)
            return
        request.respond(200, [JSON], msgspec.json.encode(shown))

    def _injected(self, request: Request) -> dict[str, Any]:
        if request.method == "PUT":
            self._injection.set(_asked(request.body))
        elif request.method == "DELETE":
            self._injection.set(())
        return {"faults": self._injection.shown()}

    def _balanced(self, request: Request) -> dict[str, Any]:
        if request.method == "PUT":
            self._balance.set(request.body)
        elif request.method == "DELETE":
            self._balance.reset()
        return self._balance.shown()

    def on_gone(self, request: Request) -> None:
        """Nothing is under way."""

    def on_pressure(self, request: Request, is_pressed: bool) -> None:
        """Answers are short."""

    def problem(self, status: int, message: str, path: str) -> tuple[list[tuple[str, str]], bytes]:
        return problem(CHAT, status, message)

    def _refuse(self, request: Request, status: int, message: str) -> None:
        headers, body = problem(CHAT, status, message)
        request.respond(status, headers, body)


def _is_json(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/json")


def _asked(body: bytes) -> list[tuple[str, float, float]]:
    """Each fault as `target=kind`, its share of calls, and the seconds it lasts."""
    try:
        asked = msgspec.json.decode(body, type=list[_FaultAsked])
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body must be a list of faults: {error}.", param="body") from None
    return [_one(fault, place) for place, fault in enumerate(asked)]


def _one(fault: _FaultAsked, place: int) -> tuple[str, float, float]:
    if not 0 < fault.rate <= 1:
        raise InvalidRequest(f"`[{place}].rate` must be above 0 and at most 1.", param=f"[{place}].rate")
    try:
        seconds = parse_duration(fault.expires_in)
    except ValueError as error:
        raise InvalidRequest(f"`[{place}].expires_in`: {error}.", param=f"[{place}].expires_in") from None
    return f"{fault.target}={fault.kind}", fault.rate, seconds
