"""A caller's OpenAI chat request: what deciding needs of it, and its bytes for a target of the same dialect.

Only deciding fields are decoded, and a request without the rarer of them takes a short way; the bytes pass but for
the model name and the few edits that a target needs. The whole request is read (`canonical`) only where it must be
translated.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Ability, ChatRequest, Continuation, OutputFormat, RequestFacts
from crossfade.core.target import Dialect, Target
from crossfade.wire import openai_request_shapes as shapes
from crossfade.wire.members import Members, read_members
from crossfade.wire.openai_bodies import edited_body
from crossfade.wire.openai_canonical import read_canonical
from crossfade.wire.ours import MAX_MODEL, OUR_FIELDS, Ours, has_our_headers, read_ours, with_headers
from crossfade.wire.reading import BOM, MAX_MESSAGES, MAX_TOOLS, check_size, unreadable, value_of

DECIDING: Final = (
    "model",
    "messages",
    "stream",
    "n",
    "tools",
    "response_format",
    "stream_options",
    "fallback_models",
    "models",
    "fallbacks",
    "fallback_on",
    "crossfade",
)
"""Fields that must not come twice: two readers could then see two requests."""
_MAX_N: Final = 128

_MOST_DATA: Final = 10_000


_decode: Final = msgspec.json.Decoder(shapes.Request).decode
_decode_texts: Final = msgspec.json.Decoder(list[shapes.TextMessage]).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
_decode_bool: Final = msgspec.json.Decoder(bool).decode
_RARE: Final = frozenset((*shapes.Request.__struct_fields__, *OUR_FIELDS)) - {"messages", "model", "stream"}
"""Fields that decide something and are not read on the short way."""


class ChatInbound:
    """A caller's chat request; an `Inbound`. Made by `read_request`.

    `max_tokens_field` is the name under which the caller set its limit of output tokens; `has_our_fields`: the body has
    members that must not go upstream.
    """

    __slots__ = ("_canonical", "dialect", "facts", "has_our_fields", "max_tokens_field", "members", "ours")

    def __init__(
        self,
        members: Members,
        facts: RequestFacts,
        ours: Ours,
        max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None,
        has_our_fields: bool = False,
    ) -> None:
        self.dialect: Dialect = "openai"
        self.members = members
        self.facts = facts
        self.ours = ours
        self.max_tokens_field = max_tokens_field
        self.has_our_fields = has_our_fields
        self._canonical: ChatRequest | None = None

    def __repr__(self) -> str:
        return f"<ChatInbound {self.ours.model!r} {'streamed' if self.facts.stream else 'buffered'}>"

    def canonical(self) -> ChatRequest:
        """The whole request, read once and kept. Raises InvalidRequest naming the field."""
        if self._canonical is None:
            self._canonical = read_canonical(self.members.raw)
        return self._canonical

    def body(
        self,
        target: Target,
        stream: bool,
        include_usage: bool,
        continuation: Continuation | None = None,
        marks_prefix: bool = False,
    ) -> bytes:
        """The caller's bytes with what must differ for `target`. `marks_prefix`: see `with_turns`."""
        can_splice = self.members.can_splice and not self.has_our_fields
        if can_splice and not (continuation or target.set_params or target.drop_params):
            body = self._spliced(target.model, stream, include_usage)
            if body is not None:
                return body
        return edited_body(
            self.members.values,
            target,
            stream=stream,
            include_usage=include_usage,
            continuation=continuation,
            marks_prefix=marks_prefix,
        )

    def _spliced(self, model: str, stream: bool, include_usage: bool) -> bytes | None:
        """The bytes with another model name and what makes a stream of it; None where a member must go."""
        facts, members = self.facts, self.members
        edits: dict[str, object] = {}
        if model != self.ours.model:
            edits["model"] = model
        if stream != facts.stream:
            edits["stream"] = stream
        if "stream_options" in members.values:
            if not (stream and include_usage and facts.include_usage):
                return None
        elif stream and include_usage:
            edits["stream_options"] = {"include_usage": True}
        return members.spliced(edits) if edits else members.raw


