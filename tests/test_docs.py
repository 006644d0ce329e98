"""The documentation says what the program does: names, defaults and examples are compared with the code."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, get_args

import msgspec
import pytest

from crossfade.cli.main import COMMANDS, main
from crossfade.config import directory
from crossfade.config.loader import load_config
from crossfade.config.schema import FileShape
from crossfade.config.shape import key_rows
from crossfade.core import (
    backoff,
    balancer,
    breaker,
    budget,
    concurrency,
    dispatch,
    ejection,
    health,
    join,
    load,
    policy,
    price,
    probing,
    schema_cost,
    shedding,
    siblings,
    validation,
)
from crossfade.core.events import AttemptRow, Event, RequestEnded
from crossfade.core.failure import DISPOSITIONS, FALLBACK_WORDS, FailureReason, FallBack, HealthEffect, Origin, Retry
from crossfade.core.policy import BreakerPolicy, ConcurrencyPolicy, HealthPolicy, RetryPolicy, StreamPolicy
from crossfade.edge import app, auth, intake, models
from crossfade.engine import engine, probes, relay
from crossfade.providers.compatible import VENDORS
from crossfade.simulator.faults import FAULTS, Step
from crossfade.simulator.thread import ProviderSimulator
from crossfade.transport.chaos import FaultKind
from crossfade.wire import members, ours, reading
from crossfade.wire.anthropic_writer import error_body
from crossfade.wire.openai_chat import Options, read_request
from tests.documents import (
    DOCS,
    PAGES,
    ROOT,
    Block,
    Table,
    anchors,
    blocks,
    links,
    measure,
    page,
    plain,
    shown,
    tables,
    tables_with,
    words,
)

SOURCE = ROOT / "src" / "crossfade"
FALLBACK = page("policies/fallback.md")
REQUESTS = page("requests.md")
SIMULATOR = page("simulator.md")
POLICIES = [
    page(f"policies/{name}.md")
    for name in (
        *("fallback", "streams", "validation", "timeouts", "health", "limits", "pools", "routing", "hedging", "retry"),
        *("overload", "concurrency"),
    )
]
MIGRATE = [page(f"migrate/{name}.md") for name in ("openrouter", "direct", "langchain", "agents")]
OUR_PAGES = [*POLICIES, *MIGRATE, REQUESTS, SIMULATOR, page("design.md"), page("explain.md")]
EVENTS = {kind.__struct_config__.tag for kind in get_args(Event)}


def pairs(found: list[Table], key: str, value: str) -> dict[str, str]:
    """Two columns of some tables as a mapping; no key may come twice."""
    rows = [(plain(k), v) for table in found for k, v in zip(table.column(key), table.column(value), strict=True)]
    assert len(dict(rows)) == len(rows), f"twice in {sorted(k for k, _ in rows)}"
    return dict(rows)


def source_files(*folders: str) -> Iterator[Path]:
    for folder in folders or ("",):
        yield from sorted((SOURCE / folder).rglob("*.py"))


# --- failures ------------------------------------------------------------------------------------------------


def test_the_table_of_reasons_is_the_programs() -> None:
    (table,) = tables_with(FALLBACK, "reason", "what happened")
    said = {plain(row[0]): tuple(plain(cell) for cell in row[2:]) for row in table.rows}
    assert table.columns[2:] == ("origin", "retry", "falls back", "health", "status", "marks")
    assert said == {
        str(reason): (
            row.origin.value,
            row.retry.value,
            row.fall_back.value,
            row.health.value,
            "as received" if row.status is None else str(row.status),
            ", ".join(
                mark
                for mark, is_set in (("alert", row.is_alert), ("soft", row.is_soft), ("defect", row.is_defect))
                if is_set
            ),
        )
        for reason, row in DISPOSITIONS.items()
    }
    assert all(table.column("what happened"))


def test_every_value_in_the_table_of_reasons_is_explained() -> None:
    (table,) = tables_with(FALLBACK, "value", "column", "means")
    explained = {(plain(row[0]), row[1]) for row in table.rows}
    kinds = {"origin": Origin, "retry": Retry, "falls back": FallBack, "health": HealthEffect}
    assert explained == {(value.value, column) for column, kind in kinds.items() for value in kind}


def test_the_words_of_fallback_on_are_the_programs() -> None:
    (table,) = tables_with(FALLBACK, "word", "stands for")
    said = {plain(word): words(reasons) for word, reasons in table.rows}
    assert {word: set(reasons) for word, reasons in said.items()} == dict(FALLBACK_WORDS)
    assert all(len(set(reasons)) == len(reasons) for reasons in said.values())


def test_validation_names_its_reasons() -> None:
    (table,) = tables_with(page("policies/validation.md"), "reason", "when")
    soft = {reason for reason, row in DISPOSITIONS.items() if row.is_soft}
    assert {plain(cell) for cell in table.column("reason")} == {*soft, FailureReason.MALFORMED_OUTPUT}


def test_retry_speaks_of_every_reason_that_is_retried() -> None:
    (table,) = tables_with(page("policies/retry.md"), "after", "again")
    retried = {str(reason) for reason, row in DISPOSITIONS.items() if row.retry is not Retry.NO}
    assert {word for cell in table.column("after") for word in words(cell)} == retried


# --- settings and fixed values -------------------------------------------------------------------------------


def test_the_settings_of_routes_are_documented_with_their_defaults() -> None:
    said = [row for path in POLICIES for table in tables(path) if "setting" in table.columns for row in table.rows]
    prefix = "routes.NAME."
    expected = [
        (f"`{key.removeprefix(prefix)}`", default, meaning)
        for key, default, meaning in key_rows(FileShape)
        if key.startswith(prefix) and "[]" not in key
    ]
    assert sorted(said) == sorted(expected)


class Fixed(msgspec.Struct, frozen=True):
    """Where a page's fixed values come from: all fields of `structs` but those that are settings, and constants."""

    structs: Mapping[type[msgspec.Struct], frozenset[str]] = MappingProxyType({})
    modules: tuple[ModuleType, ...] = ()


