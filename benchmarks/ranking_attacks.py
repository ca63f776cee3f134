"""Attacks on plain and smoothed rankers, and the check that none beats a certificate."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.ranking_data import RankedList
from benchmarks.ranking_figures import analyse, for_top, ranker_for
from robust_components.attacks import (
    Attack,
    AttackResult,
    InsertedSentence,
    PrependedTrigger,
    QueryStuffing,
    WordSubstitution,
)
from robust_components.models.memo_scorer import MemoScorer
from robust_components.models.protocols import PairScorer
from robust_components.ranking import SmoothedScorer
from robust_components.ranking.analysis import FixedAnalysis
from robust_components.smoothing import BalancedMask, FixedMechanism, HashBuckets

TOPS = (1, 3, 5, 10)
Neighbours = Callable[[str], Sequence[str]]


def attacks(budget: int, operations: str, seed: int, near: Neighbours | None) -> list[Attack]:
    """All attacks of one threat model, with some tens of queries each."""
    made: list[Attack] = [
        QueryStuffing(budget, operations, seed),
        PrependedTrigger(budget, operations, seed, pool=12),
        InsertedSentence(budget, operations, seed, tries=8),
    ]
    if operations == "substitute":
        substitution = WordSubstitution(
            budget, operations, seed, neighbours=near, free_words=8, positions=3, probes=20
        )
        made.insert(0, substitution)
    return made


def choose_target(item: RankedList, order: Sequence[int], near: bool, seed: int) -> int:
    """A document of ranks 2 to 5, or of the lower half; not a relevant one if there is another."""
    ranks = list(range(1, min(5, len(order)))) if near else list(range(len(order) // 2, len(order)))
    random.Random(f"{seed} {item.query_id} {near}").shuffle(ranks)
    ranks.sort(key=lambda place: item.relevant.get(item.ids[order[place]], 0) > 0)
    return order[ranks[0]]


def violations(before: FixedAnalysis, after: FixedAnalysis, target: int, words: int) -> list[str]:
    """Everything a certificate said of the list that the attack made untrue; must be empty.

    Args:
        before: of the list as it was.
        after: of the list with the edited target.
        words: words that were edited.
    """
    if words == 0:
        return []
    found = []
    reached = 1 + sum(after.score[i] > after.score[target] for i in before.order if i != target)
    if reached < before.best_rank(target, words, alone=True):
        found.append(f"rank {reached} is better than the best rank certified")
    if after.score[target] > before.bounds(words).upper[target] + before.margin:
        found.append("the score is above its bound")
    for k in TOPS:
        if k >= len(before.order):
            continue
        clean, attacked = for_top(before, k), for_top(after, k)
        entered = target not in clean.inside and reached <= k
        enough = min(words, before.cap)  # what holds up to the cap holds for any number
        if entered and clean.set_radius("promotion") >= enough:
            found.append(f"entered the top {k}, certified for {words} words (pre_attack)")
        if entered and clean.document_radius(target, "promotion") >= enough:
            found.append(f"its own certificate kept it out of the top {k}")
        if set(clean.inside) != set(attacked.inside) and attacked.set_radius("any") >= enough:
            found.append(f"the top {k} of the attacked list is certified but not the clean one")
    return found


class Tally:
    """Results of one attack on one victim."""

    def __init__(self) -> None:
        self.results: list[AttackResult] = []

    def to_dict(self) -> dict[str, float]:
        """Shares of targets, means over targets.

        ``asr``: gained a place; ``asr_top1`` and ``asr_top10``: entered that top, of those that
        stood below it; ``boost``: places gained.
        """
        number = len(self.results)
        shares = {
            "targets": float(number),
            "asr": sum(r.succeeded for r in self.results) / number,
            "boost": sum(r.boost for r in self.results) / number,
            "queries": sum(r.queries for r in self.results) / number,
            "words_edited": sum(r.words_edited for r in self.results) / number,
        }
        for k in (1, 10):
            below = [r for r in self.results if r.rank_before > k]
            if below:
                shares[f"asr_top{k}"] = sum(r.entered(k) for r in below) / len(below)
        return {name: round(value, 4) for name, value in shares.items()}


class Campaign:
    """Attacks on the lists it is given; keeps what came of them.

    Substitutions are aimed at the plain ranker and at balanced masks, insertions at the plain
    ranker and at hash buckets: at each smoothed ranker what its certificates cover.
    """

    def __init__(
        self,
        scorer: PairScorer,
        *,
        blocks: int = 10,
        budgets: Sequence[int] = (1, 3),
        seed: int = 0,
        near: Neighbours | None = None,
    ) -> None:
        self.memo = MemoScorer(scorer)
        self.mechanisms: dict[str, FixedMechanism] = {
            "substitute": BalancedMask(blocks=blocks, seed=seed),
            "any": HashBuckets(buckets=blocks, seed=seed),
        }
        self.rankers = {
            operations: ranker_for(self.memo, mechanism)
            for operations, mechanism in self.mechanisms.items()
        }
        self.budgets = tuple(budgets)
        self.seed = seed
        self.near = near
        self.tallies: dict[tuple[str, str, str], Tally] = {}
        self.violations: list[str] = []
        self.checked = 0
        self.lists = 0

    def run(self, item: RankedList) -> None:
        """Attack one list: a target close to the top in every other list, else a far one."""
        near = self.lists % 2 == 0
        self.lists += 1
        for operations, mechanism in self.mechanisms.items():
            before = analyse(self.rankers[operations], item.query, item.documents)
            target = choose_target(item, before.order, near, self.seed)
            victims: dict[str, PairScorer] = {
                "plain": self.memo,
                mechanism.name: SmoothedScorer(self.memo, mechanism),
            }
            for budget in self.budgets:
                for attack in attacks(budget, operations, self.seed, self.near):
                    for victim, scorer in victims.items():
                        result = attack.attack(item.query, item.documents, target, scorer)
                        verb = "substituted" if operations == "substitute" else "inserted"
                        key = (f"{budget} {verb}", attack.name, victim)
                        self.tallies.setdefault(key, Tally()).results.append(result)
                        self._check(item, before, attack, result)

    def _check(
        self,
        item: RankedList,
        before: FixedAnalysis,
        attack: Attack,
        result: AttackResult,
    ) -> None:
        """Also what was made for the plain ranker must not beat a certificate."""
        documents = list(item.documents)
        documents[result.target] = result.text
        after = analyse(self.rankers[attack.operations], item.query, documents)
        self.checked += 1
        for problem in violations(before, after, result.target, result.words_edited):
            self.violations.append(
                f"query {item.query_id}, document {item.ids[result.target]}, {attack.name}, "
                f"{before.mechanism.name}, {result.words_edited} words: {problem}"
            )

    def figures(self) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for (budget, attack, victim), tally in self.tallies.items():
            table.setdefault(budget, {}).setdefault(attack, {})[victim] = tally.to_dict()
        return {
            "lists": self.lists,
            "attacked_lists_checked_against_certificates": self.checked,
            "certificates_beaten": len(self.violations),
            "words": table,
        }
