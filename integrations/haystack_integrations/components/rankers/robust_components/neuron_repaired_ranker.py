"""NeuronRepairedRanker as a Haystack component: Haystack's types outside, the core inside."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from haystack import Document, component, default_to_dict
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.components.rankers.robust_components.documents import (
    checked_threshold,
    outputs,
)
from robust_components.checks import positive_integer
from robust_components.models.pair_models import load_pair_scorer
from robust_components.repair.settings import check_source, repaired_ranker

HF_TOKEN = Secret.from_env_var(["HF_API_TOKEN", "HF_TOKEN"], strict=False)


@component
class NeuronRepairedRanker:
    """
    Ranks with a cross-encoder in which the neurons that attacks go through were moved back.

    The repair is a small patch file beside the model, made by `robust-components repair` or at
    warm-up from probes. It proves nothing: the certificate is empirical, never certified, and says
    how many attacks succeeded before and after the repair, as far as that was measured. For a proof
    use `SmoothedRanker`.

    ```python
    from haystack_integrations.components.rankers.robust_components import NeuronRepairedRanker

    ranker = NeuronRepairedRanker(patch="ranker.patch.safetensors", top_k=3)
    result = ranker.run(query="Who wrote Hamlet?", documents=documents)
    print(result["certificate"]["claim"])
    ```
    """

    def __init__(
        self,
        model: str | None = None,
        patch: str | Path | None = None,
        *,
        probes: str | Path | None = None,
        repair_kwargs: Mapping[str, Any] | None = None,
        top_k: int = 10,
        score_threshold: float | None = None,
        meta_fields_to_embed: Sequence[str] | None = None,
        embedding_separator: str = "\n",
        device: ComponentDevice | str | None = None,
        token: Secret | None = HF_TOKEN,
        tokens_a_batch: int = 2048,
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Creates the component; model and patch load at warm-up.

        :param model: a Hugging Face cross-encoder or monoT5-style model, by folder or id, or a
            folder written by `robust-components train ranker`; the embedded ranker when `None`.
        :param patch: file of a repair of that very model; a patch of another one is refused.
        :param probes: instead of `patch`, a file of attacked documents (JSON lines, see
            `robust-components repair --help`) to repair with at warm-up.
        :param repair_kwargs: settings of that repair: `neurons`, `trade_off`, `seed`, `held_out`,
            and `step`, `objective`, `rounds`, `steps`, `anchor` or `pooling`.
        :param top_k: documents returned, at least 1.
        :param score_threshold: documents with a lower score are left out; inclusive.
        :param meta_fields_to_embed: metadata put before the content.
        :param embedding_separator: between metadata and content.
        :param device: where the model runs; the best available when `None`.
        :param token: for private Hugging Face models.
        :param tokens_a_batch: most tokens the model reads at once, padding included.
        :param model_kwargs: for the Hugging Face model's `from_pretrained`.
        :param tokenizer_kwargs: for the tokenizer's `from_pretrained`.
        :raises ValueError: a value is outside its range, or not one of `patch` and `probes` is
            given.
        :raises TypeError: a value is of the wrong type.
        """
        check_source(patch, probes, repair_kwargs)
        if isinstance(meta_fields_to_embed, str):
            raise TypeError(
                f"meta_fields_to_embed must be a list of names, got {meta_fields_to_embed!r}; put "
                "it in a list"
            )
        self.model = model
        self.patch = None if patch is None else str(patch)
        self.probes = None if probes is None else str(probes)
        self.repair_kwargs = None if repair_kwargs is None else dict(repair_kwargs)
        self.top_k = positive_integer("top_k", top_k)
        self.score_threshold = checked_threshold(score_threshold)
        self.meta_fields_to_embed = [str(field) for field in meta_fields_to_embed or []]
        self.embedding_separator = embedding_separator
        self.device = ComponentDevice.from_str(device) if isinstance(device, str) else device
        self.token = token
        self.tokens_a_batch = positive_integer("tokens_a_batch", tokens_a_batch)
        self.model_kwargs = None if model_kwargs is None else dict(model_kwargs)
        self.tokenizer_kwargs = None if tokenizer_kwargs is None else dict(tokenizer_kwargs)
        self._core: Any = None

    def to_dict(self) -> dict[str, Any]:
        """Serializes the component; a repair by the path of its patch."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        return default_to_dict(self, **{name: getattr(self, name) for name in names})

    def warm_up(self) -> None:
        """Loads the model and its patch, or repairs it with the probes."""
        if self._core is None:
            scorer = load_pair_scorer(
                self.model,
                device=ComponentDevice.resolve_device(self.device).to_torch_str(),
                tokens_a_batch=self.tokens_a_batch,
                token=None if self.token is None else self.token.resolve_value(),
                model_kwargs=self.model_kwargs,
                tokenizer_kwargs=self.tokenizer_kwargs,
            )
            self._core = repaired_ranker(
                scorer, self.patch, self.probes, self.repair_kwargs, self.top_k
            )

    async def warm_up_async(self) -> None:
        """`warm_up` in a thread."""
        await asyncio.to_thread(self.warm_up)

    @component.output_types(documents=list[Document], certificate=dict[str, Any])
    def run(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """
        Ranks the documents.

        :param query: trusted.
        :param documents: candidates, best first; their order decides between equal scores. A
            document given twice, with the same id and text, is ranked once and logged.
        :param top_k: overrides the instance's. With fewer documents all are returned.
        :param score_threshold: overrides the instance's; inclusive.
        :returns:
            - `documents`: copies of the top K, best first. In `meta["robust_ranking"]`: `rank`,
              `previous_score`, `truncated` and `times_given`.
            - `certificate`: what was measured about the repair; `guarantee` is `"empirical"` and
              `certified` false.
        :raises ValueError: the query is empty, or `top_k` is below 1.
        """
        self.warm_up()
        return self._rank(query, documents, top_k, score_threshold)

    @component.output_types(documents=list[Document], certificate=dict[str, Any])
    async def run_async(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None = None,
        score_threshold: float | None = None,
    ) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        await self.warm_up_async()
        return await asyncio.to_thread(self._rank, query, documents, top_k, score_threshold)

    def _rank(
        self,
        query: str,
        documents: list[Document],
        top_k: int | None,
        score_threshold: float | None,
    ) -> dict[str, Any]:
        threshold = checked_threshold(score_threshold)
        return outputs(
            self._core,
            query,
            documents,
            fields=self.meta_fields_to_embed,
            separator=self.embedding_separator,
            top_k=self.top_k if top_k is None else top_k,
            threshold=self.score_threshold if threshold is None else threshold,
        )
