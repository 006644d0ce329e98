"""What a key is told of the names it may use: which of them, and what is known of the chain behind each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from crossfade.config.catalogue import ModelFacts
from crossfade.config.directory import MAX_NAME, Directory
from crossfade.core.errors import InvalidRequest, UnknownRoute
from crossfade.core.exchange import Ability
from crossfade.edge.models import DEFAULT_PAGE, MAX_PAGE, Models, model_of
from tests.config.samples import ENVIRON, Folder, facts

FACTS = facts(
    {
        ("anthropic", "claude-opus-5"): ModelFacts(window=1000, price_in=5e-06, price_out=2.5e-05, always_thinks=True),
        ("openai", "gpt-5.4"): ModelFacts(
            window=272, lacks=frozenset({Ability.AUDIO}), price_in=2.5e-06, price_out=0.0
        ),
        ("openai", "o3"): ModelFacts(always_thinks=True),
    }
)
TEXT = """\
providers:
  openai: {api_keys: [env:OPENAI_API_KEY, env:SECOND_KEY]}
  anthropic: {}
  local: {dialect: openai, base_url: http://127.0.0.1:9/v1, models: {llama3: {vision: false}}}
routes:
  chat:
    match: [gpt-4o, claude-*, vendor/model]
    chain: [anthropic/claude-opus-5, openai/gpt-5.4, local/llama3]
  thinking: {chain: [openai/o3, anthropic/claude-opus-5]}
fallbacks:
  alias: [openai/gpt-5.4]
  nothing-behind-it: []
  "*": []
"""
SEEN = [
    "chat",
    "thinking",
    "gpt-4o",
    "vendor/model",
    "anthropic/claude-opus-5",
    "openai/gpt-5.4",
    "local/llama3",
    "openai/o3",
    "alias",
]


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(Directory(Folder(tmp_path).load(TEXT, ENVIRON, FACTS)))


def asked(models: Models, model: str = "", query: str = "", key: str | None = None, anthropic: bool = False) -> Any:
    return msgspec.json.decode(models.answer(model, query, bound_route=key, is_anthropic=anthropic))


def ids(listed: Any) -> list[str]:
    return [model["id"] for model in listed["data"]]


# --- paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models", ""),
        ("/models", ""),
        ("/v1/models/chat", "chat"),
        ("/models/openai/gpt-5.4", "openai/gpt-5.4"),
        ("/v1/models/openai%2Fgpt-5.4", "openai/gpt-5.4"),
        ("/v1/models/100%25", "100%"),
        ("/v1/models/%C3%A9", "é"),
        ("/v1/models/%ff%zz", "\ufffd%zz"),
        ("/v1/models/models", "models"),
        ("/v1/models/", None),
        ("/v1/modelsx", None),
        ("/v2/models", None),
        ("/v1/v1/models", None),
        ("/", None),
    ],
)
def test_the_id_is_all_that_stands_behind_the_path(path: str, model: str | None) -> None:
    assert model_of(path) == model


# --- which names ---------------------------------------------------------------------------------------------


def test_a_key_of_no_route_sees_all_that_stands_for_something(models: Models) -> None:
    listed = asked(models)
    assert listed["object"] == "list"
    assert ids(listed) == SEEN
    assert {tuple(model)[:4] for model in listed["data"]} == {("id", "object", "created", "owned_by")}
    assert {(model["object"], model["created"]) for model in listed["data"]} == {("model", 0)}


def test_a_name_belongs_to_its_route_or_to_its_first_provider(models: Models) -> None:
    owners = {model["id"]: (model["owned_by"], model["crossfade"].get("route")) for model in asked(models)["data"]}
    assert owners == {
        "chat": ("crossfade", "chat"),
        "thinking": ("crossfade", "thinking"),
        "gpt-4o": ("crossfade", "chat"),
        "vendor/model": ("crossfade", "chat"),
        "anthropic/claude-opus-5": ("anthropic", None),
        "openai/gpt-5.4": ("openai", None),
        "local/llama3": ("local", None),
        "openai/o3": ("openai", None),
        "alias": ("openai", None),
    }


def test_a_key_of_a_route_sees_its_names_alone(models: Models) -> None:
    assert ids(asked(models, key="chat")) == ["chat", "gpt-4o", "vendor/model"]
    assert ids(asked(models, key="thinking")) == ["thinking"]
    chains = [model["crossfade"]["chain"] for model in asked(models, key="chat")["data"]]
    assert chains == [["anthropic/claude-opus-5", "openai/gpt-5.4", "local/llama3"]] * 3


@pytest.mark.parametrize("name", ["chat", "gpt-4o", "vendor/model", "claude-anything"])
def test_a_key_of_a_route_finds_every_name_of_it(models: Models, name: str) -> None:
    found = asked(models, name, key="chat")
    assert (found["id"], found["crossfade"]["route"]) == (name, "chat")


@pytest.mark.parametrize("name", ["thinking", "openai/gpt-5.4", "alias", "local/anything", "*"])
def test_a_key_of_a_route_finds_nothing_else(models: Models, name: str) -> None:
    with pytest.raises(UnknownRoute):
        asked(models, name, key="chat")


def test_a_key_of_a_route_is_told_no_names_of_others(models: Models) -> None:
    with pytest.raises(UnknownRoute) as near:
        asked(models, "chta", key="chat")
    assert near.value.message == "unknown model 'chta'; did you mean 'chat'?"
    with pytest.raises(UnknownRoute) as far:
        asked(models, "thinkin", key="chat")
    assert far.value.message == "unknown model 'thinkin'; known are chat, gpt-4o, vendor/model"


def test_a_key_whose_route_has_gone_sees_nothing(models: Models) -> None:
    with pytest.raises(UnknownRoute, match="gone"):
        asked(models, key="gone")


@pytest.mark.parametrize("name", [*SEEN, "claude-anything", "local/anything", "gpt-5.4", "chat, local/other"])
def test_a_name_that_would_be_served_is_found(models: Models, name: str) -> None:
    found = asked(models, name)
    route = models.directory.route_for(name)
    assert route is not None
    assert (found["id"], found["crossfade"]["chain"]) == (name, [rung.name for rung in route.chain])


@pytest.mark.parametrize("name", ["nothing-behind-it", "unheard-of", "elsewhere/gpt-5.4", "*", "é", "x" * MAX_NAME])
def test_a_name_that_stands_for_nothing_is_unknown(models: Models, name: str) -> None:
    with pytest.raises(UnknownRoute) as unknown:
        asked(models, name)
    assert (unknown.value.status, unknown.value.code) == (404, "model_not_found")


def test_an_unknown_name_is_told_with_the_nearest(models: Models) -> None:
    with pytest.raises(UnknownRoute, match="did you mean 'anthropic/claude-opus-5'"):
        asked(models, "antropic/claude-opus-5")


# --- what is known -------------------------------------------------------------------------------------------


def test_a_route_is_shown_by_what_every_target_of_it_can(models: Models) -> None:
    shown = asked(models, "chat")["crossfade"]
    targets = shown.pop("targets")
    able = {"vision": True, "files": True, "audio": True, "tools": True, "json_schema": True}
    assert shown == {
        "route": "chat",
        "chain": ["anthropic/claude-opus-5", "openai/gpt-5.4", "local/llama3"],
        "window_tokens": 272,
        "largest_window_tokens": 1000,
        "abilities": able | {"audio": False, "vision": False},
        "always_thinks": False,
    }
    assert targets == [
        {
            "target": "anthropic/claude-opus-5",
            "window_tokens": 1000,
            "abilities": able,
            "always_thinks": True,
            "usd_per_input_token": 5e-06,
            "usd_per_output_token": 2.5e-05,
        },
        {
            "target": "openai/gpt-5.4",
            "window_tokens": 272,
            "abilities": able | {"audio": False},
            "always_thinks": False,
            "usd_per_input_token": 2.5e-06,
            "usd_per_output_token": 0.0,  # free is known; unknown is left out
        },
        {"target": "local/llama3", "abilities": able | {"vision": False}, "always_thinks": False},
    ]


def test_what_nobody_knows_is_left_out(models: Models) -> None:
    shown = asked(models, "local/unheard-of")["crossfade"]
    assert set(shown) == {"chain", "abilities", "always_thinks", "targets"}
    assert set(shown["targets"][0]) == {"target", "abilities", "always_thinks"}


def test_a_chain_always_thinks_where_every_target_does(models: Models) -> None:
    assert asked(models, "thinking")["crossfade"]["always_thinks"] is True
    assert asked(models, "chat")["crossfade"]["always_thinks"] is False


def test_every_ability_is_shown(models: Models) -> None:
    assert set(asked(models, "chat")["crossfade"]["abilities"]) == {ability.value for ability in Ability}


def test_where_the_file_names_no_model_the_list_is_empty_and_names_are_found(tmp_path: Path) -> None:
    bare = Models(Directory(Folder(tmp_path).load("providers: {openai: {}}", ENVIRON, FACTS)))
    assert asked(bare) == {"object": "list", "data": []}
    assert asked(bare, anthropic=True) == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert asked(bare, "gpt-5.4")["crossfade"]["chain"] == ["openai/gpt-5.4"]


def test_a_list_is_rendered_once_for_all_keys_of_a_route(models: Models) -> None:
    def listed(key: str | None) -> bytes:
        return models.answer("", "", bound_route=key, is_anthropic=False)

    assert listed(None) is listed(None)
    assert listed("chat") is listed("chat")
    assert listed("chat") != listed(None)


# --- Anthropic's shape ---------------------------------------------------------------------------------------


def test_anthropics_list_has_the_same_names(models: Models) -> None:
    listed = asked(models, anthropic=True)
    assert ids(listed) == SEEN
    assert listed["data"][1] == {
        "type": "model",
        "id": "thinking",
        "display_name": "thinking",
        "created_at": "1970-01-01T00:00:00Z",
    }
    assert {name: listed[name] for name in listed if name != "data"} == {
        "has_more": False,
        "first_id": "chat",
        "last_id": "alias",
    }
    assert ids(asked(models, key="thinking", anthropic=True)) == ["thinking"]


def test_one_model_has_anthropics_shape(models: Models) -> None:
    found = asked(models, "local/anything", anthropic=True)
    assert (found["type"], found["id"]) == ("model", "local/anything")
    with pytest.raises(UnknownRoute):
        asked(models, "unheard-of", anthropic=True)


@pytest.mark.parametrize("limit", [1, 2, 4, len(SEEN), 1000])
@pytest.mark.parametrize("key", [None, "chat"])
def test_pages_forwards_and_backwards_are_the_whole_list(models: Models, limit: int, key: str | None) -> None:
    names = ids(asked(models, key=key))
    query, forwards = f"limit={limit}", []
    while True:
        page = asked(models, query=query, key=key, anthropic=True)
        forwards += ids(page)
        assert (page["first_id"], page["last_id"]) == (ids(page)[0], ids(page)[-1])
        if not page["has_more"]:
            break
        query = f"limit={limit}&after_id={page['last_id']}"
    assert forwards == names
    query, backwards = f"limit={limit}&before_id={names[-1]}", [names[-1]]
    while True:
        page = asked(models, query=query, key=key, anthropic=True)
        backwards = ids(page) + backwards
        if not page["has_more"]:
            break
        query = f"limit={limit}&before_id={page['first_id']}"
    assert backwards == names


def test_behind_the_last_there_is_an_empty_page(models: Models) -> None:
    page = asked(models, query="after_id=alias", anthropic=True)
    assert page == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_a_page_is_of_twenty_unless_it_is_said(tmp_path: Path) -> None:
    chain = ", ".join(f"openai/m{number}" for number in range(DEFAULT_PAGE))
    many = Models(Directory(Folder(tmp_path).load(f"providers: {{openai: {{}}}}\nroutes: {{r: {{chain: [{chain}]}}}}")))
    page = asked(many, anthropic=True)
    assert (len(page["data"]), page["has_more"]) == (DEFAULT_PAGE, True)
    assert len(asked(many, query=f"limit={MAX_PAGE}", anthropic=True)["data"]) == DEFAULT_PAGE + 1
    assert len(asked(many)["data"]) == DEFAULT_PAGE + 1, "OpenAI's list has no pages"


def test_ids_of_pages_may_be_encoded(models: Models) -> None:
    assert ids(asked(models, query="after_id=vendor%2Fmodel&limit=1", anthropic=True)) == ["anthropic/claude-opus-5"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1001", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=ten", "limit"),
        ("limit=%D9%A1", "limit"),  # a digit, but of another script
        ("after_id=nowhere", "after_id"),
        ("before_id=nowhere", "before_id"),
        ("before_id=chat&after_id=chat", "before_id"),
    ],
)
def test_impossible_pages_are_refused_with_their_field(models: Models, query: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(models, query=query, anthropic=True)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert ids(asked(models, query=query)) == SEEN, "OpenAI's list takes no query"


def test_pages_do_not_reach_beyond_the_names_of_a_key(models: Models) -> None:
    with pytest.raises(InvalidRequest):
        asked(models, query="after_id=thinking", key="chat", anthropic=True)
