"""A caller's Anthropic request: what deciding needs of it, and its bytes for a target of the same dialect.

Only deciding fields are decoded; the bytes pass but for the model name and the few edits that a target needs. The
whole request is read (`canonical`) only where it must be translated.

Two things of a conversation that went by other providers would be refused by Anthropic, and are left out: thinking
without a signature, which the gateway wrote for another provider's reasoning, and the wish to think by a budget
behind a tool call that was made elsewhere, without any thinking before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Ability, ChatRequest, Continuation, OutputFormat, RequestFacts
from crossfade.core.target import Dialect, Target
from crossfade.wire import anthropic_request_shapes as shapes
from crossfade.wire.anthropic_canonical import read_canonical
from crossfade.wire.members import Members, joined, read_members
from crossfade.wire.ours import OUR_FIELDS, Ours, read_ours
from crossfade.wire.reading import BOM, MAX_MESSAGES, MAX_TOOLS, NO, check_size, unreadable, value_of
from crossfade.wire.turns import reduced, with_turns

DECIDING: Final = (
    "model",
    "messages",
    "max_tokens",
    "stream",
    "system",
    "tools",
    "tool_choice",
    "mcp_servers",
    "stop_sequences",
    "thinking",
    "output_config",
    "output_format",
    "fallback_models",
    "models",
    "fallbacks",
    "fallback_on",
    "crossfade",
)
"""Fields that must not come twice: two readers could then see two requests."""
FORWARDED: Final = ("anthropic-version", "anthropic-beta")
"""Headers of the caller that a target of the same dialect gets as they are."""

_OWN_ID: Final = "toolu_"
"""How the ids of Anthropic's own tool calls begin."""
_THINKING: Final = ("thinking", "redacted_thinking")

_decode: Final = msgspec.json.Decoder(shapes.Request).decode
_decode_message: Final = msgspec.json.Decoder(shapes.Message).decode
_decode_blocks: Final = msgspec.json.Decoder(list[shapes.Inner]).decode
_decode_source: Final = msgspec.json.Decoder(shapes.Source).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_top: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.encode


class MessagesInbound:
    """A caller's request to the messages API; an `Inbound`. Made by `read_request`.

    `forwarded`: headers for targets of the same dialect. `lost` names what such a target does not get.
    """

    __slots__ = ("_canonical", "_has_our_fields", "_mends", "dialect", "facts", "forwarded", "members", "ours")

    def __init__(
        self,
        members: Members,
        facts: RequestFacts,
        ours: Ours,
        forwarded: tuple[tuple[str, str], ...] = (),
        mends: frozenset[str] = frozenset(),
    ) -> None:
        self.dialect: Dialect = "anthropic"
        self.members = members
        self.facts = facts
        self.ours = ours
        self.forwarded = forwarded
        self._mends = mends
        self._has_our_fields = not members.values.keys().isdisjoint(OUR_FIELDS)
        self._canonical: ChatRequest | None = None

    def __repr__(self) -> str:
        return f"<MessagesInbound {self.ours.model!r} {'streamed' if self.facts.stream else 'buffered'}>"

    @property
    def lost(self) -> tuple[str, ...]:
        return ("thinking",) if "thinking" in self._mends else ()

    def canonical(self) -> ChatRequest:
        """The whole request, read once and kept. Raises InvalidRequest naming the field."""
        if self._canonical is None:
            self._canonical = read_canonical(self.members.raw)
        return self._canonical

    def body(
        self, target: Target, stream: bool, include_usage: bool, continuation: Continuation | None = None
    ) -> bytes:
        """The caller's bytes with what must differ for `target`. Usage is always there, whatever `include_usage`."""
        members = self.members
        is_edited = self._has_our_fields or self._mends or target.set_params or target.drop_params
        if members.can_splice and not is_edited and continuation is None:
            edits: dict[str, object] = {}
            if target.model != self.ours.model:
                edits["model"] = target.model
            if stream != self.facts.stream:
                edits["stream"] = stream
            return members.spliced(edits) if edits else members.raw
        return joined(self._edited(target, stream, continuation))

    def _edited(self, target: Target, stream: bool, continuation: Continuation | None) -> dict[str, bytes]:
        fields = {name: bytes(value) for name, value in self.members.values.items() if name not in OUR_FIELDS}
        fields["model"] = _encode(target.model)
        if "messages" in self._mends:
            fields["messages"] = _without_unsigned(fields["messages"])
        if "thinking" in self._mends:
            del fields["thinking"]
        for name in target.drop_params:
            fields.pop(name, None)
        fields.update(target.set_params)
        if stream:
            fields["stream"] = b"true"
        elif "stream" in fields:
            fields["stream"] = b"false"
        if continuation is not None:
            _continue(fields, continuation)
        return fields


def _continue(fields: dict[str, bytes], continuation: Continuation) -> None:
    """Asks for the rest of a cut answer. A model that is to go on from its own words cannot think first."""
    fields["messages"] = with_turns(fields.get("messages", b"[]"), continuation)
    thinking = _thinking(fields.get("thinking", b"null"))
    least = 1
    if thinking is not None and continuation.prefill and thinking.type != "disabled":
        del fields["thinking"]
    elif thinking is not None and thinking.budget_tokens is not None:
        least = thinking.budget_tokens + 1  # fewer are a 400
    if "max_tokens" in fields:
        fields["max_tokens"] = reduced(fields["max_tokens"], continuation.delivered_tokens, least)


