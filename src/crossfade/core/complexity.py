"""How hard a request is, guessed from what is cheap to see: a number from 0 (simple) to 1 (hard).

A logistic function of a weighted sum of a few features of what was asked last. The weights are fitted to labelled asks
by `python -m tests.complexity --fit`; docs/policies/complexity.md says what the score is worth. Pure, and bounded: of a
long text only its two ends are looked at, each character a fixed number of times.
"""

from __future__ import annotations

import re
from math import exp, log2
from typing import Final

ENDS: Final = 400
"""Characters at the beginning and at the end of an ask in which its instruction is looked for."""
SEEN: Final = 4000
"""Characters, half of them from either end, in which code and mathematics are looked for."""

# What people write when they want something thought through, and when they want something done quickly, each word in
# the forms that are common in asks. A word that is common in both kinds is in neither.
_HARD: Final = frozenset(
    """
    prove proof derive derivation design devise architecture architect analyse analyze analysis evaluate assess critique
    compare comparison trade-off tradeoff tradeoffs trade-offs optimize optimise refactor debug diagnose investigate
    implement implementation algorithm strategy strategies plan roadmap migrate migration justify argue argument
    arguments counterargument counterexample hypothesis hypotheses why explain reason reasons consequences implications
    risks risk constraints invariant invariants concurrent concurrency deadlock race latency scalable scalability
    distributed consistency throughput complexity converges converge theorem lemma integrate differential equation
    equations model simulate formulate construct determine estimate quantify prioritise prioritize recommend
    recommendation mitigations threat schema rewrite idiomatic efficient grammar parser protocol solve solutions
    reconcile contradiction plausible propose proposal outline assumptions alternatives criteria interpret weigh flaw
    wrong bug cause causes deduce generalise generalize unique counter-arguments ethical legal suppose compute optimal
    beweise beweis zeige entwirf entwickle entwurf architektur analysiere begründe begründung bewerte vergleiche
    erkläre erläutere warum optimiere algorithmus strategie projektplan plane leite herleitung wäge folgen risiken
    annahmen korrektheit verallgemeinere untersuche schritt ursachen konzipiere
    démontre démontrer prouve conçois concevoir analyse analyser évalue évaluer compare comparer explique expliquer
    pourquoi justifie optimise stratégie compromis calcule risques arguments rédige propose causes
    demuestra demostrar diseña diseñar analiza analizar evalúa evaluar compara explica explicar justifica optimiza
    estrategia elabora investigación formula propón ventajas desventajas riesgos hipótesis
    dimostra progetta confronta valuta spiega analizza prove projete analise avalie compare explique proponha
    bewijs leg ontwerp vergelijk analyseer udowodnij zaprojektuj porównaj uzasadnij przeanalizuj wyjaśnij
    """.split()
)
_EASY: Final = frozenset(
    """
    translate translation summarise summarize shorten short spell spelling synonym synonyms opposite antonym capital
    convert extract list name classify tag rephrase define definition plural format sort capitalise capitalize remove
    duplicates count thanks thank hi hello greeting birthday joke recipe title subject colour color suggest random
    print lower case one-line sentence sentences word words bullets positive negative yes when who year
    übersetze fasse zusammen korrigiere rechtschreibung nenne hauptstadt geburtstagskarte formuliere kurze kurz satz
    farbe höflicher wieviele viele gut schlecht
    traduis traduire résume résumé corrige orthographe donne synonymes capitale court combien phrase remerciement
    traduce resume corrige dame capital nombres clasifica saludo corto frase cuál
    traduci riassumi capitale traduza resuma capital vertaal vat hoofdstad przetłumacz streść stolica
    """.split()
)
_HARD_PHRASES: Final = (
    *("证明", "推导", "设计", "分析", "评估", "比较", "为什么", "说明", "方案", "策略", "优缺点", "架构", "优化"),
    *("証明", "導出", "設計", "評価", "比較", "理由", "なぜ", "説明", "トレードオフ", "影響", "修正案", "最適化"),
)
"""Of languages that put no space between words, in which `分析` is the same in Chinese and Japanese."""
_EASY_PHRASES: Final = (
    *("翻译", "总结", "反义词", "同义词", "首都", "祝福", "哪里", "一句话"),
    *("翻訳", "要約", "反対語", "首都", "一文で", "短い", "何ですか"),
)
# None has a run of one class before a mark that may not come: what is matched is passed once, whatever the text.
_WORD: Final = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)?")
_PART: Final = re.compile(r"[?;,:]|[.!](?=\s|$)|[，。？；、]|\n[-*]")
_CODE: Final = re.compile(r"[{}();=<>\[\]]")
_MATHS: Final = re.compile(r"[\^∑∫√≤≥≠∞∂∈π±]|\d\s?%|\bO\(|\\[a-z]+|[=+*/]\s?[a-z]\b|\b10\^")
_HAN: Final = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")

BIAS: Final = -0.97
WEIGHTS: Final = {
    "length": 1.41,
    "hard": 4.94,
    "easy": -4.01,
    "parts": 0.81,
    "code": 0.84,
    "maths": 0.69,
}
"""Fitted; every feature is from 0 to 1."""
SHAPE: Final = {"turns": 0.4, "tools": 0.8, "schema": 0.2, "images": 0.4}
"""Not fitted, as labelled asks have none: what the shape of a request adds where there is the most of it."""


def complexity(text: str, *, turns: int = 1, tools: int = 0, has_schema: bool = False, images: int = 0) -> float:
    """The score of a request that asks for `text`, as the last of `turns`, with so many tools and pictures."""
    total = BIAS
    for name, value in features(text).items():
        total += WEIGHTS[name] * value
    total += SHAPE["turns"] * _share(turns - 1, 8) + SHAPE["tools"] * _share(tools, 8)
    total += SHAPE["schema"] * has_schema + SHAPE["images"] * _share(images, 4)
    return 1.0 / (1.0 + exp(-total))


def features(text: str) -> dict[str, float]:
    """What the score looks at, each from 0 to 1."""
    seen = text if len(text) <= SEEN else f"{text[: SEEN // 2]}\n{text[-SEEN // 2 :]}"
    asked = text if len(text) <= 2 * ENDS else f"{text[:ENDS]}\n{text[-ENDS:]}"
    dense = 3 if _HAN.search(asked) else 1  # a character of these languages says what three letters do
    hard = easy = 0
    for word in set(_WORD.findall(asked.lower())):
        hard += word in _HARD
        easy += word in _EASY
    if dense > 1:
        hard += sum([phrase in asked for phrase in _HARD_PHRASES])
        easy += sum([phrase in asked for phrase in _EASY_PHRASES])
    return {
        "length": min(1.0, log2(1.0 + len(text) * dense / 50.0) / 6.0),
        "hard": _share(hard, 4),
        "easy": _share(easy, 3),
        "parts": _share(len(_PART.findall(asked)), 8),
        "code": 1.0 if "```" in seen else _share(len(_CODE.findall(seen)), 16),
        "maths": _share(len(_MATHS.findall(seen)), 4),
    }


def _share(count: int, most: int) -> float:
    return min(max(count, 0), most) / most
