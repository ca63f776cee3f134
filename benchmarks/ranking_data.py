"""Readers for ranked lists: questions with paragraphs, re-ranking tables, BEIR and TREC folders."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from robust_components.ranking.lists import candidates, read_rows

CANDIDATES = {"questions": 20, "beir": 100, "trec": 100}


@dataclass(frozen=True)
class RankedList:
    """A query and its candidates in retrieval order.

    Attributes:
        ids: of the documents, distinct.
        relevant: grade of every relevant document of the query, candidates or not.
        first_ranks: ranks the first stage gave the candidates, from 1.
    """

    query_id: str
    query: str
    ids: tuple[str, ...]
    documents: tuple[str, ...]
    relevant: dict[str, int]
    first_ranks: tuple[int, ...]


def read_lists(path: Path, *, seed: int = 0, count: int | None = None) -> list[RankedList]:
    """All lists of ``path`` in an order drawn with ``seed``, so that any first N are a sample.

    Args:
        path: a ``.jsonl`` file of questions with paragraphs; a ``.tsv`` file with columns qid,
            query, pid, document, new_rank beside a ``qrels*`` file; a folder with
            ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/`` (BEIR); or a folder with
            ``doc-text.trec``, ``query-text.trec`` and ``qrels`` (TREC). Folders are searched
            with BM25.
        count: candidates a list; 20 for questions, 100 for folders when ``None``.

    Raises:
        FileNotFoundError, ValueError: ``path`` is none of these.
    """
    if path.suffix == ".jsonl":
        lists = question_lists(path, count or CANDIDATES["questions"], seed)
    elif path.suffix == ".tsv":
        lists = table_lists(path)
    elif (path / "corpus.jsonl").is_file():
        lists = search_lists(*read_beir(path), count or CANDIDATES["beir"])
    elif (path / "doc-text.trec").is_file():
        lists = search_lists(*read_trec(path), count or CANDIDATES["trec"])
    elif not path.exists():
        raise FileNotFoundError(f"{path} does not exist; pass a file or a folder of ranked lists")
    else:
        raise ValueError(
            f"{path} is no .jsonl or .tsv file and no BEIR (corpus.jsonl) or TREC (doc-text.trec) "
            "folder; see benchmarks/ranking_data.py"
        )
    random.Random(seed).shuffle(lists)
    return lists


def question_lists(path: Path, count: int, seed: int) -> list[RankedList]:
    """The right paragraph and the others of its article by word overlap, shuffled."""
    lists = []
    for number, row in enumerate(read_rows(path)):
        texts = list(enumerate(candidates(row, count)))
        random.Random(f"{seed} {number}").shuffle(texts)
        lists.append(
            RankedList(
                query_id=str(number),
                query=row.query,
                ids=tuple(str(i) for i, _ in texts),
                documents=tuple(text for _, text in texts),
                relevant={"0": 1},
                first_ranks=tuple(range(1, len(texts) + 1)),
            )
        )
    return lists


def table_lists(path: Path) -> list[RankedList]:
    """Stored candidates with their ranks; new_rank 1000 and above stands for ranks 51 and below."""
    qrels: dict[str, dict[str, int]] = {}
    for file in sorted(path.parent.glob("qrels*")):
        for query, document, grade in _qrel_lines(file):
            qrels.setdefault(query, {})[document] = grade
    rows: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE):
            rows.setdefault(row["qid"], []).append(row)
    lists = []
    for query_id, found in rows.items():
        found.sort(key=lambda row: int(row["new_rank"]))
        lists.append(
            RankedList(
                query_id=query_id,
                query=found[0]["query"],
                ids=tuple(row["pid"] for row in found),
                documents=tuple(row["document"] for row in found),
                relevant=qrels.get(query_id, {}),
                first_ranks=tuple(int(row["new_rank"]) for row in found),
            )
        )
    return lists


Corpus = dict[str, str]
Grades = dict[str, dict[str, int]]


def read_beir(folder: Path) -> tuple[Corpus, Corpus, Grades]:
    """Documents, queries and grades of a BEIR folder; the test qrels if there are several."""

    def texts(name: str) -> Corpus:
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
        return {r["_id"]: f"{r.get('title', '')} {r['text']}".strip() for r in records}

    files = sorted((folder / "qrels").glob("*.tsv"), key=lambda file: file.stem != "test")
    if not files:
        raise FileNotFoundError(
            f"{folder / 'qrels'} holds no .tsv file; BEIR folders have test.tsv"
        )
    grades: Grades = {}
    with files[0].open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle, delimiter="\t"):
            grades.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return texts("corpus.jsonl"), texts("queries.jsonl"), grades


def read_trec(folder: Path) -> tuple[Corpus, Corpus, Grades]:
    """Documents, topics and grades of a folder in TREC format."""
    documents = {
        number: " ".join(re.sub(r"<[^>]+>", " ", body).split())
        for number, body in re.findall(
            r"<DOC>\s*<DOCNO>\s*(\S+?)\s*</DOCNO>(.*?)</DOC>",
            (folder / "doc-text.trec").read_text(encoding="utf-8"),
            re.DOTALL,
        )
    }
    topics = {
        number: " ".join(title.split()).lower()
        for number, title in re.findall(
            r"<num>\D*(\d+).*?<title>(.*?)(?:</title>|<desc>|</top>)",
            (folder / "query-text.trec").read_text(encoding="utf-8"),
            re.DOTALL,
        )
    }
    grades: Grades = {}
    for query, document, grade in _qrel_lines(folder / "qrels"):
        grades.setdefault(query, {})[document] = grade
    return documents, topics, grades


def search_lists(
    documents: Corpus, queries: Corpus, grades: Grades, count: int
) -> list[RankedList]:
    """The first ``count`` documents by BM25 for every query that has a relevant document."""
    index = BM25(documents)
    lists = []
    for query_id, query in queries.items():
        relevant = {i: grade for i, grade in grades.get(query_id, {}).items() if grade > 0}
        found = index.search(query, count)
        if relevant and found:
            lists.append(
                RankedList(
                    query_id=query_id,
                    query=query,
                    ids=tuple(found),
                    documents=tuple(documents[i] for i in found),
                    relevant=relevant,
                    first_ranks=tuple(range(1, len(found) + 1)),
                )
            )
    return lists


class BM25:
    """Okapi BM25 (k1 = 0.9, b = 0.4) over lower-cased words."""

    def __init__(self, documents: Corpus) -> None:
        self.postings: dict[str, dict[str, int]] = {}
        self.lengths: dict[str, int] = {}
        for name, text in documents.items():
            counts = Counter(_words(text))
            self.lengths[name] = counts.total()
            for word, number in counts.items():
                self.postings.setdefault(word, {})[name] = number
        self.mean = sum(self.lengths.values()) / max(1, len(self.lengths))

    def search(self, query: str, count: int) -> list[str]:
        """Names of the best documents that share a word with the query, best first."""
        scores: dict[str, float] = {}
        for word in _words(query):
            found = self.postings.get(word, {})
            weight = math.log(1 + (len(self.lengths) - len(found) + 0.5) / (len(found) + 0.5))
            for name, number in found.items():
                norm = 0.9 * (0.6 + 0.4 * self.lengths[name] / self.mean)
                scores[name] = scores.get(name, 0.0) + weight * number * 1.9 / (number + norm)
        return sorted(scores, key=lambda name: (-scores[name], name))[:count]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _qrel_lines(path: Path) -> Iterable[tuple[str, str, int]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            query, _, document, grade = line.split()
            yield query, document, int(grade)