FIXED = {
    "policies/streams.md": Fixed(
        MappingProxyType({StreamPolicy: frozenset({"commit", "hold_tool_calls", "hold_json", "recover"})}),
        (join, policy, relay),
    ),
    "policies/validation.md": Fixed(modules=(validation, schema_cost)),
    "policies/timeouts.md": Fixed(modules=(policy, intake, relay, engine)),
    "policies/health.md": Fixed(
        MappingProxyType({BreakerPolicy: frozenset(), HealthPolicy: frozenset({"breaker"})}),
        (policy, backoff, breaker, ejection, health, probes, probing, siblings),
    ),
    "policies/hedging.md": Fixed(modules=(load,)),
    "policies/pools.md": Fixed(modules=(balancer, load, price)),
    "policies/routing.md": Fixed(modules=(price,)),
    "policies/concurrency.md": Fixed(MappingProxyType({ConcurrencyPolicy: frozenset()}), (concurrency,)),
    "policies/overload.md": Fixed(modules=(shedding, engine, app)),
    "policies/retry.md": Fixed(
        MappingProxyType({RetryPolicy: frozenset({"max_wait", "delay", "max_attempts", "budget_ratio"})}),
        (budget, dispatch),
    ),
    "requests.md": Fixed(modules=(ours, reading, members, directory, auth, intake, models)),
}
SETTINGS_OF_POLICY = {
    "CONNECT_TIMEOUT",
    "FIRST_CONTENT_TIMEOUT",
    "SILENCE_TIMEOUT",
    "IDLE_TIMEOUT",
    "ATTEMPT_TIMEOUT",
    "MAX_STREAM",
    "OVERALL_TIMEOUT",
    "DEFAULT_FALLBACK",
}
"""Constants of core/policy.py that are the defaults of settings, and compared with the docs as such."""