def _thinking(text: bytes) -> shapes.Thinking | None:
    try:
        return msgspec.json.decode(text, type=shapes.Thinking | None)
    except msgspec.DecodeError:  # a target's own setting
        return None


def _without_unsigned(messages: bytes) -> bytes:
    """The messages without thinking that nobody signed, and without turns that have nothing else."""
    kept: list[msgspec.Raw] = []
    for raw in _decode_list(messages):
        message = _decode_message(raw)
        if type(message.content) is not list or not any(_is_unsigned(block) for block in message.content):
            kept.append(raw)
            continue
        fields = _decode_top(raw)
        given = zip(_decode_list(fields["content"]), message.content, strict=True)
        if blocks := [text for text, block in given if not _is_unsigned(block)]:
            kept.append(msgspec.Raw(_encode({**fields, "content": blocks})))
    return _encode(kept)


def _is_unsigned(block: shapes.Block) -> bool:
    return block.type == "thinking" and not block.signature


def read_request(body: bytes, headers: Mapping[str, str], *, needs_limit: bool = True) -> MessagesInbound:
    """The request in `body`. `headers` have lower-case names. `needs_limit`: `max_tokens` must be there.

    Raises InvalidRequest naming the field.
    """
    check_size(body)
    try:
        members = read_members(body)
        given = _decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except msgspec.DecodeError as error:
        if body.startswith(BOM):
            return read_request(body[len(BOM) :], headers, needs_limit=needs_limit)
        raise unreadable(body, error, _find_fault) from None
    if not members.can_splice:
        members.check_repeated(DECIDING)
    ours = read_ours(given.model, members.values, headers)
    if given.max_tokens is None and needs_limit:
        raise InvalidRequest("`max_tokens` is missing.", param="max_tokens", code="missing_required_parameter")
    if given.max_tokens is not None and given.max_tokens < 1:
        raise InvalidRequest("`max_tokens` must be at least 1.", param="max_tokens")
    seen = _Seen(given.messages)
    forwarded = tuple((name, value) for name in FORWARDED if (value := headers.get(name)) is not None)
    return MessagesInbound(members, _facts(given, len(body), seen), ours, forwarded, _mends(given, seen))


def _find_fault(body: bytes) -> None:
    """Raises InvalidRequest for the first message, block or tool that is not of its shape."""
    top = _decode_top(body)
    for field, kind in (("messages", shapes.Message), ("tools", shapes.Tool)):
        for number, item in enumerate(_items(top.get(field))):
            place = f"{field}[{number}]"
            for at, block in enumerate(_items(_members(item).get("content"))):
                _check_shape(block, shapes.Block, f"{place}.content[{at}]")
            _check_shape(item, kind, place)


def _items(text: msgspec.Raw | None) -> list[msgspec.Raw]:
    return _decode_list(text) if text is not None and bytes(memoryview(text)[:1]) == b"[" else []


def _members(text: msgspec.Raw) -> dict[str, msgspec.Raw]:
    return _decode_top(text) if bytes(memoryview(text)[:1]) == b"{" else {}


def _check_shape(text: msgspec.Raw, kind: type[msgspec.Struct], place: str) -> None:
    try:
        msgspec.json.decode(text, type=kind)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        place += path.rstrip("`")
        raise InvalidRequest(f"`{place}`: {what[:1].lower()}{what[1:]}.", param=place) from None


# --- facts ---------------------------------------------------------------------------------------------------


class _Seen:
    """What one look through the messages finds."""

    __slots__ = ("base64", "cites", "has_unsigned", "messages", "results", "types")

    def __init__(self, messages: list[shapes.Message]) -> None:
        if not messages:
            raise InvalidRequest("`messages` must have at least one message.", param="messages")
        if len(messages) > MAX_MESSAGES:
            raise InvalidRequest(f"`messages` has more than {MAX_MESSAGES:,} messages.", param="messages")
        self.messages = messages
        self.types: set[str] = set()
        self.base64 = 0
        """Bytes of inline media."""
        self.cites = False
        self.has_unsigned = False
        self.results: tuple[str, ...] = ()
        """The calls that the last turn answers, but for turns of the system."""
        for number, message in enumerate(messages):
            if type(message.content) is list:
                self._look_at(message.content, f"messages[{number}].content")
        # Agents put notices of the system behind the results of their tools.
        last = next((message for message in reversed(messages) if message.role != "system"), messages[-1])
        if last.role == "user" and type(last.content) is list:
            self.results = tuple(block.tool_use_id or "" for block in last.content if block.type == "tool_result")

    def _look_at(self, blocks: list[shapes.Block], place: str) -> None:
        for number, block in enumerate(blocks):
            self.types.add(block.type)
            if block.source is not NO:
                self._measure(block.type, block.source, f"{place}[{number}].source")
            if block.type == "tool_result" and bytes(memoryview(block.content)[:1]) == b"[":
                self._look_into(block.content, f"{place}[{number}].content")
            if block.citations is not NO:
                self.cites = True
            if not self.has_unsigned and _is_unsigned(block):
                self.has_unsigned = True

    def _look_into(self, content: msgspec.Raw, place: str) -> None:
        try:
            blocks = _decode_blocks(content)
        except msgspec.DecodeError:
            raise InvalidRequest(f"`{place}` must be a string or a list of blocks.", param=place) from None
        for number, block in enumerate(blocks):
            self.types.add(block.type)
            if block.source is not NO:
                self._measure(block.type, block.source, f"{place}[{number}].source")

    def _measure(self, kind: str, source: msgspec.Raw, place: str) -> None:
        if kind not in _SOURCED:
            return  # a search result's is its address
        try:
            read = _decode_source(source)
        except msgspec.DecodeError:
            raise InvalidRequest(f"`{place}` must be an object with a `type`.", param=place) from None
        if read.type == "base64":
            self.base64 += len(read.data)


