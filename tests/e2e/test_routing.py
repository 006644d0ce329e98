"""Rules, residency and max_cost over real sockets: who is asked, and what the record and the answer say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click.testing
import msgspec
import openai
import pytest

from crossfade.cli.main import main as command
from crossfade.simulator.thread import ProviderSimulator
from tests.e2e.harness import MODELS, QUICK, Stage, chain_stage, run

THREE = {"a": "openai", "b": "anthropic", "c": "gemini"}
PRICED = {
    "a": f"region: eu, models: {{{MODELS['openai']}: {{price_in: 10, price_out: 50}}}}",
    "b": f"region: us, models: {{{MODELS['anthropic']}: {{price_in: 1, price_out: 5}}}}",
    "c": f"region: eu, models: {{{MODELS['gemini']}: {{price_in: 2, price_out: 10}}}}",
}
HARD = [
    {"role": "user", "content": "Prove that the series converges, and explain why it does not converge absolutely."}
]
EASY = [{"role": "user", "content": "Translate into French: good morning"}]


def rules(mark: str = "{mark}") -> str:
    b, c = f"{mark}b/{MODELS['anthropic']}", f"{mark}c/{MODELS['gemini']}"
    return (
        f"{QUICK}, rules: [{{name: easy, when: {{complexity: {{below: 0.4}}}}, chain: [{b}, {c}]}},"
        f" {{name: gold, when: {{headers: {{x-tier: gold}}, tools: false}}, chain: [{c}]}}]"
    )


def by(answer: Any, stage: Stage) -> str:
    return str(answer.headers["x-crossfade-provider"]).removeprefix(stage.mark)


@pytest.mark.parametrize("stream", [False, True])
def test_a_rule_gives_simple_asks_another_chain_and_the_record_says_what_was_saved(
    simulator: ProviderSimulator, stream: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        async with routed(simulator) as stage:
            traced = {"extra_body": {"crossfade": {"trace": True}}, "stream": stream}
            hard = await stage.ask(messages=HARD, **traced)
            assert by(hard, stage) == "a"
            assert stage.record.last.rule is None
            assert stage.record.last.primary is None
            easy = await stage.ask(messages=EASY, **traced)
            assert (easy.text[:15], by(easy, stage)) == ("Echo: Translate", "b")
            row = stage.record.last
            assert (row.rule, row.primary) == ("easy", f"{stage.mark}a/{MODELS['openai']}")
            assert row.cost_usd is not None
            assert row.primary_usd == pytest.approx(10 * row.cost_usd)
            member = (easy.chunks[-1] if stream else easy.native).model_extra["crossfade"]
            assert member["rule"] == "easy"
            assert member["cost"] == {"usd": row.cost_usd, "primary": row.primary, "primary_usd": row.primary_usd}
            stage.schedule("b", then="500")
            fallen = await stage.ask(messages=EASY, **traced)
            assert (fallen.text, by(fallen, stage)) == (easy.text, "c")
            assert stage.record.last.rule == "easy"
            gold = await stage.ask(messages=HARD, extra_headers={"x-tier": "gold"}, stream=stream)
            assert by(gold, stage) == "c"
            said = savings(tmp_path, stage, "--by", "rule")
            assert {name: one["requests"] for name, one in said["rules"].items()} == {
                "chat (no rule)": 1,
                "chat easy": 2,
                "chat gold": 1,
            }
            costs = [(one.cost_usd or 0.0, one.primary_usd or one.cost_usd or 0.0) for one in stage.record.ended]
            assert said["total"]["cost_usd"] == pytest.approx(sum(mine for mine, _ in costs))
            assert said["total"]["saved_usd"] == pytest.approx(sum(primary - mine for mine, primary in costs))
            assert said["total"]["unpriced"] == 0

    run(main())


def test_keys_of_a_project_get_its_chain_and_the_record_names_it(simulator: ProviderSimulator, tmp_path: Path) -> None:
    async def main() -> None:
        route = f"{QUICK}, rules: [{{when: {{project: 'shop-*'}}, chain: ['{{mark}}c/{MODELS['gemini']}']}}]"
        tail = (
            "gateway_keys: [{name: a, key: env:A, project: shop-web}, {name: b, key: env:B, project: shop-web},"
            " {name: c, key: env:C, project: lab}, {name: d, key: env:D}]\n"
        )
        keys = {name: "cf-" + name * 40 for name in "ABCD"}
        async with chain_stage(simulator, THREE, route, more=PRICED, tail=tail, environ=keys) as stage:
            for name, served, project in (
                ("A", "c", "shop-web"),
                ("B", "c", "shop-web"),
                ("C", "a", "lab"),
                ("D", "a", None),
            ):
                answer = await stage.ask(client=stage.client.with_options(api_key=keys[name]))
                row = stage.record.last
                assert (by(answer, stage), row.key, row.project) == (served, name.lower(), project)
            said = savings(tmp_path, stage, "--by", "project")
            assert {name: one["requests"] for name, one in said["projects"].items()} == {
                "(none)": 1,
                "lab": 1,
                "shop-web": 2,
            }
            result = click.testing.CliRunner().invoke(
                command, ["events", "--journal", str(tmp_path), "--project", "lab", "--json"]
            )
            assert [msgspec.json.decode(line)["key"] for line in result.stdout.splitlines()] == ["c"]

    run(main())


def routed(simulator: ProviderSimulator, route: str | None = None) -> Any:
    """A stage whose route has rules; they name its providers, so the mark has to be known before."""
    return chain_stage(simulator, THREE, rules() if route is None else route, more=PRICED)


def savings(folder: Path, stage: Stage, *options: str) -> Any:
    (folder / "journal-1.jsonl").write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in stage.record.ended))
    result = click.testing.CliRunner().invoke(command, ["savings", "--journal", str(folder), "--json", *options])
    assert result.exit_code == 0, result.output
    return msgspec.json.decode(result.stdout)


def test_a_rung_that_costs_more_than_it_may_is_skipped_with_the_reason(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        chain = {"b": "anthropic", "a": "openai", "c": "gemini"}
        async with chain_stage(simulator, chain, f"{QUICK}, max_cost: 3x, retry: {{delay: 0}}", more=PRICED) as stage:
            stage.schedule("b", then="500")
            assert by(await stage.ask(), stage) == "c"
            skips = [one.skip for one in stage.record.last.attempts]
            assert skips == [None, "max_cost: about 10x of the primary, 3x is allowed", None]
            assert stage.calls("a") == [0]

    run(main())


def test_where_all_cost_too_much_the_error_says_so_of_each(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        async with chain_stage(simulator, THREE, f"{QUICK}, max_cost: 0.0000001", more=PRICED) as stage:
            with pytest.raises(openai.APIStatusError) as failed:
                await stage.ask()
            assert failed.value.status_code == 400  # the request is at fault as far as this route goes
            assert failed.value.message.count("max_cost: about") == 3
            assert stage.calls("a", "b", "c") == [0, 0, 0]

    run(main())


def test_no_prompt_goes_where_the_route_does_not_allow_it(simulator: ProviderSimulator) -> None:
    async def main() -> None:
        chain = {"a": "openai", "c": "gemini"}
        tail = f"  other: {{chain: [{{mark}}b/{MODELS['anthropic']}]}}"
        more = {**PRICED, "b": PRICED["b"]}
        async with chain_stage(
            simulator, chain, f"{QUICK}, require: {{region: eu}}", more=more, tail=tail, beside={"b": "anthropic"}
        ) as stage:
            with pytest.raises(openai.BadRequestError, match="region eu is required, and it is in us"):
                await stage.ask(extra_body={"fallback_models": [f"{stage.mark}b/{MODELS['anthropic']}"]})
            with pytest.raises(openai.BadRequestError, match="region eu is required"):
                await stage.ask(extra_body={"fallback_models": ["other"]})
            stage.schedule("a", then="500")
            stage.schedule("c", then="500")
            with pytest.raises(openai.APIStatusError):
                await stage.ask()
            assert stage.calls("b") == [0]

    run(main())
