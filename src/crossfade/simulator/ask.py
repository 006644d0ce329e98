"""What the simulator understands of a request, whatever its dialect. Untrusted JSON is read without ever raising.

It knows nothing of answers, faults or sockets.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from crossfade.core.exchange import CONTINUE_INSTRUCTION

MAX_CHOICES = 16

ToolMode = Literal["auto", "none", "required", "named"]
Role = Literal["system", "user", "assistant", "tool"]


class BadAsk(ValueError):
    """The request cannot be answered; the message is for the caller."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of the conversation; `results` are what tools said, `images` how many pictures it shows."""

    role: Role
    text: str = ""
    images: int = 0
    results: tuple[str, ...] = ()
    has_calls: bool = False


class ToolSpec(msgspec.Struct, frozen=True):
    """A function tool and the JSON Schema of its arguments."""

    name: str
    schema: dict[str, Any]


class Ask(msgspec.Struct, kw_only=True):
    """One request. `output` is set where JSON was asked for; `is_sse` is False for Gemini streams as a JSON array."""

    model: str
    turns: tuple[Turn, ...]
    stream: bool = False
    is_sse: bool = True
    include_usage: bool = False
    tools: tuple[ToolSpec, ...] = ()
    tool_mode: ToolMode = "auto"
    tool_name: str = ""
    is_parallel: bool = True
    output: Literal["json_object", "json_schema"] | None = None
    schema: Any = None
    n: int = 1
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    wants_thinking: bool = False

    @property
    def prompt(self) -> str:
        """What the user last asked, without the turns that ask for the rest of a cut answer."""
        return next((turn.text for turn in reversed(self._asked) if turn.role == "user" and turn.text.strip()), "")

    @property
    def partial(self) -> str | None:
        """The cut answer that is to be continued behind a repeated anchor; None for any other request."""
        if len(self.turns) < 2:
            return None
        before, last = self.turns[-2:]
        is_asked = last.role == "user" and last.text.startswith(CONTINUE_INSTRUCTION.strip())
        return before.text if is_asked and before.role == "assistant" else None

    @property
    def anchor(self) -> str:
        """The characters that the continuation is asked to begin with."""
        return self.turns[-1].text.removeprefix(CONTINUE_INSTRUCTION) if self.partial is not None else ""

    @property
    def prefill(self) -> str | None:
        """The assistant's text that the answer is to go on behind; None where the last turn is not the assistant's."""
        last = self.turns[-1] if self.turns else None
        return last.text if last is not None and last.role == "assistant" and not last.has_calls else None

    @property
    def _asked(self) -> tuple[Turn, ...]:
        """The conversation without the turns of an answer that is to go on."""
        if self.partial is not None:
            return self.turns[:-2]
        return self.turns if self.prefill is None else self.turns[:-1]

    @property
    def results(self) -> tuple[str, ...]:
        """What tools said since the assistant's last turn."""
        found: list[str] = []
        for turn in reversed(self._asked):
            if turn.role == "assistant":
                break
            found[:0] = turn.results
        return tuple(found)

    @property
    def images(self) -> int:
        """How many pictures came since the assistant's last turn."""
        count = 0
        for turn in reversed(self._asked):
            if turn.role == "assistant":
                break
            count += turn.images
        return count

    @property
    def prompt_tokens(self) -> int:
        """Words stand for tokens."""
        return sum(len(turn.text.split()) + sum(len(r.split()) for r in turn.results) for turn in self.turns)


def as_dict(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """The value if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def as_count(value: object) -> int | None:
    """The value if it is a whole number of at least 1, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def as_words(value: object) -> tuple[str, ...]:
    """A string or an array of strings, as strings that are not empty."""
    given = [value] if isinstance(value, str) else as_list(value)
    return tuple(one for one in given if isinstance(one, str) and one)


def choices_of(value: object) -> int:
    """How many answers are asked for. Raises BadAsk above `MAX_CHOICES`."""
    count = as_count(value) or 1
    if count > MAX_CHOICES:
        raise BadAsk(f"Invalid value for 'n': at most {MAX_CHOICES} choices.")
    return count


def tool_spec(function: object, *schema_fields: str) -> ToolSpec | None:
    """A declared function, its schema under the first of `schema_fields` that is there; None without a name."""
    declared = as_dict(function)
    name = as_text(declared.get("name"))
    schema = next((as_dict(declared[field]) for field in schema_fields if declared.get(field)), {})
    return ToolSpec(name, schema) if name else None


def result_text(value: object) -> str:
    """What a tool said as text; an object with a single text in it is that text."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1 and isinstance(only := next(iter(value.values())), str):
        return only
    return msgspec.json.encode(value).decode()
