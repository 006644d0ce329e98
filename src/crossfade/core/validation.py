"""Whether a complete answer may pass: the checks that follow from the request, and those that a route asks for.

It reads canonical answers and gives a `Failure` or None; it never raises, fetches nothing, and decides nothing
about what follows. An answer is judged for what the caller can use, by these rules:

- a finish reason that its reader called a failure is that failure;
- a refusal or content filter, and then the length limit, outrank whatever they did to the content: an answer so
  ended is never called empty or bad JSON. Both are opt-in reasons, which dispatch looks up;
- no finish reason counts as a natural stop if there is content (some vendors never send one, and a buffered body
  that parsed was not cut), and excuses nothing if there is none;
- white space alone, or reasoning alone, is an empty answer.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn, Protocol

import jsonschema_rs
import msgspec

from crossfade.core.exchange import Choice, Completion, Finish, OutputFormat, RequestFacts, ToolCall
from crossfade.core.failure import DISPOSITIONS, Failure, FailureReason
from crossfade.core.policy import ValidationPolicy
from crossfade.core.schema_cost import MAX_PATTERNS, SchemaCost, cost_of, resolved

MAX_SCHEMA: Final = 128 * 1024
"""Bytes of a schema; an answer to a larger one must only be JSON."""
MAX_SCHEMA_WEIGHT: Final = 50_000
"""Parts of a schema with every reference written out; references doubled forty times over would never end."""

_SMALL_SCHEMA: Final = 16 * 1024
_MAX_ODD_TEXT: Final = 1024 * 1024
_REGEX_SIZE: Final = 1024 * 1024

_R = FailureReason


class Pattern(Protocol):
    """A compiled regular expression of a linear-time engine."""

    def search(self, text: str, /) -> object | None: ...


class Validators:
    """A route's own checks, ready to use. `match` and `not_match` are the policy's expressions, compiled.

    Raises ValueError where the policy has an expression and no pattern came with it.
    """

    __slots__ = ("_finish", "_match", "_min_chars", "_not_match")

    def __init__(
        self, policy: ValidationPolicy, *, match: Pattern | None = None, not_match: Pattern | None = None
    ) -> None:
        if (policy.match is None) != (match is None) or (policy.not_match is None) != (not_match is None):
            raise ValueError("`match` and `not_match` need a compiled pattern exactly where the policy has them")
        self._min_chars = policy.min_chars or 0
        self._finish = None if policy.finish is None else frozenset(policy.finish)
        self._match = match
        self._not_match = not_match

    def objection(self, choice: Choice) -> str | None:
        """Why the route does not want this answer, in words without any of it; None if it does.

        Tool calls need no text, so `min_chars` and `match` pass them. A refusal is for `content_filter` to judge:
        of these checks only `finish` speaks of it.
        """
        if self._finish is not None and not self._has_good_finish(choice):
            return f"the finish reason is {str(choice.finish or Finish.STOP)!r}"
        if _is_refused(choice):
            return None
        text = choice.text
        if not choice.tool_calls:
            if len(text) < self._min_chars:
                return f"{len(text)} characters, and the route wants {self._min_chars}"
            if self._match is not None and self._match.search(text) is None:
                return "the text does not match the route's pattern"
        if self._not_match is not None and self._not_match.search(text) is not None:
            return "the text matches a pattern that the route refuses"
        return None

    def _has_good_finish(self, choice: Choice) -> bool:
        assert self._finish is not None
        # A forced tool call ends with `stop`, and some vendors give no finish reason at all.
        return (choice.finish or Finish.STOP) in self._finish or (
            bool(choice.tool_calls) and Finish.TOOL_CALLS in self._finish and choice.finish is not Finish.LENGTH
        )


def check_completion(
    completion: Completion,
    facts: RequestFacts,
    validators: Validators | None = None,
    listed: frozenset[FailureReason] | None = None,
) -> Failure | None:
    """What is wrong with an answer; None if it may pass.

    Of several failures the first that is in `listed` (the effective `fallback_on`) is given, else the first: a
    truncated answer that a validator dislikes too falls back if either is listed. Of n choices each is checked;
    fewer than were asked for are no failure. A fault in the checks themselves is `internal_error`.
    """
    try:
        if facts.asks == "embeddings":
            return check_vectors(completion, facts)
        return _check(completion, facts, validators, listed)
    except Exception as error:  # ours or a pattern engine's: nothing that an answer holds may raise through here
        return _failure(_R.INTERNAL_ERROR, f"the answer could not be checked: {type(error).__name__}")


def check_vectors(completion: Completion, facts: RequestFacts) -> Failure | None:
    """What is wrong with an answer to a request for embeddings: too few vectors, or of another length than asked for
    or than each other. Opt-in validators are of texts and have nothing to say."""
    count, lengths = len(completion.vectors), {_vector_length(vector) for vector in completion.vectors}
    if not count:
        return _failure(_R.EMPTY_OUTPUT, "no vectors")
    if facts.inputs and count != facts.inputs:
        return _failure(_R.MALFORMED_OUTPUT, f"{count} vectors for {facts.inputs} texts")
    if len(lengths) > 1:
        return _failure(_R.MALFORMED_OUTPUT, "vectors of different lengths")
    if 0 in lengths and facts.encoding == "base64":
        return _failure(_R.MALFORMED_OUTPUT, "base64 that holds no whole numbers")
    is_counted = completion.vectors[0][:1] == b"[" or facts.encoding == "base64"
    if is_counted and facts.dimensions is not None and lengths != {facts.dimensions}:
        return _failure(_R.MALFORMED_OUTPUT, f"vectors of {lengths.pop()} numbers instead of {facts.dimensions}")
    return None


def _vector_length(vector: bytes) -> int:
    """How many numbers a vector has, those in base64 being of four bytes; 0 where these are not whole."""
    if vector[:1] == b"[":
        return vector.count(b",") + 1
    size = (len(vector) - 2 - vector.count(b"=")) * 3 // 4
    return 0 if size % 4 else size // 4


class OutputCheck:
    """`check_completion` for the answers to one request: by what was asked, and by each set of opt-in validators."""

    __slots__ = (
        "facts",
        "listed",
        "validators",
    )

    def __init__(
        self,
        facts: RequestFacts,
        validators: tuple[Validators, ...],
        listed: frozenset[FailureReason],
    ) -> None:
        self.facts = facts
        self.validators = validators
        self.listed = listed

    def __call__(self, completion: Completion) -> Failure | None:
        for validators in self.validators or _NO_VALIDATORS:
            failure = check_completion(completion, self.facts, validators, self.listed)
            if failure is not None:
                return failure
        return None


_NO_VALIDATORS: Final[tuple[Validators | None, ...]] = (None,)


def check_text_json(text: str) -> bool:
    """Whether `text` is one whole JSON value (RFC 8259: no NaN, no code fence) and nothing else but white space.

    Nesting deeper than the interpreter's recursion limit is no JSON: no ordinary client could read it.
    """
    try:
        _SYNTAX.decode(text)
        return True
    except RecursionError:
        return False
    except UnicodeEncodeError:
        return _is_json_to_stdlib(text)
    except msgspec.DecodeError:
        # Half a surrogate pair is within the grammar, and clients read it; msgspec does not. What reads it takes ten
        # times as long, too long for texts of any length.
        return len(text) <= _MAX_ODD_TEXT and ("\\ud" in text or "\\uD" in text) and _is_json_to_stdlib(text)


def check_format(text: str, output: OutputFormat) -> Failure | None:
    """Whether a text is the JSON that was asked for.

    `json_object`: an object. `json_schema`: any JSON, valid against the schema if `strict`. A schema that cannot be
    used here (it does not compile, is too large, refers elsewhere) asks for JSON and no more: whether it is any good
    is for the provider to say.
    """
    if not check_text_json(text):
        return _failure(_R.INVALID_JSON, "the content is no JSON")
    if output.kind == "json_object":
        is_object = text.lstrip(_JSON_SPACE).startswith("{")
        return None if is_object else _failure(_R.INVALID_JSON, "the content is JSON but no object")
    if output.strict and output.schema is not None and not _fits_schema(text, output.schema):
        return _failure(_R.INVALID_JSON, "the content does not fit the schema")
    return None


def check_tool_call(call: ToolCall, facts: RequestFacts) -> Failure | None:
    """Whether the caller can carry out a tool call.

    Its own function tools get arguments that are a JSON object ("" and `null` mean an empty one). Other names
    are a failure unless the request has tools of other kinds, whose calls are not looked into. So is any call
    where the request has no tools.
    """
    if call.name not in facts.tools:
        if facts.has_other_tools:
            return None
        return _failure(_R.INVALID_TOOL_CALL, "a tool call names a function that the request does not have")
    arguments = call.arguments
    if not arguments or arguments == "null":
        return None
    if not check_text_json(arguments):
        return _failure(_R.INVALID_TOOL_CALL, "the arguments of a tool call are no JSON")
    if not arguments.lstrip(_JSON_SPACE).startswith("{"):
        return _failure(_R.INVALID_TOOL_CALL, "the arguments of a tool call are no JSON object")
    return None


# --- one answer ----------------------------------------------------------------------------------------------


def _check(
    completion: Completion,
    facts: RequestFacts,
    validators: Validators | None,
    listed: frozenset[FailureReason] | None,
) -> Failure | None:
    if not completion.choices:
        return _failure(_R.MALFORMED_OUTPUT, "the answer has no choices")
    first: Failure | None = None
    for choice in completion.choices:
        if validators is None and _is_plain(choice, facts):
            continue
        for failure in _failures(choice, facts, validators):
            if listed is None or failure.reason in listed:
                return failure
            first = first or failure
    return first


_STOP: Final = Finish.STOP  # looked up once: an attribute of an enumeration is slow to find


def _is_plain(choice: Choice, facts: RequestFacts) -> bool:
    """Whether an answer is a text that came to its natural end, of which nothing was asked: `_failures` finds none."""
    text = choice.text
    return (
        choice.finish is _STOP
        and facts.output is None
        and text != ""
        and not text.isspace()
        and not choice.tool_calls
        and not choice.refusal
        and choice.failure is None
    )


def _failures(choice: Choice, facts: RequestFacts, validators: Validators | None) -> Iterable[Failure]:
    """All that is wrong with one choice, the weightiest first."""
    if choice.failure is not None:
        return (choice.failure,)
    found: list[Failure] = []
    is_cut_short = True
    if _is_refused(choice):
        found.append(_failure(_R.CONTENT_FILTER, "the answer was refused or filtered"))
    elif choice.finish is Finish.LENGTH:
        found.append(_failure(_R.TRUNCATED_OUTPUT, "the answer was cut at the limit of output tokens"))
    else:
        is_cut_short = False
        if (failure := _content_failure(choice, facts)) is not None:
            found.append(failure)
    if validators is not None and (objection := validators.objection(choice)) is not None:
        # Before the opt-in reasons: a route that checks `finish` said what it thinks of a cut answer.
        found.insert(0 if is_cut_short else len(found), _failure(_R.REJECTED_OUTPUT, objection))
    return found


def _content_failure(choice: Choice, facts: RequestFacts) -> Failure | None:
    if choice.tool_calls:
        for call in choice.tool_calls:
            if (failure := check_tool_call(call, facts)) is not None:
                return failure
        return None
    text = choice.text
    if not text or text.isspace():
        if not _may_be_empty(choice, facts):
            return _failure(_R.EMPTY_OUTPUT, _empty_detail(choice))
        if choice.has_other_content:
            return None
    # A good reason to be empty excuses no missing JSON: the caller would fail to read it.
    return None if facts.output is None else check_format(text, facts.output)


def _is_refused(choice: Choice) -> bool:
    return choice.finish is Finish.CONTENT_FILTER or bool(choice.refusal)


def _may_be_empty(choice: Choice, facts: RequestFacts) -> bool:
    if choice.has_other_content or choice.stopped_by_sequence:
        return True
    # Only a natural stop: the model had nothing to add, ran into the caller's stop word, or may not call its tools.
    is_excused = facts.after_tool_result or facts.has_stop or facts.tool_choice == "none"
    return is_excused and choice.finish is Finish.STOP


def _empty_detail(choice: Choice) -> str:
    what = "no content but reasoning" if choice.reasoning else "no content"
    return f"{what}, {'no finish reason' if choice.finish is None else f'finish reason {str(choice.finish)!r}'}"


def _failure(reason: FailureReason, detail: str) -> Failure:
    return Failure(reason=reason, origin=DISPOSITIONS[reason].origin, detail=detail)


# --- JSON ----------------------------------------------------------------------------------------------------

_JSON_SPACE: Final = " \t\r\n"
_SYNTAX: Final = msgspec.json.Decoder(msgspec.Raw)  # checks the grammar and builds nothing
_VALUES: Final = msgspec.json.Decoder()


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _is_json_to_stdlib(text: str) -> bool:
    try:
        # Numbers stay text: a long one would raise, and only the grammar is asked about.
        json.loads(text, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _fits_schema(text: str, schema: bytes) -> bool:
    """Whether a JSON text fits; true where this cannot be said, or not in time."""
    compiled = _small(schema) if len(schema) <= _SMALL_SCHEMA else _large(schema) if len(schema) <= MAX_SCHEMA else None
    if compiled is None or not compiled.cost.is_bearable(text):
        return True
    try:
        return compiled.check(_VALUES.decode(text))
    except Exception:  # JSON that Python or the validator cannot hold (a number out of range, half a surrogate pair)
        return True


class _Schema:
    __slots__ = (
        "check",
        "cost",
    )

    def __init__(
        self,
        check: Callable[[Any], bool],
        cost: SchemaCost,
    ) -> None:
        self.check = check
        self.cost = cost


def _compiled(schema: bytes) -> _Schema | None:
    try:
        root = _VALUES.decode(schema)
        if _weight(root) > MAX_SCHEMA_WEIGHT:
            return None
        cost = cost_of(root)
        if cost.patterns > MAX_PATTERNS:
            return None
        check = jsonschema_rs.validator_for(
            schema.decode(),
            retriever=_refuse_reference,
            validate_formats=False,  # an annotation in current drafts, and what providers enforce differs
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_REGEX_SIZE, dfa_size_limit=_REGEX_SIZE),
        ).is_valid
        return _Schema(check, cost)
    except Exception:  # whatever is wrong with a caller's schema, the provider is the one to say so
        return None


# A cache of a pure function, bounded in entries and, by the limits of size, in memory.
_small = functools.lru_cache(maxsize=256)(_compiled)
_large = functools.lru_cache(maxsize=32)(_compiled)


def _refuse_reference(uri: str) -> NoReturn:
    raise ValueError("references to other documents are not followed")


def _weight(root: Any) -> int:
    """The parts of a schema with each local reference written out once per use; recursion counts once.

    Raises ValueError for a reference that is no pointer into this document, since what it costs cannot be seen.
    """
    known: dict[int, int] = {}

    def weight(node: Any) -> int:
        if not isinstance(node, dict | list):
            return 0
        if (seen := known.get(id(node))) is not None:
            return seen
        known[id(node)] = 1
        children = node.values() if isinstance(node, dict) else node
        total = 1 + sum(weight(child) for child in children)
        if isinstance(node, dict):
            if any(isinstance(node.get(word), str) for word in _NAMING) and node is not root:
                raise ValueError("a part that is referred to by name")
            if isinstance(reference := node.get("$ref"), str):
                total += weight(resolved(root, reference))
        known[id(node)] = total
        return total

    return weight(root)


_NAMING: Final = ("$id", "$dynamicRef", "$recursiveRef")
