"""What one ranked list shows, and shares over many: relevance, certificates, radii."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import ir_measures
from ir_measures import RR, nDCG

from benchmarks.ranking_data import RankedList
from robust_components.models.protocols import PairScorer
from robust_components.ranking import SmoothedRanker
from robust_components.ranking.analysis import Analysis, FixedAnalysis
from robust_components.ranking.top_k import none_enters
from robust_components.smoothing import FixedMechanism, TermCoverage, split_words

WORDS = (1, 2, 3, 5)
DEPTHS = ((1, 1), (1, 5), (1, 10), (3, 10), (5, 10), (10, 10), (10, 50))
STATEMENTS = {"pre_attack": "promotion", "observed": "any"}
FAR = 51


@dataclass(frozen=True)
class Row:
    """One list under one scorer.

    Attributes:
        order: indices of the documents by rank.
        top_right: whether the document at rank 1 is relevant.
        certified: names of what holds, such as ``top1 pre_attack R=1``.
        open: names of what was asked; a list shorter than M has nothing to ask.
        set_radius: largest R for which nothing can replace rank 1 (pre_attack).
        document_radii: largest R for which each document below rank 1 stays there (pre_attack).
    """

    item: RankedList
    order: tuple[int, ...]
    top_right: bool
    certified: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    set_radius: int = 0
    document_radii: tuple[int, ...] = ()


def plain_row(item: RankedList, scorer: PairScorer) -> Row:
    """By the scorer's own scores of the unmasked documents."""
    scores = scorer.score(item.query, item.documents)
    order = tuple(sorted(range(len(scores)), key=lambda i: (-scores[i], i)))
    return Row(item, order, _is_right(item, order))


def terms_row(item: RankedList, coverage: TermCoverage) -> Row:
    """By the words of the query a document has, and nothing else."""
    scores = coverage.of(item.query, [split_words(text) for text in item.documents]).score()
    order = tuple(sorted(range(len(scores)), key=lambda i: (-int(scores[i]), i)))
    return Row(item, order, _is_right(item, order))


def ranker_for(scorer: PairScorer, mechanism: FixedMechanism) -> SmoothedRanker:
    """A ranker for evaluation: no certificates as objects, no scores of unmasked documents."""
    return SmoothedRanker(scorer, mechanism, top_k=1, certify="none", base_scores=False)


def analyse(ranker: SmoothedRanker, query: str, documents: Sequence[str]) -> FixedAnalysis:
    """The ranker's own analysis of a list, for any K, statement and budget."""
    analysis = ranker.rank(query, documents).analysis
    assert isinstance(analysis, FixedAnalysis)
    return analysis


def for_top(analysis: FixedAnalysis, k: int) -> FixedAnalysis:
    """The same scores with another K."""
    return replace(analysis, k=k)


def analysed_row(item: RankedList, analysis: FixedAnalysis) -> Row:
    """By the score of the analysis, with all certificates."""
    holds: set[str] = set()
    asked: set[str] = set()
    for words in WORDS:
        for statement, scope in STATEMENTS.items():
            for name, held in _claims(analysis, item, words, scope).items():
                asked.add(f"{name} {statement} R={words}")
                if held:
                    holds.add(f"{name} {statement} R={words}")
    order = tuple(analysis.order)
    return Row(
        item,
        order,
        _is_right(item, order),
        frozenset(holds),
        frozenset(asked),
        analysis.set_radius("promotion"),
        tuple(analysis.document_radius(i, "promotion") for i in analysis.outside),
    )


def _claims(analysis: Analysis, item: RankedList, words: int, scope: str) -> dict[str, bool]:
    """CRQ(K, M, R) by the ranker's own ranks, and against what the first stage put far below."""
    documents = len(analysis.order)
    held = {
        f"K={k} M={m}": analysis.crq(k, m, words, scope) for k, m in DEPTHS if k <= m < documents
    }
    far = [i for i, rank in enumerate(item.first_ranks) if rank >= FAR]
    if far and documents > 10:
        top = analysis.order[:10]
        rivals = [i for i in far if i not in top]
        held[f"K=10 first-stage M={FAR - 1}"] = none_enters(
            analysis.bounds(words), top, rivals, analysis.margin, scope
        )
    return held


def _is_right(item: RankedList, order: Sequence[int]) -> bool:
    return item.relevant.get(item.ids[order[0]], 0) > 0


def relevance(rows: Sequence[Row]) -> dict[str, float]:
    """MRR@10 and NDCG@10 over ``rows``, by ir-measures."""
    qrels = [
        ir_measures.Qrel(row.item.query_id, document, grade)
        for row in rows
        for document, grade in row.item.relevant.items()
    ]
    run = [
        ir_measures.ScoredDoc(row.item.query_id, row.item.ids[index], float(-place))
        for row in rows
        for place, index in enumerate(row.order)
    ]
    found = ir_measures.calc_aggregate([RR @ 10, nDCG @ 10], qrels, run)
    return {"mrr_10": round(found[RR @ 10], 4), "ndcg_10": round(found[nDCG @ 10], 4)}


def summary(rows: Sequence[Row], plain: Sequence[Row]) -> dict[str, Any]:
    """Figures of a smoothed ranker, with the plain ranker's on the same lists."""
    names = sorted(set().union(*(row.open for row in rows)))
    certified: dict[str, dict[str, float]] = {}
    for name in names:
        claim, _, words = name.rpartition(" ")
        asked = [row for row in rows if name in row.open]
        share = sum(name in row.certified for row in asked) / len(asked)
        certified.setdefault(claim, {})[words] = round(share, 4)
        if claim.startswith("K=1 M=1 "):
            both = sum(name in row.certified and row.top_right for row in asked) / len(asked)
            certified.setdefault(f"{claim}, and right", {})[words] = round(both, 4)
    own = {row.item.query_id for row in rows}
    documents = Counter(radius for row in rows for radius in row.document_radii)
    sets = Counter(row.set_radius for row in rows)
    return {
        "lists": len(rows),
        **relevance(rows),
        "plain_on_the_same": relevance([row for row in plain if row.item.query_id in own]),
        "certified": certified,
        "set_radius_histogram": {str(r): sets[r] for r in sorted(sets)},
        "document_radius_histogram": {str(r): documents[r] for r in sorted(documents)},
    }