def read_request(body: bytes, headers: Mapping[str, str]) -> ChatInbound:
    """The request in `body`. `headers` have lower-case names. Raises InvalidRequest naming the field."""
    check_size(body)
    try:
        members = read_members(body)
        plain = _read_plain(members, headers)
        if plain is not None:
            return plain
        given = _decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except msgspec.DecodeError as error:
        if body.startswith(BOM):
            return read_request(body[3:], headers)
        raise unreadable(body, error, read_canonical) from None
    if not members.can_splice:
        members.check_repeated(DECIDING)
    ours = read_ours(given.model, members.values, headers)
    limit = given.max_completion_tokens
    field: Literal["max_tokens", "max_completion_tokens"] | None = None
    if limit is not None:
        field = "max_completion_tokens"
    elif given.max_tokens is not None:
        limit, field = given.max_tokens, "max_tokens"
    has_our_fields = not members.values.keys().isdisjoint(OUR_FIELDS)
    return ChatInbound(members, _facts(given, body, limit), ours, field, has_our_fields=has_our_fields)


def _read_plain(members: Members, headers: Mapping[str, str]) -> ChatInbound | None:
    """A request of text messages without any field of `_RARE`, by far the most usual one. None where it is none, or
    something is wrong with it: the long way says what."""
    top = members.values
    if not members.can_splice or not _RARE.isdisjoint(top):
        return None
    try:
        messages = _decode_texts(top["messages"])
        model = _decode_text(top["model"])
        stream = "stream" in top and _decode_bool(top["stream"])
    except (KeyError, msgspec.DecodeError):
        return None
    if not 0 < len(messages) <= MAX_MESSAGES or not 0 < len(model) <= MAX_MODEL:
        return None
    if messages[-1].role in _AFTER_TOOLS:
        return None
    ours = Ours(model=model)
    if headers and has_our_headers(headers):
        ours = with_headers(ours, headers)
    return ChatInbound(members, RequestFacts(stream=stream, input_tokens=len(members.raw) // 4), ours)


# --- facts ---------------------------------------------------------------------------------------------------


def _facts(given: shapes.Request, body: bytes, limit: int | None) -> RequestFacts:
    if not given.messages:
        raise InvalidRequest("`messages` must have at least one message.", param="messages")
    if len(given.messages) > MAX_MESSAGES:
        raise InvalidRequest(f"`messages` has more than {MAX_MESSAGES:,} messages.", param="messages")
    n = 1 if given.n is None else given.n
    if not 1 <= n <= _MAX_N:
        raise InvalidRequest(f"`n` must be from 1 to {_MAX_N}.", param="n")
    if limit is not None and limit < 1:
        limit = None  # some servers take 0 or -1 for "no limit"
    last = given.messages[-1].role
    tools, has_other_tools = _tools(given) if given.tools or given.functions else (_NO_NAMES, False)
    has_parts = _has_parts(given.messages)
    options = given.stream_options
    return RequestFacts(
        stream=given.stream is True,
        n=n,
        include_usage=options is not None and options.include_usage is True,
        input_tokens=_input_tokens(body) if has_parts else len(body) // 4,
        max_tokens=limit,
        needs=_needs(given, has_parts, bool(tools) or has_other_tools),
        tools=tools,
        has_other_tools=has_other_tools,
        tool_choice=_tool_choice(given),
        output=None if given.response_format is None else _output(given.response_format),
        has_stop=bool(value_of(given.stop, "stop")),
        logprobs=given.logprobs is True,
        audio=_wants_audio(given),
        thinking=_is_thinking(given),
        is_stored=bytes(given.store) == b"true",
        after_tool_result=last in _AFTER_TOOLS,
        tool_call_ids=_tool_call_ids(given.messages) if last == "tool" else (),
    )


_AFTER_TOOLS: Final = ("tool", "function")


def _has_parts(messages: list[shapes.Message]) -> bool:
    for message in messages:  # a loop: `any` with a generator costs several times as much
        if type(message.content) is list:
            return True
    return False


def _tool_call_ids(messages: list[shapes.Message]) -> tuple[str, ...]:
    ids = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        if message.tool_call_id:
            ids.append(message.tool_call_id)
    return tuple(reversed(ids))


_NO_NAMES: Final[frozenset[str]] = frozenset()


def _tools(given: shapes.Request) -> tuple[frozenset[str], bool]:
    for field, tools in (("tools", given.tools), ("functions", given.functions)):
        if tools is not None and len(tools) > MAX_TOOLS:
            raise InvalidRequest(f"`{field}` has more than {MAX_TOOLS:,} tools.", param=field)
    names = {tool.function.name for tool in given.tools or () if tool.type == "function" and tool.function is not None}
    for number, tool in enumerate(given.tools or ()):
        if tool.type == "function" and tool.function is None:
            place = f"tools[{number}].function"
            raise InvalidRequest(f"`{place}` is missing.", param=place)
    names.update(function.name for function in given.functions or ())
    return frozenset(names), any(tool.type != "function" for tool in given.tools or ())


def _tool_choice(given: shapes.Request) -> Literal["auto", "none", "required", "named"]:
    choice = value_of(given.tool_choice, "tool_choice")
    if choice is None:
        choice = value_of(given.function_call, "function_call")
    if isinstance(choice, dict):
        if choice.get("type") == "allowed_tools":
            allowed = choice.get("allowed_tools")
            mode = allowed.get("mode") if isinstance(allowed, dict) else None
            return "required" if mode == "required" else "auto"
        return "named"
    match choice:
        case "none":
            return "none"
        case "required" | "any":
            return "required"
        case _:
            return "auto"


def _output(format: shapes.ResponseFormat) -> OutputFormat | None:  # noqa: A002 - the glossary's word
    if format.type == "json_object":
        return OutputFormat(kind="json_object")
    if format.type != "json_schema":
        return None
    given = format.json_schema
    if given is None:
        place = "response_format.json_schema"
        raise InvalidRequest(f"`{place}` is missing.", param=place)
    return OutputFormat(
        kind="json_schema",
        name=given.name,
        description=given.description,
        schema=None if bytes(given.schema) in (b"", b"null") else bytes(given.schema),
        strict=given.strict is True,
    )


def _is_thinking(given: shapes.Request) -> bool:
    thinking = value_of(given.thinking, "thinking")
    if isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive"):
        return True
    effort = value_of(given.reasoning_effort, "reasoning_effort")
    if effort is None and isinstance(reasoning := value_of(given.reasoning, "reasoning"), dict):
        if reasoning.get("enabled") is False:
            return False
        effort = reasoning.get("effort") or reasoning.get("max_tokens") or reasoning.get("enabled")
    return effort is not None and effort not in ("none", False, "")


def _wants_audio(given: shapes.Request) -> bool:
    modalities = value_of(given.modalities, "modalities")
    if modalities is not None and not (isinstance(modalities, list) and all(type(one) is str for one in modalities)):
        raise InvalidRequest("`modalities` must be a list of words.", param="modalities")
    return modalities is not None and "audio" in modalities


_PART_ABILITIES: Final[Mapping[str, Ability]] = {
    "image_url": Ability.VISION,
    "file": Ability.FILES,
    "document_url": Ability.FILES,
    "input_audio": Ability.AUDIO,
}
_NO_NEEDS: Final[frozenset[Ability]] = frozenset()


def _needs(given: shapes.Request, has_parts: bool, has_tools: bool) -> frozenset[Ability]:
    has_audio = _wants_audio(given)
    if not (has_parts or has_tools or given.response_format or has_audio):
        return _NO_NEEDS
    needs = set()
    if has_tools:
        needs.add(Ability.TOOLS)
    if given.response_format is not None and given.response_format.type == "json_schema":
        needs.add(Ability.JSON_SCHEMA)
    if has_audio:
        needs.add(Ability.AUDIO)
    if has_parts:
        types = {part.type for message in given.messages if type(message.content) is list for part in message.content}
        needs |= {ability for kind, ability in _PART_ABILITIES.items() if kind in types}
    return frozenset(needs)


_BASE64: Final = b";base64,"
_AUDIO_DATA: Final = re.compile(rb'"data"\s*:\s*"([^"]*)"')


def _input_tokens(body: bytes) -> int:
    """An estimate: a token for four bytes of the body, without base64 data (of `_MOST_DATA` parts at most)."""
    size = len(body)
    at, found = body.find(_BASE64), 0
    while at >= 0 and found < _MOST_DATA:
        found += 1
        end = body.find(b'"', at)
        if end < 0:
            break
        size -= end - at
        at = body.find(_BASE64, end)
    if b'"input_audio"' in body:
        found_data = itertools.islice(_AUDIO_DATA.finditer(body), _MOST_DATA)
        size -= sum(len(match[1]) for match in found_data if len(match[1]) > 256)
    return max(size, 0) // 4
