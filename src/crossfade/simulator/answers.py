"""What a healthy provider answers, decided from the request and a scheduled step. The same on every provider and
model, so that a join of two streams can be proven; random never, words stand for tokens.

It knows nothing of dialects, faults or sockets.
"""

from __future__ import annotations

import random
import re
import zlib
from typing import Any, Literal

import msgspec

from crossfade.simulator.ask import Ask, ToolSpec, as_dict, as_list
from crossfade.simulator.faults import Step

MAX_WORDS = 100_000

Finish = Literal["stop", "length", "tool_calls", "content_filter"]

_DIRECTIVE = re.compile(r"\[\[(tools?|think|words)(?::(\d{1,6}))?\]\]")
# Letters of several bytes are among them, so that a stream torn at any byte is torn inside a letter too.
_WORDS = (
    "amber anchor autumn basin beacon birch breeze café candle canyon cedar cloud coast copper coral cotton crane"
    " dawn delta drift dusk ember fable falcon fern field flint forest garden glacier grain granite harbour hazel"
    " heron horizon island jasper juniper kestrel lagoon lantern lark lemon lichen linen maple marble meadow mellow"
    " mirror morning naïve nectar north oak ocean olive orchard otter pebble pine plain plover pond prairie quartz"
    " quiet rain raven reed ridge river rowan saffron sage salt sand sedge shore silver sky slate smörgås snow sparrow"
    " spring spruce stone stream summer swallow thistle thyme tide timber umber valley velvet violet walnut water"
    " wave wheat willow winter wren yarrow Zürich"
).split()


class Call(msgspec.Struct, frozen=True):
    """A call of a function tool; `arguments` is JSON text, broken on request. `id` has no vendor's prefix."""

    id: str
    name: str
    arguments: str


class Answer(msgspec.Struct, kw_only=True):
    """One answer. `pieces` is the text as streams cut it; `stop_sequence` the one that ended it."""

    text: str = ""
    pieces: tuple[str, ...] = ()
    reasoning: str = ""
    refusal: str = ""
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"
    raw_finish: str | None = None
    stop_sequence: str | None = None
    is_forced_call: bool = False

    @property
    def reasoning_tokens(self) -> int:
        return len(self.reasoning.split())

    @property
    def text_tokens(self) -> int:
        """Output without the reasoning."""
        calls = sum(1 + len(call.arguments.split()) for call in self.calls)
        return len(self.text.split()) + len(self.refusal.split()) + calls


def healthy_text(prompt: str, words: int = 60) -> str:
    """The answer of every healthy provider to `prompt`: its first words, then sentences drawn from its checksum."""
    prompt = " ".join(_DIRECTIVE.sub(" ", prompt).split())
    draw = random.Random(zlib.crc32(prompt.encode("utf-8", "surrogatepass")))
    echo = " ".join(prompt.split()[:8])
    drawn = [f"Echo: {echo}."] if echo else ["Echo."]
    while sum(len(part.split()) for part in drawn) < words:
        sentence = " ".join(draw.choice(_WORDS) for _ in range(draw.randint(5, 11)))
        drawn.append(f"{sentence[0].upper()}{sentence[1:]}.")
    return " ".join(" ".join(drawn).split()[: max(1, words)])


def answer_to(ask: Ask, step: Step) -> Answer:
    """The healthy answer under the options of `step`."""
    directives = {name: int(number or 1) for name, number in _DIRECTIVE.findall(ask.prompt)}
    reasoning = healthy_text(f"why {ask.prompt}", 20) if "think" in directives or ask.wants_thinking else ""
    calls = _calls(ask, directives.get("tools", directives.get("tool", 0)))
    if calls:
        is_forced = ask.tool_mode == "named"
        return Answer(reasoning=reasoning, calls=calls, finish="tool_calls", is_forced_call=is_forced)
    answer = _within_limits(_continued(ask, step, _whole_text(ask, step, directives)), ask)
    answer.reasoning = reasoning
    answer.pieces = cut(answer.text, step.pieces)
    return answer


def _whole_text(ask: Ask, step: Step, directives: dict[str, int]) -> str:
    if step.text is not None:
        return step.text
    if ask.output == "json_schema":
        return msgspec.json.encode(instance_of(ask.schema)).decode()
    words = min(directives.get("words", step.words), MAX_WORDS)
    if ask.output == "json_object":
        return msgspec.json.encode({"answer": healthy_text(ask.prompt, min(words, 12))}).decode()
    seen = [f"Saw {ask.images} image{'s' if ask.images > 1 else ''}."] if ask.images else []
    heard = [f"The tool said: {result}." for result in ask.results]
    return " ".join([*seen, *heard, healthy_text(ask.prompt, words)])


def _continued(ask: Ask, step: Step, whole: str) -> str:
    """What is left of `whole` where a part of it is already there."""
    if ask.partial is None and ask.prefill is None:
        return whole
    if step.continuation == "replay":
        return whole
    if step.continuation == "differ":
        return healthy_text(f"otherwise {ask.prompt}", step.words)
    if ask.partial is None:
        given = (ask.prefill or "").rstrip()
        return whole[len(given) :] if whole.startswith(given) else f" {whole}"
    return ask.anchor + _rest(whole, ask.partial, ask.anchor)


