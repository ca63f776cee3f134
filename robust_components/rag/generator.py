"""RobustRAGGenerator: answers from isolated passages, with a certificate on every answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from robust_components.certificate import Certificate
from robust_components.checks import LARGEST, positive_integer
from robust_components.models.memo import Memo, MemoReader
from robust_components.rag.accept import as_reader, as_token_model
from robust_components.rag.aggregators import make_aggregator
from robust_components.rag.isolation import isolate
from robust_components.rag.issuing import issue
from robust_components.rag.outcome import Aggregator, Isolated, Outcome, Reachable
from robust_components.rag.passages import Passage, PassageResult
from robust_components.rag.plan import Plan, drive, drive_async
from robust_components.rag.result import RAGResult, TokenResult, only_certified
from robust_components.threats import PassageInjection, PassageModification

ABSTENTION = "I don't know"


class RobustRAGGenerator:
    """Answers a question from retrieved passages so that few hostile sources cannot steer it.

    Every passage is read alone; the responses are aggregated by source. :meth:`run` attaches an
    ``observed`` certificate: if at most ``radius`` of the sources at hand are hostile, the answer
    equals the one the clean passages would have given. It is deterministic, needs no gold answer,
    and says nothing about whether that answer is right. Where it cannot be shown, ``certified`` is
    false and ``reason`` says why.

    Source: Xiang et al. 2024 (arXiv 2405.15556), sections 3 and 4, with corrected certificates.

    Args:
        model: a :class:`~robust_components.models.protocols.PassageReader`, or a ``TextGenerator``
            that is prompted with each passage; for decoding a ``TokenModel``. The embedded reader,
            which serves all three, when ``None``.
        aggregation: ``"voting"`` (one vote a source), ``"keyword"`` (Algorithm 1) or
            ``"decoding"`` (Algorithm 2).
        corruption_size: number of hostile sources k' a certificate must withstand, at least 1.
        top_k: length at which the retriever cuts its list; further passages are not read. ``None``
            takes the list given as full.
        alpha: keyword threshold as a share of responding sources, in (0, 1].
        beta: keyword threshold as a number of sources, at least 1.
        keyword_extractor: turns a response into keywords; spaCy when ``None``.
        long_form: keyword: ask a text generator for phrases, count phrases of several words only,
            and write a long answer from them, as the paper does for biographies.
        max_optional_keywords: more keywords within an attacker's reach than this: not certified.
        max_final_calls: more distinct keyword sets than this: not certified.
        choices: the closed set of answers voted on; ``None`` leaves it open.
        gamma: decoding: a passage abstains from this probability of "I don't know" on, in (0, 1];
            the model's own threshold, or 0.99, when ``None``.
        eta: decoding: lead a token needs, as a share of the responding sources, in [0, 1).
        max_tokens: decoding: longest answer in tokens, at least 1.
        numerical_margin: decoding: what rounding in the model may change in a lead, in [0, 0.1].
        max_branches: decoding: more token sequences to search than this: not certified.
        on_uncertified: ``"answer"``, or ``"abstain"`` to withhold answers that are not certified
            for ``corruption_size``.
        abstention: text returned in place of an answer.
        memo: voting and keyword: remember the first response to each prompt and use it from then
            on, for models that sample; ``True``, or a :class:`~robust_components.models.memo.Memo`
            to share. Certificates are conditional on a deterministic model all the same.

    Raises:
        ValueError: a value outside its range; the message names it.
        TypeError: a value of the wrong type.
    """

    def __init__(
        self,
        model: Any = None,
        aggregation: str = "voting",
        corruption_size: int = 1,
        *,
        top_k: int | None = None,
        alpha: float | str = 0.3,
        beta: float | str = 3,
        keyword_extractor: Any = None,
        long_form: bool = False,
        max_optional_keywords: int = 12,
        max_final_calls: int = 256,
        choices: Sequence[str] | None = None,
        gamma: float | str | None = None,
        eta: float | str = 0,
        max_tokens: int = 64,
        numerical_margin: float | str = "0.000001",
        max_branches: int = 64,
        on_uncertified: str = "answer",
        abstention: str = ABSTENTION,
        memo: bool | Memo = False,
    ) -> None:
        if on_uncertified not in ("answer", "abstain"):
            raise ValueError(
                f"on_uncertified must be 'answer' or 'abstain', got {on_uncertified!r}; choose one"
            )
        if not isinstance(abstention, str):
            raise TypeError(f"abstention must be text, got {abstention!r}; pass a string")
        self.corruption_size = positive_integer("corruption_size", corruption_size, most=LARGEST)
        self.top_k = None if top_k is None else positive_integer("top_k", top_k)
        self.aggregation = aggregation
        self.on_uncertified = on_uncertified
        self.abstention = abstention
        self.long_form = long_form
        self.aggregator: Aggregator = make_aggregator(
            aggregation,
            alpha=alpha,
            beta=beta,
            keyword_extractor=keyword_extractor,
            long_form=long_form,
            max_optional_keywords=max_optional_keywords,
            max_final_calls=max_final_calls,
            choices=choices,
            gamma=gamma,
            eta=eta,
            max_tokens=max_tokens,
            numerical_margin=numerical_margin,
            max_branches=max_branches,
            abstention=abstention,
        )
        self.memo = self._own_memo(memo)
        self.model = None if model is None else self._accept(model)
        self._loading = threading.Lock()

    def load(self) -> None:
        """Load what is loaded lazily: the embedded reader and the keyword extractor."""
        with self._loading:
            if self.model is None:
                from robust_components.models.embedded import MANY_PASSAGES, load_reader

                self.model = self._accept(load_reader(threshold=MANY_PASSAGES))
            self.aggregator.load()

    def run(
        self,
        query: str,
        passages: Sequence[str | Passage],
        *,
        corruption_size: int | None = None,
        model: Any = None,
        on_token: Callable[[TokenResult], None] | None = None,
    ) -> RAGResult:
        """Answer ``query`` from ``passages``, with an ``observed`` certificate.

        Args:
            query: the question; trusted.
            passages: texts, or :class:`Passage` objects that name their source; best rank first.
            corruption_size: used instead of the configured value for this call.
            model: used instead of the configured model for this call.
            on_token: decoding: called with each token as soon as it is certified. With
                ``on_uncertified="abstain"`` only tokens certified for the budget are handed over,
                up to the first that is not.

        Raises:
            ValueError: the query is empty.
            TypeError: the query or a passage is no text.
        """
        reader = self._reader(model)
        return drive(self._plan(reader, query, passages, corruption_size, on_token), reader)

    async def run_async(
        self,
        query: str,
        passages: Sequence[str | Passage],
        *,
        corruption_size: int | None = None,
        model: Any = None,
        on_token: Callable[[TokenResult], None] | None = None,
    ) -> RAGResult:
        """:meth:`run` without blocking the event loop."""
        reader = await asyncio.to_thread(self._reader, model)
        plan = self._plan(reader, query, passages, corruption_size, on_token)
        if self.aggregator.reads_tokens:
            return await asyncio.to_thread(drive, plan, reader)
        return await drive_async(plan, reader)

    def certify(
        self,
        query: str,
        passages: Sequence[str | Passage],
        threat: PassageInjection | PassageModification | None = None,
        *,
        gold: Sequence[str] | None = None,
        model: Any = None,
    ) -> Certificate:
        """Certify, before any attack, that no attack within ``threat`` changes the answer.

        Takes ``passages`` to be clean. With ``gold`` answers, ``evidence["tau"]`` is the smallest
        value over all reachable answers of "a gold answer occurs in it" (paper, Definition 1).

        Args:
            threat: defaults to ``PassageInjection(corruption_size)``.
            gold: correct answers, for evaluation.
        """
        if gold is not None:
            gold = [gold] if isinstance(gold, str) else list(gold)
            if not all(isinstance(answer, str) for answer in gold):
                raise TypeError(f"gold must hold texts only, got {gold!r}; pass strings")
        return self._pre_attack(query, passages, threat, gold, model)[0]

    def reachable(
        self,
        query: str,
        passages: Sequence[str | Passage],
        threat: PassageInjection | PassageModification | None = None,
        *,
        model: Any = None,
    ) -> Reachable:
        """Every answer that attacks within ``threat`` on these clean passages can lead to.

        For evaluation with a metric: ``reachable(...).lowest(metric)`` is tau of the paper's
        Definition 1. Where the answers cannot be listed, ``reason`` says why.
        """
        outcome = self._pre_attack(query, passages, threat, (), model)[1]
        return outcome.reachable or Reachable((None,), outcome.reason or "nothing was read")

    def _pre_attack(
        self, query: str, passages: Any, threat: Any, gold: Sequence[str] | None, model: Any
    ) -> tuple[Certificate, Outcome]:
        chosen = PassageInjection(self.corruption_size) if threat is None else threat
        if not isinstance(chosen, (PassageInjection, PassageModification)):
            raise TypeError(
                f"threat must be PassageInjection or PassageModification, got {chosen!r}; "
                "build one from robust_components.threats"
            )
        reader = self._reader(model)
        return drive(self._certify_plan(reader, query, passages, chosen, gold), reader)

    def _reader(self, model: Any) -> Any:
        self.load() if model is None else self.aggregator.load()
        return self.model if model is None else self._accept(model)

    def _own_memo(self, memo: bool | Memo) -> Memo | None:
        if isinstance(memo, Memo) or memo:
            if self.aggregator.reads_tokens:
                raise ValueError(
                    "memo goes with aggregation='voting' or 'keyword', got 'decoding', which "
                    "reads probabilities; leave it out"
                )
            return memo if isinstance(memo, Memo) else Memo()
        return None

    def _accept(self, model: Any) -> Any:
        if self.aggregator.reads_tokens:
            return as_token_model(model)
        reader = as_reader(model, long_form=self.long_form)
        return reader if self.memo is None else MemoReader(reader, self.memo)

    def _plan(
        self,
        reader: Any,
        query: str,
        passages: Sequence[str | Passage],
        corruption_size: int | None = None,
        on_token: Callable[[TokenResult], None] | None = None,
    ) -> Plan[RAGResult]:
        began = time.perf_counter()
        budget = self.corruption_size if corruption_size is None else corruption_size
        threat = PassageModification(positive_integer("corruption_size", budget, most=LARGEST))
        results, isolated = yield from self._isolate(reader, query, passages)
        if on_token is not None and self.on_uncertified == "abstain":
            on_token = only_certified(on_token, threat.budget)
        outcome = yield from self._aggregate(query, isolated, threat, "observed", None, on_token)
        withhold = self.on_uncertified == "abstain"
        certificate = issue(
            self.aggregator,
            reader,
            outcome,
            isolated,
            threat,
            "observed",
            began,
            withhold=withhold,
        )
        withheld = withhold and not certificate.certified
        answer = None if withheld else outcome.answer
        contributions = iter(_contributions(outcome, isolated))
        return RAGResult(
            answer=self.abstention if answer is None else answer,
            abstained=answer is None,
            certificate=certificate,
            passages=tuple(
                result if result.unused else replace(result, **next(contributions))
                for result in results
            ),
            tokens=outcome.tokens,
            keywords=outcome.keywords,
        )

    def _certify_plan(
        self,
        reader: Any,
        query: str,
        passages: Sequence[str | Passage],
        threat: PassageInjection | PassageModification,
        gold: Sequence[str] | None,
    ) -> Plan[tuple[Certificate, Outcome]]:
        began = time.perf_counter()
        _, isolated = yield from self._isolate(reader, query, passages)
        outcome = yield from self._aggregate(query, isolated, threat, "pre_attack", gold, None)
        certificate = issue(self.aggregator, reader, outcome, isolated, threat, "pre_attack", began)
        return certificate, outcome

    def _isolate(
        self, reader: Any, query: str, passages: Sequence[str | Passage]
    ) -> Plan[tuple[list[PassageResult], Isolated]]:
        return isolate(
            reader,
            query,
            passages,
            top_k=self.top_k,
            reads_tokens=self.aggregator.reads_tokens,
        )

    def _aggregate(
        self,
        query: str,
        isolated: Isolated,
        threat: PassageInjection | PassageModification,
        statement: str,
        gold: Sequence[str] | None,
        on_token: Callable[[TokenResult], None] | None,
    ) -> Plan[Outcome]:
        try:
            return (
                yield from self.aggregator.certify(
                    query, isolated, threat, statement, gold, on_token
                )
            )
        finally:
            if isolated.session is not None:
                isolated.session.close()


def _contributions(outcome: Outcome, isolated: Isolated) -> list[dict[str, Any]]:
    """For each passage read: its source's vote, and what decoding found out about the row."""
    rows: list[dict[str, Any]] = [
        {"vote": vote, "supports": supports} for vote, supports in outcome.votes
    ]
    for row, responded in zip(rows, outcome.responded or (), strict=False):
        row["abstained"] = not responded
    for row, failure in zip(rows, outcome.failures or (), strict=False):
        row["failure"] = failure
    return rows
