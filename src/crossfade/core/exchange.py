"""The canonical chat exchange: what every dialect is read into and written from.

Two depths. `RequestFacts` and `StreamEvent` hold only what decisions need and are made for every call;
`ChatRequest` and `Completion` are whole and are made where a body has to be translated or assembled.
JSON stays JSON text here (schemas, tool arguments): only wire/ looks inside it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from crossfade.core.failure import Failure


class Ability(StrEnum):
    """What a request may need of a target."""

    VISION = "vision"
    FILES = "files"
    AUDIO = "audio"
    TOOLS = "tools"
    JSON_SCHEMA = "json_schema"


class Finish(StrEnum):
    """Why a generation ended, in the words of OpenAI chat."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


# --- request -------------------------------------------------------------------------------------------------


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """Text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image", kw_only=True):
    """An image by `url`, or inline as base64 `data` of `media_type`."""

    url: str | None = None
    media_type: str | None = None
    data: str | None = None
    detail: str | None = None


class FilePart(msgspec.Struct, frozen=True, tag="file", kw_only=True):
    """A document by `url`, inline as base64 `data`, or by a provider's own `file_id`."""

    name: str | None = None
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None


class AudioPart(msgspec.Struct, frozen=True, tag="audio"):
    """Sound, inline as base64 `data`."""

    data: str
    format: str


Part = TextPart | ImagePart | FilePart | AudioPart


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """One call of a function tool; `arguments` is JSON text, "" meaning `{}`."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn. `developer` is read as `system`; role `tool` carries the result of `call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    name: str | None = None
    refusal: str | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function tool; `parameters` is a JSON Schema as JSON text."""

    name: str
    description: str | None = None
    parameters: bytes | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """Whether the model may, must, or must not call a tool; `name` with mode `named`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


class OutputFormat(msgspec.Struct, frozen=True, kw_only=True):
    """JSON asked of the answer; `schema` is JSON text, present for `json_schema`."""

    kind: Literal["json_object", "json_schema"]
    name: str = "output"
    description: str | None = None
    schema: bytes | None = None
    strict: bool = False


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole chat request, for translation. `others` are the names of top-level fields with no canonical place."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: OutputFormat | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    user: str | None = None
    others: tuple[str, ...] = ()


class RequestFacts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What planning, holding, joining and validating need to know of a request.

    `tools` are the names of the request's own function tools; `has_other_tools`: some tool is not a function
    (custom, hosted), so unknown names in calls are no failure. `input_tokens` is an estimate.
    `wants_signatures`: the caller sends reasoning back, and its maker wants it whole and signed. `wants_whole`: an
    answer in the caller's own dialect may have what is lost when it is assembled from a stream.
    `is_stored`: the provider keeps the answer for later requests, if it is asked in the caller's own dialect.
    `state` names the field that refers to what a provider keeps of earlier requests, so that no other can serve it.
    `echo`: what an answer repeats of the request, as JSON members; no decision reads it.
    Of embeddings only `asks`, `inputs` (vectors wanted), `dimensions`, `encoding` and `input_tokens` are said.
    """

    asks: Literal["chat", "embeddings"] = "chat"
    stream: bool = False
    n: int = 1
    include_usage: bool = False
    input_tokens: int = 0
    max_tokens: int | None = None
    needs: frozenset[Ability] = frozenset()
    tools: frozenset[str] = frozenset()
    has_other_tools: bool = False
    tool_choice: Literal["auto", "none", "required", "named"] = "auto"
    output: OutputFormat | None = None
    has_stop: bool = False
    logprobs: bool = False
    audio: bool = False
    thinking: bool = False
    wants_signatures: bool = False
    wants_whole: bool = False
    after_tool_result: bool = False
    tool_call_ids: tuple[str, ...] = ()
    is_stored: bool = False
    state: str = ""
    echo: bytes = b""
    inputs: int = 0
    dimensions: int | None = None
    encoding: Literal["float", "base64", "other"] = "float"


# --- response ------------------------------------------------------------------------------------------------


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens by OpenAI's rules: `prompt` includes cached ones, `completion` includes reasoning."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


