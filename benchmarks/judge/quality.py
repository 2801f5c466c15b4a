"""Pairs of answers to the same prompts: how many it takes to stop a worse version, and how often an equal one is."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from benchmarks.judge import shipped
from benchmarks.judge.runner import Cell, Outcome
from sluice.judge import Pair

PAIRS = 400
HORIZON = 2000
SINGLE_ALPHA = 0.05
MARGIN = shipped.POLICY.gates.quality.margin
BOTH_RIGHT = Pair("p", "all", 1.0, 1.0)
BETTER = Pair("p", "all", 1.0, 0.0)
WORSE = Pair("p", "all", 0.0, 1.0)


def cells() -> list[Cell]:
    return [
        Cell("quality_equal", equal, share=2.0),
        Cell("quality_at_margin", at_margin),
        Cell("quality_10pt", partial(worse, better=0.04, lost=0.14)),
        Cell("quality_38pt", partial(worse, better=0.02, lost=0.40)),
    ]


def pairs(rng: np.random.Generator, better: float, lost: float, number: int) -> list[Pair]:
    """Prompts that only the canary or only stable answers right, with these probabilities, or both do."""
    luck = rng.random(number)
    return [BETTER if x < better else WORSE if x < better + lost else BOTH_RIGHT for x in luck]


def equal(rng: np.random.Generator) -> Outcome:
    """Equal versions at 20 % discordance, a look after every pair: as shipped, and K⁻ alone at α .05."""
    gate = shipped.quality()
    for pair in pairs(rng, 0.1, 0.1, PAIRS):
        gate = gate.observe(pair)
    numbers = gate.verdict().numbers  # regressions stay, so the last look knows of all before
    stopped = numbers["e_regression"] >= numbers["e_regression_limit"]
    category = numbers["e_category"] >= numbers["e_category_limit"]
    return {"shipped": stopped or category, "single": numbers["e_regression"] >= 1.0 / SINGLE_ALPHA}


def at_margin(rng: np.random.Generator) -> Outcome:
    """Worse by exactly the margin, a look after every pair: found non-inferior at any of them."""
    gate = shipped.quality()
    for pair in pairs(rng, 0.10 - MARGIN, 0.10, PAIRS):
        gate = gate.observe(pair)
        numbers = gate.verdict().numbers
        if numbers["e_non_inferior"] >= numbers["e_non_inferior_limit"]:
            return {"promoted": True}
    return {"promoted": False}


def worse(rng: np.random.Generator, better: float, lost: float) -> Outcome:
    """Pairs until the gate says regression, as shipped; and until K⁻ alone would, at α .05."""
    gate, single = shipped.quality(), math.nan
    for number, pair in enumerate(pairs(rng, better, lost, HORIZON), start=1):
        gate = gate.observe(pair)
        if math.isnan(single) and gate.log_e_regression >= -math.log(SINGLE_ALPHA):
            single = float(number)
        if gate.log_e_regression >= -math.log(gate.alpha_regression) or (
            gate.log_e_category >= -math.log(gate.alpha_category)
        ):
            return {"shipped": float(number), "single": single}
    return {"shipped": math.nan, "single": single}
