"""A caller's request to the Responses API: what deciding needs of it, and its bytes for a target of the same dialect.

Only deciding fields are decoded; the bytes pass but for the model name and the few edits that a target needs. The
whole request is read (`canonical`) only where it must be translated.

Reasoning that the gateway wrote for another provider's would be refused by the API, which never made it, and is left
out; the ids of such items tell them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from crossfade.core.errors import InvalidRequest
from crossfade.core.exchange import Ability, ChatRequest, Continuation, OutputFormat, RequestFacts
from crossfade.core.target import Dialect, Target
from crossfade.wire import responses_request_shapes as shapes
from crossfade.wire.members import Members, joined, read_members
from crossfade.wire.ours import MAX_FIELD, OUR_FIELDS, Ours, read_ours
from crossfade.wire.reading import BOM, MAX_MESSAGES, MAX_TOOLS, NO, check_size, unreadable, value_of
from crossfade.wire.responses_canonical import STATEFUL, read_canonical
from crossfade.wire.turns import reduced, with_turns

DECIDING: Final = (
    "model",
    "input",
    "stream",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "max_output_tokens",
    "background",
    "store",
    *STATEFUL,
    *OUR_FIELDS,
)
"""Fields that must not come twice: two readers could then see two requests."""
LEAST_TOKENS: Final = 16
"""The API refuses a smaller `max_output_tokens`."""
OUR_REASONING: Final = "rs_crossfade"
"""How the ids of reasoning items begin that the gateway wrote."""

_ECHOED: Final[Mapping[str, bytes]] = {
    "background": b"false",
    "instructions": b"null",
    "max_output_tokens": b"null",
    "max_tool_calls": b"null",
    "metadata": b"{}",
    "parallel_tool_calls": b"true",
    "previous_response_id": b"null",
    "reasoning": b'{"effort":null,"summary":null}',
    "safety_identifier": b"null",
    "temperature": b"null",
    "text": b'{"format":{"type":"text"}}',
    "tool_choice": b'"auto"',
    "tools": b"[]",
    "top_p": b"null",
    "truncation": b'"disabled"',
    "user": b"null",
}
"""What a response repeats of its request, and what it says where the request has nothing."""
_NOT_STORED: Final = b'"store":false'

_decode: Final = msgspec.json.Decoder(shapes.Request).decode
_decode_parts: Final = msgspec.json.Decoder(list[shapes.Part]).decode
_decode_list: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_item: Final = msgspec.json.Decoder(shapes.Item).decode
_encode: Final = msgspec.json.encode


class ResponsesInbound:
    """A caller's request to the Responses API; an `Inbound`. Made by `read_request`. `lost` names what a target of the
    same dialect does not get."""

    __slots__ = ("_canonical", "_has_our_fields", "_has_our_reasoning", "dialect", "facts", "members", "ours")

    def __init__(self, members: Members, facts: RequestFacts, ours: Ours, has_our_reasoning: bool = False) -> None:
        self.dialect: Dialect = "responses"
        self.members = members
        self.facts = facts
        self.ours = ours
        self._has_our_reasoning = has_our_reasoning
        self._has_our_fields = not members.values.keys().isdisjoint(OUR_FIELDS)
        self._canonical: ChatRequest | None = None

    def __repr__(self) -> str:
        return f"<ResponsesInbound {self.ours.model!r} {'streamed' if self.facts.stream else 'buffered'}>"

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
        is_edited = self._has_our_fields or self._has_our_reasoning or target.set_params or target.drop_params
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
        if self._has_our_reasoning:
            items = [item for item in _decode_list(fields["input"]) if not _is_our_reasoning(_decode_item(item))]
            fields["input"] = _encode(items)
        for name in target.drop_params:
            fields.pop(name, None)
        fields.update(target.set_params)
        if stream:
            fields["stream"] = b"true"
        elif "stream" in fields:
            fields["stream"] = b"false"
        if continuation is not None:
            said = fields.get("input", b"")
            turns = said if said[:1] == b"[" else b'[{"role":"user","content":%s}]' % said
            fields["input"] = with_turns(turns, continuation)
            if "max_output_tokens" in fields:
                limit = reduced(fields["max_output_tokens"], continuation.delivered_tokens, LEAST_TOKENS)
                fields["max_output_tokens"] = limit
        return fields


def _is_our_reasoning(item: shapes.Item) -> bool:
    return item.type == "reasoning" and (item.id or "").startswith(OUR_REASONING)


def read_request(body: bytes, headers: Mapping[str, str]) -> ResponsesInbound:
    """The request in `body`. `headers` have lower-case names. Raises InvalidRequest naming the field."""
    check_size(body)
    try:
        members = read_members(body)
        given = _decode(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except msgspec.DecodeError as error:
        if body.startswith(BOM):
            return read_request(body[len(BOM) :], headers)
        raise unreadable(body, error, read_canonical, ("input", "tools")) from None
    if not members.can_splice:
        members.check_repeated(DECIDING)
    ours = read_ours(given.model, members.values, headers)
    if given.background is True:
        message = "`background` cannot be true: the gateway answers at once, and keeps nothing to ask for later."
        raise InvalidRequest(message, param="background")
    if given.max_output_tokens is not None and given.max_output_tokens < 1:
        raise InvalidRequest("`max_output_tokens` must be at least 1.", param="max_output_tokens")
    seen = _Seen(given)
    return ResponsesInbound(members, _facts(given, members, seen), ours, seen.has_our_reasoning)


# --- facts ---------------------------------------------------------------------------------------------------


class _Seen:
    """What one look through the input finds."""

    __slots__ = ("base64", "has_our_reasoning", "results", "state", "types")

    def __init__(self, given: shapes.Request) -> None:
        self.types: set[str] = set()
        self.base64 = 0
        """Bytes of inline media."""
        self.has_our_reasoning = False
        self.results: tuple[str, ...] = ()
        """The calls that the end of the conversation answers."""
        self.state = next((name for name in STATEFUL if _is_given(given, name)), "")
        items = given.input
        if items is None and not self.state:
            raise InvalidRequest("`input` is missing.", param="input", code="missing_required_parameter")
        if type(items) is list:
            self._look_through(items)

    def _look_through(self, items: list[shapes.Item]) -> None:
        if not items and not self.state:
            raise InvalidRequest("`input` must have at least one item.", param="input")
        if len(items) > MAX_MESSAGES:
            raise InvalidRequest(f"`input` has more than {MAX_MESSAGES:,} items.", param="input")
        results: list[str] = []
        for number, item in enumerate(items):
            if item.type == "function_call_output":
                results.append(item.call_id or "")
            elif item.role not in ("developer", "system"):  # notices that agents put behind results
                results.clear()
            if type(item.content) is list:
                self._measure(item.content)
            if bytes(memoryview(item.output)[:1]) == b"[":
                self._measure(_parts_of(item.output, f"input[{number}].output"))
            if _is_our_reasoning(item):
                self.has_our_reasoning = True
            if not self.state and (item.type == "item_reference" or (item.type is None and item.role is None)):
                self.state = f"input[{number}]"
        self.results = tuple(results)

    def _measure(self, parts: list[shapes.Part]) -> None:
        for part in parts:
            self.types.add(part.type)
            if part.file_data is not NO or part.input_audio is not NO:
                self.base64 += len(part.file_data) + len(part.input_audio)
            if part.image_url is not NO and bytes(memoryview(part.image_url)[:6]) == b'"data:':
                self.base64 += len(part.image_url)


def _is_given(given: shapes.Request, name: str) -> bool:
    value = getattr(given, name)
    return bytes(value) not in (b"", b"null") if isinstance(value, msgspec.Raw) else value is not None


def _parts_of(text: msgspec.Raw, place: str) -> list[shapes.Part]:
    try:
        return _decode_parts(text)
    except msgspec.DecodeError:
        raise InvalidRequest(f"`{place}` must be a string or a list of parts.", param=place) from None


_PART_ABILITIES: Final[Mapping[str, Ability]] = {
    "input_image": Ability.VISION,
    "input_file": Ability.FILES,
    "input_audio": Ability.AUDIO,
}
_LOGPROBS: Final = "message.output_text.logprobs"


def _facts(given: shapes.Request, members: Members, seen: _Seen) -> RequestFacts:
    tools, has_other_tools = _tools(given)
    output = _output(given)
    needs = {ability for kind, ability in _PART_ABILITIES.items() if kind in seen.types}
    if tools or has_other_tools:
        needs.add(Ability.TOOLS)
    if output is not None and output.kind == "json_schema":
        needs.add(Ability.JSON_SCHEMA)
    effort = given.reasoning.effort if given.reasoning is not None else None
    return RequestFacts(
        stream=given.stream is True,
        include_usage=True,
        input_tokens=max(0, len(members.raw) - seen.base64) // 4,
        max_tokens=given.max_output_tokens,
        needs=frozenset(needs),
        tools=tools,
        has_other_tools=has_other_tools,
        tool_choice=_tool_choice(given),
        output=output,
        logprobs=bool(given.top_logprobs) or _LOGPROBS in (given.include or ()),
        thinking=effort not in (None, "none"),
        wants_signatures=True,
        after_tool_result=bool(seen.results),
        tool_call_ids=tuple(filter(None, seen.results)),
        is_stored=bytes(members.values.get("store", b"true")) != b"false",
        state=seen.state,
        echo=_echo(members.values),
    )


def _echo(values: Mapping[str, msgspec.Raw]) -> bytes:
    """What a response that is written here repeats of the request, but for values of more than 256 KiB; nothing is
    stored of it."""
    pieces = [_NOT_STORED]
    for name, default in _ECHOED.items():
        value = bytes(values[name]) if name in values else default
        pieces.append(b'"%s":%s' % (name.encode(), default if value == b"null" or len(value) > MAX_FIELD else value))
    return b",".join(pieces)


def _tools(given: shapes.Request) -> tuple[frozenset[str], bool]:
    tools = given.tools or []
    if len(tools) > MAX_TOOLS:
        raise InvalidRequest(f"`tools` has more than {MAX_TOOLS:,} tools.", param="tools")
    names, has_other = set(), False
    for number, tool in enumerate(tools):
        if tool.type != "function":
            has_other = True
        elif not tool.name:
            raise InvalidRequest(f"`tools[{number}].name` is missing.", param=f"tools[{number}].name")
        else:
            names.add(tool.name)
    return frozenset(names), has_other


def _tool_choice(given: shapes.Request) -> Literal["auto", "none", "required", "named"]:
    choice: Any = value_of(given.tool_choice, "tool_choice")
    match choice:
        case "none" | "required":
            return "none" if choice == "none" else "required"
        case {"type": "allowed_tools"}:
            return "required" if choice.get("mode") == "required" else "auto"
        case dict():
            return "named"
        case _:
            return "auto"


def _output(given: shapes.Request) -> OutputFormat | None:
    wanted = given.text.format if given.text is not None else None
    if wanted is None or wanted.type not in ("json_object", "json_schema"):
        return None
    if wanted.type == "json_object":
        return OutputFormat(kind="json_object")
    return OutputFormat(
        kind="json_schema",
        name=wanted.name,
        description=wanted.description,
        schema=None if bytes(wanted.schema) in (b"", b"null") else bytes(wanted.schema),
        strict=wanted.strict is True,
    )