class Choice(msgspec.Struct, kw_only=True, gc=False):
    """One answer. `finish` is None where the provider gave none; `raw_finish` is its own word.

    `has_other_content`: something a caller can use that is none of the other fields (audio, citations, images).
    `json_value`: the content came as a JSON value, not a string (one provider does in JSON mode).
    """

    index: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish | None = None
    raw_finish: str | None = None
    stopped_by_sequence: bool = False
    has_other_content: bool = False
    failure: Failure | None = None  # a finish reason that is a failure (MALFORMED_FUNCTION_CALL, error, OTHER)


class Completion(msgspec.Struct, kw_only=True, gc=False):
    """A whole answer. `created` is in Unix seconds, 0 where the provider gave none.

    Of embeddings it has no choices but `vectors`, one an input, in order, as JSON text: a list of numbers, or a string
    of base64, which holds numbers of four bytes if it was asked for, and else whatever its provider puts there. Not
    `is_as_asked`: the body cannot pass as it came.
    """

    id: str = ""
    model: str = ""
    created: int = 0
    choices: list[Choice] = []
    usage: Usage | None = None
    vectors: tuple[bytes, ...] = ()
    is_as_asked: bool = True


class ToolDelta(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A piece of a tool call: `index` counts the calls of one choice from 0; id and name come with the first piece."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class StreamEvent(msgspec.Struct, kw_only=True, gc=False):
    """One event of a stream, as decisions see it.

    `raw` is the event as it came, with its closing blank line, where the reader's dialect has one event per
    blank-line block; the same dialect downstream passes it on. An upstream event with several meanings (two
    choices in one chunk) gives several StreamEvents of which only the first has `raw`.
    `is_open`: a new tool or thinking block began (content, though nothing of it has come yet).
    `in_block`: a tool call or thinking block is open after this event (idle limits stand still).
    """

    raw: bytes = b""
    choice: int = 0
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tools: tuple[ToolDelta, ...] = ()
    is_open: bool = False
    in_block: bool = False
    has_other_content: bool = False
    finish: Finish | None = None
    raw_finish: str | None = None
    stopped_by_sequence: bool = False
    usage: Usage | None = None
    failure: Failure | None = None
    is_end: bool = False  # the provider's end marker ([DONE], message_stop)
    id: str = ""
    model: str = ""
    created: int = 0
    native: object = None  # what the reader wants its own dialect's writer to have; no decision reads it

    @property
    def has_content(self) -> bool:
        """Non-empty text, reasoning, refusal, audio, tool arguments or citation, or a new tool or thinking block."""
        return bool(self.text or self.reasoning or self.refusal or self.is_open or self.has_other_content or self.tools)


class Continuation(msgspec.Struct, frozen=True, kw_only=True):
    """What a second stream is asked for after a first one was cut: go on behind `text`.

    `prefill`: the target is declared to accept an assistant turn to go on from; otherwise it is shown the text
    as its partial answer and asked to begin by repeating `anchor`, the last 40 to 80 characters of it.
    `delivered_tokens` (an estimate) is taken off the caller's limit of output tokens.
    """

    text: str
    anchor: str
    prefill: bool
    delivered_tokens: int


CONTINUE_INSTRUCTION = (
    "Your previous message was cut off in transmission. Continue it from exactly where it stopped. Begin your reply"
    " by repeating these last characters of it verbatim, then go on without any comment, preamble or quotation"
    " marks:\n\n"
)


def continued(request: ChatRequest, continuation: Continuation) -> ChatRequest:
    """The request that asks for the rest of a cut answer."""
    text = continuation.text.rstrip() if continuation.prefill else continuation.text
    turns = [Message(role="assistant", parts=(TextPart(text),))]
    if not continuation.prefill:
        turns.append(Message(role="user", parts=(TextPart(CONTINUE_INSTRUCTION + continuation.anchor),)))
    max_tokens = request.max_tokens
    if max_tokens is not None:
        max_tokens = max(1, max_tokens - continuation.delivered_tokens)
    return msgspec.structs.replace(request, messages=(*request.messages, *turns), max_tokens=max_tokens)


class JoinNote(msgspec.Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """One change of provider after the headers, as the caller is told it."""

    at_chars: int
    source: str
    target: str
    reason: str
