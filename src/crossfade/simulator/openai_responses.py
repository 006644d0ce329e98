"""OpenAI's Responses API as the simulator speaks it: requests in, bodies, events and errors out.

It knows nothing of faults or sockets. Errors are those of OpenAI's chat API.
"""

from __future__ import annotations

from typing import Any, Literal

from crossfade.simulator.answers import Answer, Call, cut
from crossfade.simulator.ask import Ask, Role, ToolMode, Turn, as_count, as_dict, as_list, as_text, tool_spec
from crossfade.simulator.dialect import CREATED, ErrorReply, Event, Part, Wait, encode, sse
from crossfade.simulator.openai import OpenAI

_ROLES: dict[str, Role] = {"system": "system", "developer": "system", "assistant": "assistant"}
_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}
_Json = dict[str, Any]


class OpenAIResponses:
    """Responses."""

    name = "responses"

    def __init__(self) -> None:
        self._chat = OpenAI()

    def read(self, path: str, query: str, body: _Json) -> Ask:
        mode, tool_name = _tool_choice(body.get("tool_choice"))
        output, schema = _output(as_dict(as_dict(body.get("text")).get("format")))
        tools = [as_dict(tool) for tool in as_list(body.get("tools"))]
        specs = [spec for tool in tools if (spec := tool_spec(tool, "parameters")) is not None]
        effort = as_dict(body.get("reasoning")).get("effort")
        return Ask(
            model=as_text(body.get("model")),
            turns=_turns(body),
            stream=body.get("stream") is True,
            include_usage=True,
            tools=tuple(specs),
            tool_mode=mode,
            tool_name=tool_name,
            is_parallel=body.get("parallel_tool_calls") is not False,
            output=output,
            schema=schema,
            max_tokens=as_count(body.get("max_output_tokens")),
            wants_thinking=effort not in (None, "none"),
        )

    def whole(self, ask: Ask, answer: Answer, number: int) -> _Json:
        reason = _REASONS.get(answer.finish)
        return _envelope(ask, number, "completed" if reason is None else "incomplete") | {
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": _items(answer, number, "completed" if reason is None else "incomplete"),
            "usage": _usage(ask, answer),
        }

    def no_choices(self, ask: Ask, number: int) -> _Json:
        return _envelope(ask, number, "completed") | {"output": [], "usage": _usage(ask, Answer())}

    def events(self, ask: Ask, answer: Answer, number: int) -> list[Event]:
        made = _Events()
        begun = _envelope(ask, number, "in_progress") | {"output": [], "usage": None}
        made.add("opening", "response.created", response=begun)
        made.add("opening", "response.in_progress", response=begun)
        whole = self.whole(ask, answer, number)
        for index, item in enumerate(whole["output"]):
            match item["type"]:
                case "reasoning":
                    made.add_reasoning(index, item, cut(answer.reasoning))
                case "message":
                    made.add_message(index, item, answer)
                case _:
                    made.add_call(index, item)
        made.add("finish", f"response.{whole['status']}", response=whole)
        return made.events

    def event(self, ask: Ask, text: bytes) -> bytes:
        return sse(text)

    def stream_type(self, ask: Ask) -> str:
        return "text/event-stream; charset=utf-8"

    def comment(self, ask: Ask) -> bytes:
        return self._chat.comment(ask)

    def error(self, name: str, ask: Ask | None, message: str | None = None, wait: Wait | None = None) -> ErrorReply:
        return self._chat.error(name, ask, message, wait)

    def error_event(self, ask: Ask, error: ErrorReply) -> bytes:
        said = error.body["error"]
        failed = _envelope(ask, 0, "failed") | {"output": [], "usage": None}
        failed["error"] = {"code": said["code"] or said["type"], "message": said["message"]}
        first = sse(encode({"type": "error", "sequence_number": 0, "error": said}), "error")
        last = {"type": "response.failed", "sequence_number": 1, "response": failed}
        return first + sse(encode(last), "response.failed")

    def blocked(self, ask: Ask, number: int) -> ErrorReply | Answer:
        return self._chat.blocked(ask, number)

    def headers(self, number: int) -> tuple[tuple[str, str], ...]:
        return self._chat.headers(number)