_SOURCED: Final[Mapping[str, Ability]] = {"image": Ability.VISION, "document": Ability.FILES}
"""Blocks that bring media, and what they need."""
_CHOICES: Final[Mapping[object, Literal["auto", "none", "required", "named"]]] = {
    "any": "required",
    "tool": "named",
    "none": "none",
}


def _facts(given: shapes.Request, size: int, seen: _Seen) -> RequestFacts:
    tools, has_other_tools = _tools(given)
    output = _output(given)
    is_thinking = _is_thinking(given)
    needs = {ability for kind, ability in _SOURCED.items() if kind in seen.types}
    if tools or has_other_tools:
        needs.add(Ability.TOOLS)
    if output is not None:
        needs.add(Ability.JSON_SCHEMA)
    has_stop = bool(given.stop_sequences)
    return RequestFacts(
        stream=given.stream is True,
        include_usage=True,
        input_tokens=max(0, size - seen.base64) // 4,
        max_tokens=given.max_tokens,
        needs=frozenset(needs),
        tools=tools,
        has_other_tools=has_other_tools,
        tool_choice=_tool_choice(given),
        output=output,
        has_stop=has_stop,
        thinking=is_thinking,
        wants_signatures=True,
        wants_whole=is_thinking or has_other_tools or has_stop or seen.cites,
        after_tool_result=bool(seen.results),
        tool_call_ids=tuple(filter(None, seen.results)),
    )


def _tools(given: shapes.Request) -> tuple[frozenset[str], bool]:
    tools = given.tools or []
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"`tools` has more than {MAX_TOOLS:,} tools.", param="tools")
    names, has_other = set(), bool(value_of(given.mcp_servers, "mcp_servers"))
    for number, tool in enumerate(tools):
        if tool.type not in (None, "custom"):
            has_other = True
        elif not tool.name:
            raise InvalidRequest(f"`tools[{number}].name` is missing.", param=f"tools[{number}].name")
        else:
            names.add(tool.name)
    return frozenset(names), has_other


def _tool_choice(given: shapes.Request) -> Literal["auto", "none", "required", "named"]:
    choice = value_of(given.tool_choice, "tool_choice")
    if choice is None:
        return "auto"
    if not isinstance(choice, dict):
        raise InvalidRequest("`tool_choice` must be an object with a `type`.", param="tool_choice")
    kind = choice.get("type")
    return _CHOICES.get(kind, "auto") if isinstance(kind, str) else "auto"


def _output(given: shapes.Request) -> OutputFormat | None:
    wanted = given.output_config.format if given.output_config is not None else None
    wanted = wanted or given.output_format  # the older name
    if wanted is None or wanted.type != "json_schema":
        return None
    return OutputFormat(kind="json_schema", schema=bytes(wanted.schema) or None, strict=True)


def _is_thinking(given: shapes.Request) -> bool:
    kind = given.thinking.type if given.thinking is not None else None
    has_effort = given.output_config is not None and given.output_config.effort is not None
    return kind in ("enabled", "adaptive") or (has_effort and kind != "disabled")


# --- what went by other providers ----------------------------------------------------------------------------


def _mends(given: shapes.Request, seen: _Seen) -> frozenset[str]:
    """The fields that Anthropic would refuse as they are."""
    mends = set()
    if seen.has_unsigned:
        mends.add("messages")
    if given.thinking is not None and given.thinking.type == "enabled" and seen.results:
        turn = next((message.content for message in reversed(seen.messages) if message.role == "assistant"), None)
        if type(turn) is list and _is_foreign(turn):
            mends.add("thinking")
    return frozenset(mends)


def _is_foreign(turn: Iterable[shapes.Block]) -> bool:
    """Whether a turn's calls were made elsewhere: they have ids of another kind, and no thinking before them."""
    signed = [block for block in turn if not _is_unsigned(block)]
    if not signed or signed[0].type in _THINKING:
        return False
    return any(block.type == "tool_use" and not (block.id or "").startswith(_OWN_ID) for block in signed)