def _rest(whole: str, partial: str, anchor: str) -> str:
    if whole.startswith(partial):
        return whole[len(partial) :]
    # Turns that were trimmed on the way still end in the anchor.
    place = whole.find(anchor.strip())
    return whole[place + len(anchor.strip()) :] if place >= 0 and anchor.strip() else f" {whole}"


def _within_limits(text: str, ask: Ask) -> Answer:
    """Stop sequences first, as a model meets them while it counts."""
    found = [(place, stop) for stop in ask.stop if (place := text.find(stop)) >= 0]
    place, stop = min(found, default=(len(text), None))
    text = text[:place]
    if ask.max_tokens is not None and len(words := re.findall(r"\s*\S+", text)) > ask.max_tokens:
        return Answer(text="".join(words[: ask.max_tokens]), finish="length")
    return Answer(text=text, stop_sequence=stop)


def cut(text: str, pieces: Literal["words", "chars"] | int = "words") -> tuple[str, ...]:
    """The text in pieces: by words (each with the space before it), by characters, or in so many pieces."""
    if pieces == "chars":
        return tuple(text)
    if pieces == "words":
        # JSON may have no spaces at all; a stream of one piece would not be much of a stream.
        return tuple(part[i : i + 12] for part in re.findall(r"\s*\S+|\s+$", text) for i in range(0, len(part), 12))
    size = max(1, -(-len(text) // max(1, pieces)))
    return tuple(text[i : i + size] for i in range(0, len(text), size))


def _calls(ask: Ask, wanted: int) -> tuple[Call, ...]:
    if not ask.tools or ask.tool_mode == "none" or ask.results:
        return ()
    tools = [tool for tool in ask.tools if tool.name == ask.tool_name] if ask.tool_mode == "named" else ask.tools
    if not tools or not (wanted or ask.tool_mode in ("required", "named")):
        return ()
    count = max(1, min(wanted, 16)) if ask.is_parallel else 1
    return tuple(call_of(tools[i % len(tools)], i) for i in range(count))


def call_of(tool: ToolSpec, number: int = 0) -> Call:
    """A call of `tool` with arguments that its schema accepts."""
    arguments = msgspec.json.encode(as_dict(instance_of(tool.schema))).decode()
    return Call(f"{zlib.crc32(tool.name.encode('utf-8', 'surrogatepass')):08x}{number:04d}", tool.name, arguments)


def instance_of(schema: Any, root: Any = None, depth: int = 0) -> Any:
    """A small value that a JSON Schema accepts. Covers what tools and answers use; what it does not know is ignored."""
    root = schema if root is None else root
    schema = as_dict(schema)
    if depth > 24:
        return None
    if isinstance(reference := schema.get("$ref"), str):
        return instance_of(_resolved(root, reference), root, depth + 1)
    if "const" in schema:
        return schema["const"]
    for given in ("enum", "examples"):
        if values := as_list(schema.get(given)):
            return values[0]
    for several in ("anyOf", "oneOf"):
        if options := as_list(schema.get(several)):
            return instance_of({**schema, several: None, **as_dict(options[0])}, root, depth + 1)
    for part in as_list(schema.get("allOf")):
        schema = {**as_dict(part), **{k: v for k, v in schema.items() if k != "allOf"}}
    return _instance_by_type(schema, root, depth)


def _instance_by_type(schema: dict[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type")
    kind = as_list(kind)[0] if as_list(kind) else kind
    kind = kind.lower() if isinstance(kind, str) else "object" if "properties" in schema else "string"
    match kind:
        case "object":
            properties = as_dict(schema.get("properties"))
            names = [name for name in as_list(schema.get("required")) if isinstance(name, str)]
            return {name: instance_of(properties.get(name, {}), root, depth + 1) for name in names}
        case "array":
            count = min(_number(schema.get("minItems"), 1), 32)
            return [instance_of(schema.get("items"), root, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return _number(schema.get("minimum"), min(1, _number(schema.get("maximum"), 1)))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _string(schema)


def _string(schema: dict[str, Any]) -> str:
    formats = {"date": "2026-01-02", "date-time": "2026-01-02T03:04:05Z", "time": "03:04:05Z", "uri": "https://a.test/"}
    formats |= {"email": "a@b.test", "uuid": "12345678-1234-4234-8234-123456789abc", "ipv4": "192.0.2.1"}
    text = formats.get(str(schema.get("format")), "text")
    text = text.ljust(min(_number(schema.get("minLength"), 0), 10_000), "x")
    return text[: _number(schema.get("maxLength"), len(text))]


def _number(value: object, otherwise: int) -> int:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


def _resolved(root: Any, reference: str) -> Any:
    if not reference.startswith("#"):
        return {}
    found: Any = root
    for name in reference.removeprefix("#").split("/"):
        if name:
            found = as_dict(found).get(name.replace("~1", "/").replace("~0", "~"))
    return found