class _Events:
    """The events of one stream, numbered."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, of: Part, kind: str, /, **members: Any) -> None:
        data = {"type": kind, "sequence_number": len(self.events), **members}
        self.events.append(Event(sse(encode(data), kind), of))

    def add_reasoning(self, index: int, item: _Json, pieces: tuple[str, ...] | list[str]) -> None:
        place = {"item_id": item["id"], "output_index": index, "summary_index": 0}
        self.add("opening", "response.output_item.added", output_index=index, item=item | {"summary": []})
        empty = {"type": "summary_text", "text": ""}
        self.add("opening", "response.reasoning_summary_part.added", **place, part=empty)
        for piece in pieces:
            self.add("content", "response.reasoning_summary_text.delta", **place, delta=piece)
        part = item["summary"][0]
        self.add("closing", "response.reasoning_summary_text.done", **place, text=part["text"])
        self.add("closing", "response.reasoning_summary_part.done", **place, part=part)
        self.add("closing", "response.output_item.done", output_index=index, item=item)

    def add_message(self, index: int, item: _Json, answer: Answer) -> None:
        begun = item | {"status": "in_progress", "content": []}
        self.add("opening", "response.output_item.added", output_index=index, item=begun)
        for number, part in enumerate(item["content"]):
            is_text = part["type"] == "output_text"
            member, kind = ("text", "output_text") if is_text else ("refusal", "refusal")
            place = {"item_id": item["id"], "output_index": index, "content_index": number}
            self.add("opening", "response.content_part.added", **place, part=part | {member: ""})
            more: _Json = {"logprobs": []} if is_text else {}
            for piece in answer.pieces if is_text else cut(answer.refusal):
                self.add("content", f"response.{kind}.delta", **place, delta=piece, **more)
            self.add("closing", f"response.{kind}.done", **place, **{member: part[member]}, **more)
            self.add("closing", "response.content_part.done", **place, part=part)
        self.add("closing", "response.output_item.done", output_index=index, item=item)

    def add_call(self, index: int, item: _Json) -> None:
        begun = item | {"status": "in_progress", "arguments": ""}
        self.add("content", "response.output_item.added", output_index=index, item=begun)
        place = {"item_id": item["id"], "output_index": index}
        arguments = item["arguments"]
        for at in range(0, len(arguments), 8):
            self.add("content", "response.function_call_arguments.delta", **place, delta=arguments[at : at + 8])
        self.add("closing", "response.function_call_arguments.done", **place, name=item["name"], arguments=arguments)
        self.add("closing", "response.output_item.done", output_index=index, item=item)


# --- requests ------------------------------------------------------------------------------------------------


def _turns(body: _Json) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    if instructions := as_text(body.get("instructions")):
        turns.append(Turn(role="system", text=instructions))
    given = body.get("input")
    if isinstance(given, str):
        return (*turns, Turn(role="user", text=given))
    for item in map(as_dict, as_list(given)):
        match item.get("type", "message"):
            case "message":
                turns.append(_turn(item))
            case "function_call":
                turns.append(Turn(role="assistant", has_calls=True))
            case "function_call_output":
                turns.append(Turn(role="tool", results=(_text_of(item.get("output")),)))
    return tuple(turns)


def _turn(item: _Json) -> Turn:
    content = item.get("content")
    images = sum(as_dict(part).get("type") == "input_image" for part in as_list(content))
    return Turn(role=_ROLES.get(as_text(item.get("role")), "user"), text=_text_of(content), images=images)


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    return "".join(as_text(as_dict(part).get("text")) for part in as_list(content))


def _tool_choice(given: object) -> tuple[ToolMode, str]:
    if isinstance(given, dict):
        return "named", as_text(given.get("name"))
    return ("none", "") if given == "none" else ("required", "") if given == "required" else ("auto", "")


def _output(given: _Json) -> tuple[Literal["json_object", "json_schema"] | None, Any]:
    if given.get("type") == "json_schema":
        return "json_schema", given.get("schema")
    return ("json_object" if given.get("type") == "json_object" else None), None


# --- answers -------------------------------------------------------------------------------------------------


def _envelope(ask: Ask, number: int, status: str) -> _Json:
    return {
        "id": f"resp_sim{number:08d}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "parallel_tool_calls": ask.is_parallel,
        "tool_choice": "auto",
        "tools": [],
        "store": False,
    }


def _items(answer: Answer, number: int, status: str) -> list[_Json]:
    items: list[_Json] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": answer.reasoning}]
        sealed = {"summary": summary, "encrypted_content": f"sealed-{number}"}
        items.append({"id": f"rs_sim{number:08d}", "type": "reasoning", **sealed})
    content: list[_Json] = []
    if answer.text:
        content.append({"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text})
    if answer.refusal:
        content.append({"type": "refusal", "refusal": answer.refusal})
    if content:
        head = {"id": f"msg_sim{number:08d}", "type": "message", "status": status, "role": "assistant"}
        items.append(head | {"content": content})
    return [*items, *(_call(call) for call in answer.calls)]


def _call(call: Call) -> _Json:
    head = {"id": f"fc_{call.id}", "type": "function_call", "status": "completed", "call_id": f"call_{call.id}"}
    return head | {"name": call.name, "arguments": call.arguments}


def _usage(ask: Ask, answer: Answer) -> _Json:
    output = answer.text_tokens + answer.reasoning_tokens
    return {
        "input_tokens": ask.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": ask.prompt_tokens + output,
    }