def constants(module: ModuleType) -> dict[str, Any]:
    """What a module itself defines in capitals."""
    assignments = [
        node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, (ast.Assign, ast.AnnAssign))
    ]
    targets = [
        target for node in assignments for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    defined = {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return {name: getattr(module, name) for name in defined if re.fullmatch(r"[A-Z][A-Z0-9_]*", name)}


@pytest.mark.parametrize("name", FIXED)
def test_fixed_values_are_the_programs(name: str) -> None:
    fixed = FIXED[name]
    said = {
        key: measure(value) for key, value in pairs(tables_with(page(name), "name", "value"), "name", "value").items()
    }
    fields = {
        field.name: field.default
        for struct, settings in fixed.structs.items()
        for field in msgspec.structs.fields(struct)
        if field.name not in settings
    }
    known = {**fields, **{key: value for module in fixed.modules for key, value in constants(module).items()}}
    assert said == {key: pytest.approx(known.get(key)) for key in said}
    assert fields.keys() <= said.keys()


def test_every_constant_of_the_policies_is_documented() -> None:
    said = {key for name in FIXED for key in pairs(tables_with(page(name), "name", "value"), "name", "value")}
    assert constants(policy).keys() - SETTINGS_OF_POLICY <= said
    assert constants(policy).keys() >= SETTINGS_OF_POLICY - {"DEFAULT_FALLBACK"}


def test_the_headers_of_rate_limits_are_the_rows_of_the_vendors() -> None:
    (table,) = tables_with(page("policies/limits.md"), "vendor", "limit", "left")
    known = []
    for vendor in VENDORS.values():
        for row in vendor.limits:
            reset = f"`{row.reset}`{' in ms' if row.reset_in_ms else ''}" if row.reset else f"{row.window:,.0f} s"
            most = f"`{row.most}`" if row.most else ""
            known.append((f"`{vendor.name}`", row.name, f"`{row.left}`", most, reset))
    assert [tuple(row) for row in table.rows] == known
    said = page("policies/limits.md").read_text()
    (sentence,) = re.findall(r"Other vendors say nothing that is read: ([^.]*)", said)
    assert set(words(sentence)) == {vendor.name for vendor in VENDORS.values() if not vendor.limits}


# --- events, headers, codes ----------------------------------------------------------------------------------

OUR_HEADERS = {
    name for path in source_files() for name in re.findall(r"(?:\\n|\b)(x-crossfade-[a-z-]*[a-z])\b", path.read_text())
}


def response_headers() -> set[str]:
    """The headers that answers are given, by the pairs and the lines that the code writes."""
    text = "".join(path.read_text() for path in source_files("engine", "edge"))
    pairs = re.findall(r"\(\"(x-[a-z-]+|retry-after)\", [^)]", text)
    lines = re.findall(r"(?:\\n|\b)(x-[a-z-]+|retry-after): ", text)
    return {*pairs, *lines} - {"x-api-key"}


def codes() -> dict[str, set[int]]:
    """The codes of our own errors with the statuses that stand beside them, where these are plain numbers."""
    found: dict[str, set[int]] = {}
    for path in source_files("core", "edge", "engine", "wire"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _called(node) in _ERRORS:
                keywords = {one.arg: one.value for one in node.keywords}
                code = _literal(keywords.get("code"))
                statuses = [_literal(keywords.get("status")), *map(_literal, node.args)]
            elif isinstance(node, ast.ClassDef):
                values = {_target(one): _literal(getattr(one, "value", None)) for one in node.body}
                code, statuses = values.get("code"), [values.get("status")]
            else:
                continue
            if isinstance(code, str):
                found.setdefault(code, set()).update(s for s in statuses if isinstance(s, int))
    return found


_ERRORS = {"problem", "_refuse", "InvalidRequest", "UnknownRoute", "Unauthenticated", "GiveUp"}


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _literal(node: ast.AST | None) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _target(node: ast.stmt) -> str:
    target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
    return getattr(target, "id", "")


def event_rows() -> list[tuple[str, str, str]]:
    rows = [
        (shown(path), row[0], plain(row[1])) for path in POLICIES for row in tables_with(path, "kind", "name")[0].rows
    ]
    assert {kind for _, kind, _ in rows} == {"event", "field", "header", "code"}
    return rows


def test_every_event_is_documented_and_the_reverse() -> None:
    assert {name for _, kind, name in event_rows() if kind == "event"} == EVENTS


def test_documented_fields_are_in_the_record() -> None:
    known = {*RequestEnded.__struct_fields__, *AttemptRow.__struct_fields__}
    assert [row for row in event_rows() if row[1] == "field" and row[2] not in known] == []


def test_documented_codes_and_headers_of_policies_are_those_of_requests() -> None:
    known = {*pairs(tables_with(REQUESTS, "code", "status"), "code", "status"), *FailureReason}
    assert [row for row in event_rows() if row[1] == "code" and row[2] not in known] == []
    headers = pairs(tables_with(REQUESTS, "response header"), "response header", "when")
    assert [row for row in event_rows() if row[1] == "header" and row[2] not in headers] == []


def test_every_response_header_is_documented_and_the_reverse() -> None:
    said = pairs(tables_with(REQUESTS, "response header"), "response header", "when")
    assert set(said) == response_headers()


def test_every_request_header_is_documented_and_the_reverse() -> None:
    said = set(pairs(tables_with(REQUESTS, "request header"), "request header", "as"))
    answers = {name for name in response_headers() if name.startswith("x-crossfade-")}
    assert said | answers == OUR_HEADERS
    assert said & answers == {ours.ROUTE_HEADER}


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_no_page_speaks_of_a_header_that_is_not_there(path: Path) -> None:
    assert set(re.findall(r"\bx-crossfade-[a-z-]*[a-z]\b", path.read_text())) <= OUR_HEADERS


def test_every_error_code_is_documented_and_the_reverse() -> None:
    rows = pairs(tables_with(REQUESTS, "code", "status"), "code", "status")
    said = {code: status for code, status in rows.items() if not code.startswith("a [reason]")}
    found = {code: statuses for code, statuses in codes().items() if code not in set(FailureReason)}
    found.pop("join_refused", None)  # of an attempt, in the record: nobody is answered with it
    assert said.keys() == found.keys()
    assert len(rows) == len(said) + 1
    wrong = {
        code: statuses for code, statuses in found.items() if not {str(s) for s in statuses} <= _statuses(said[code])
    }
    assert wrong == {}


def _statuses(text: str) -> set[str]:
    return set(text.split(", "))


def test_what_the_server_refuses_is_documented() -> None:
    (table,) = tables_with(REQUESTS, "status", "when")
    found = {"503"}  # too many connections
    for path in source_files("http1"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _called(node) == "BadMessage" and path.name != "client.py":
                found |= {str(status) for status in map(_literal, node.args) if isinstance(status, int)}
    assert set(table.column("status")) == found


# --- requests ------------------------------------------------------------------------------------------------


def test_our_fields_are_documented() -> None:
    assert set(pairs(tables_with(REQUESTS, "field", "meaning"), "field", "meaning")) == set(ours.OUR_FIELDS)


def test_the_options_of_a_request_are_documented() -> None:
    assert set(pairs(tables_with(REQUESTS, "option", "meaning"), "option", "meaning")) == set(Options.__struct_fields__)


def test_what_cannot_differ_per_target_is_documented() -> None:
    sentence = re.search(r"Parameters for one target can be any but (.*?)and ours", REQUESTS.read_text(), re.DOTALL)
    assert sentence is not None
    assert set(words(sentence[1])) == ours.NOT_PER_TARGET - set(ours.OUR_FIELDS)


# --- the simulator -------------------------------------------------------------------------------------------


def test_every_fault_is_documented_and_the_reverse() -> None:
    said = {}
    for table in tables_with(SIMULATOR, "fault", "what happens"):
        for name, says, options, healthy in table.rows:
            said[plain(name)] = (table.headings[-1], says, sorted(words(options)), healthy == "yes")
    assert said == {
        name: (row.group.value, row.says, sorted(row.options), row.is_legit) for name, row in FAULTS.items()
    }


def test_the_options_of_faults_are_documented() -> None:
    said = pairs(tables_with(SIMULATOR, "option", "default"), "option", "default")
    assert said == {field.name: _default(field.default) for field in msgspec.structs.fields(Step)}


def _default(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def test_the_simulator_of_tests_is_documented() -> None:
    (table,) = tables_with(SIMULATOR, "of `providersimulator`")
    said = {word.partition("(")[0] for cell in table.column("of `providersimulator`") for word in words(cell)}
    assert said == {name for name in vars(ProviderSimulator) if not name.startswith("_")}


def test_the_faults_of_try_are_documented() -> None:
    said = pairs(tables_with(SIMULATOR, "kind", "what happens"), "kind", "what happens")
    assert set(said) == {kind.value for kind in FaultKind}


def test_the_example_with_the_fixture_works() -> None:
    (example,) = [block for block in blocks(SIMULATOR) if block.language == "python"]
    names: dict[str, Any] = {}
    exec(compile(example.text, str(example), "exec"), names)
    with ProviderSimulator() as simulator:
        names["test_my_client_survives_an_overload"](simulator)


# --- commands and folders ------------------------------------------------------------------------------------


def test_every_command_is_documented_and_the_reverse() -> None:
    said = pairs(tables_with(page("design.md"), "command", "what it does"), "command", "what it does")
    assert said == {f"crossfade {name}": about for name, (_, about) in COMMANDS.items()}


def test_every_folder_of_the_program_is_in_the_picture() -> None:
    said = pairs(tables_with(page("design.md"), "folder", "what it does"), "folder", "what it does")
    assert set(said) == {path.parent.name for path in SOURCE.glob("*/__init__.py")}


# --- examples ------------------------------------------------------------------------------------------------

ENVIRON = {
    "HOME": "/nowhere",
    **{variable: f"sk-{variable.lower()}-0123456789" for row in VENDORS.values() for variable in row.env},
    "OPENAI_API_KEY_2": "sk-openai-second-0123456789",
    "OPENAI_API_KEY_3": "sk-openai-third-0123456789",
    "AZURE_API_KEY": "sk-azure-0123456789",
    "OLLAMA_API_KEY": "sk-ollama-0123456789",
    "LITELLM_MASTER_KEY": "sk-litellm-master-0123456789",
}
BLOCKS = [block for path in PAGES for block in blocks(path)]


def language_of(block: Block) -> str:
    """What an indented block is: pages without fences do not say it."""
    if block.language:
        return block.language
    first = block.text.partition("\n")[0]
    if first.startswith("# crossfade.yaml"):
        return "yaml"
    if first.startswith(("import ", "from ")):
        return "python"
    return "sh" if re.match(r"(scripts/|\.venv/|crossfade |curl )", first) else "text"


def of_language(*names: str) -> list[Block]:
    return [block for block in BLOCKS if language_of(block) in names]


OURS = [block for block in of_language("yaml") if not block.text.startswith("# config.yaml")]  # that is LiteLLM's


@pytest.mark.parametrize("block", OURS, ids=str)
def test_examples_of_the_configuration_are_accepted(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "crossfade.yaml"
    file.write_text(block.text)
    load_config(file, ENVIRON, VENDORS)


@pytest.mark.parametrize("block", of_language("python"), ids=str)
def test_examples_in_python_compile(block: Block) -> None:
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", of_language("json"), ids=str)
def test_examples_of_requests_are_accepted(block: Block) -> None:
    value = msgspec.json.decode(block.text)
    if "messages" in value:
        read_request(block.text.encode(), {})
    elif value.get("object") == "model":
        check_model(value)
    elif value.get("type") == "error":
        error = value["error"]
        assert value == msgspec.json.decode(error_body(400, error["message"], code=error["code"], param=error["param"]))
    elif "event" not in value:  # lines of the journal are compared with its events by their own test
        assert value.keys() <= {"crossfade", "error"}


def check_model(example: dict[str, Any]) -> None:
    """What the gateway of the README's first configuration says of this model."""
    (readme,) = [block for block in BLOCKS if block.page == "README.md" and language_of(block) == "yaml"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crossfade.yaml"
        file.write_text(readme.text)
        directory_of_file = directory.Directory(load_config(file, ENVIRON, VENDORS))
    answer = models.Models(directory_of_file).answer(example["id"], "", bound_route=None, is_anthropic=False)
    assert msgspec.json.decode(answer) == example
    shown = {*example, *example["crossfade"], *example["crossfade"]["targets"][0]}
    said = {word for cell in tables_with(REQUESTS, "member", "meaning")[0].column("member") for word in words(cell)}
    assert said == shown - {"id", "object", "crossfade", "target"}


@pytest.mark.parametrize("block", of_language("sh", "bash", "shell", "console"), ids=str)
def test_examples_for_the_shell_name_what_exists(block: Block) -> None:
    for line in block.text.replace("\\\n", " ").splitlines():
        command = shlex.split(line.removeprefix("$ "), comments=True)
        command = command[: command.index("|")] if "|" in command else command
        while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
            command.pop(0)
        if not command:
            continue
        if command[0].startswith("scripts/"):
            assert (ROOT / command[0]).is_file(), line
        elif Path(command[0]).name == "crossfade":
            _check_command(command[1:], line)


def _check_command(arguments: list[str], line: str) -> None:
    """The command is one of ours, and so are its options."""
    assert arguments, line
    assert arguments[0] in COMMANDS, line
    context = main.make_context("crossfade", [arguments[0], "--help"], resilient_parsing=True)
    command = main.get_command(context, arguments[0])
    assert command is not None, line
    for name in arguments[1:]:
        if (inner := getattr(command, "commands", {}).get(name)) is not None:
            command = inner
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {one.partition("=")[0] for one in arguments if one.startswith("-")} <= {*known, "--help", "-h"}, line


def test_commands_in_the_text_exist() -> None:
    found = {
        f"{shown(path)}: {name}"
        for path in PAGES
        for name in re.findall(r"`crossfade ([a-z]+)", path.read_text())
        if name not in COMMANDS
    }
    assert found == set()


# --- pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=shown)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", POLICIES, ids=shown)
def test_policy_pages_have_one_order(path: Path) -> None:
    headings = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
    assert headings == ["Example", "Settings", "Events", "Sequence", "Mistakes to avoid"]


@pytest.mark.parametrize("path", OUR_PAGES, ids=shown)
def test_lines_are_short(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), 1)
    assert [number for number, line in lines if len(line) > 120 and not line.startswith(("|", " "))] == []


def test_every_page_is_linked() -> None:
    linked = {(path.parent / link.partition("#")[0]).resolve() for path in PAGES for link in links(path)}
    lonely = [shown(path) for path in DOCS.rglob("*.md") if path not in linked and path.parent not in linked]
    assert lonely == []
