"""The ranking benchmark on small made-up data: readers, figures, and that it fails when it must."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

import pytest

pytest.importorskip("ir_measures")
pytest.importorskip("matplotlib")

from benchmarks import ranking
from benchmarks.ranking_attacks import Campaign, choose_target, violations
from benchmarks.ranking_data import BM25, RankedList, read_lists
from benchmarks.ranking_figures import (
    analyse,
    analysed_row,
    plain_row,
    ranker_for,
    relevance,
    summary,
)
from benchmarks.score_cache import CachedScorer
from robust_components.models.testing import TableScorer
from robust_components.ranking.analysis import FixedAnalysis
from robust_components.smoothing import BalancedMask

TOPICS = ["volcano ash", "river delta", "copper wire", "violin bow", "glacier ice", "bread oven"]


def overlap(query: str, text: str) -> float:
    wanted = set(query.split())
    return min(1.0, sum(word in wanted for word in text.split()) / 4)


def article(topic: str, number: int) -> str:
    first, second = topic.split()
    return f"{first} {number} {second} one two {first} three four five {second} six {number} end"


@pytest.fixture
def questions(tmp_path):
    path = tmp_path / "made_up" / "dev.jsonl"
    path.parent.mkdir()
    rows = [
        {"title": "all", "context": article(topic, 1), "question": topic, "answers": answers}
        for topic, answers in zip(TOPICS, [["one"]] * 5 + [[]], strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_questions_become_shuffled_lists(questions):
    lists = read_lists(questions, seed=3)
    assert len(lists) == 5
    assert lists == read_lists(questions, seed=3)
    assert lists != read_lists(questions, seed=4)
    for item in lists:
        assert len(set(item.ids)) == len(item.documents) == 6
        assert item.documents[item.ids.index("0")] == article(item.query, 1)
        assert item.relevant == {"0": 1}
    assert len({item.ids.index("0") for item in lists}) > 1


def test_tables_keep_the_first_stage_ranks(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text(
        "qid\tquery\tpid\tdocument\tscore\tnew_rank\n"
        '7\tsome "query\td2\tfar text\t-3\t1000\n7\tsome "query\td1\tnear text\t4\t1\n'
    )
    (tmp_path / "qrels.txt").write_text("7 0 d1 1\n7 0 d9 1\n")
    (item,) = read_lists(path)
    assert item.query == 'some "query'
    assert item.ids == ("d1", "d2")
    assert item.first_ranks == (1, 1000)
    assert item.relevant == {"d1": 1, "d9": 1}


def test_beir_folders_are_searched(tmp_path):
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(
        "".join(
            json.dumps({"_id": f"d{i}", "title": topic, "text": article(topic, i)}) + "\n"
            for i, topic in enumerate(TOPICS)
        )
    )
    (tmp_path / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "copper bow"}\n{"_id": "q2", "text": "unjudged river"}\n'
    )
    (tmp_path / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td2\t2\nq1\td0\t0\n"
    )
    (item,) = read_lists(tmp_path)
    assert set(item.ids) == {"d2", "d3"}
    assert item.relevant == {"d2": 2}
    assert item.documents[0].startswith(("copper wire", "violin bow"))


def test_trec_folders_are_searched(tmp_path):
    (tmp_path / "doc-text.trec").write_text(
        "<DOC>\n<DOCNO>1</DOCNO>\n<TEXT>\ncopper\nwire</TEXT>\n</DOC>\n"
        "<DOC>\n<DOCNO> 2 </DOCNO>\nviolin bow\n</DOC>\n"
    )
    (tmp_path / "query-text.trec").write_text(
        "<top>\n<num>1</num><title>\nCOPPER BOW\n</title>\n</top>\n"
        "<top>\n<num> Number: 2\n<title> violin\n<desc> Description: none\n</top>\n"
    )
    (tmp_path / "qrels").write_text("1 0 1 1\n2 0 2 1\n")
    lists = {item.query_id: item for item in read_lists(tmp_path)}
    assert lists["1"].query == "copper bow"
    assert set(lists["1"].documents) == {"copper wire", "violin bow"}
    assert lists["2"].query == "violin"
    assert lists["2"].ids == ("2",)


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no BEIR"):
        read_lists(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_lists(tmp_path / "nothing")


def test_search_prefers_rare_words():
    index = BM25({"a": "lake lake water", "b": "water", "c": "water violin"})
    assert index.search("water violin", 2)[0] == "c"
    assert index.search("unknown", 2) == []


def made_list(number: int = 12) -> RankedList:
    documents = ["lake lake lake lake", *(f"word{i} " * 8 for i in range(number - 1))]
    return RankedList(
        "q",
        "lake",
        tuple(map(str, range(number))),
        tuple(documents),
        {"0": 1, "99": 1},
        (*range(1, 11), *range(1000, 1000 + number - 10)),
    )


def test_relevance_is_that_of_ir_measures():
    item = made_list()
    rows = [plain_row(item, TableScorer(overlap))]
    assert relevance(rows)["mrr_10"] == 1.0
    assert relevance(rows)["ndcg_10"] == pytest.approx(1 / (1 + 1 / 1.585), abs=1e-3)
    last = [plain_row(item, TableScorer(lambda query, text: 1 - overlap(query, text)))]
    assert relevance(last) == {"mrr_10": 0.0, "ndcg_10": 0.0}


def test_certified_shares_follow_from_the_scores():
    """Four copies of one word each score 1/4 for the first document and 0 for the others; one
    edit lifts another by 1/4, which is a tie, and ties count for the attacker."""
    item = made_list()
    ranker = ranker_for(TableScorer(lambda q, t: float("lake" in t)), BalancedMask(blocks=4))
    row = analysed_row(item, analyse(ranker, item.query, item.documents))
    assert row.top_right
    assert row.set_radius == 3
    assert set(row.document_radii) == {3}
    figures = summary([row], [plain_row(item, TableScorer(overlap))])
    assert figures["certified"]["K=1 M=1 pre_attack"] == {
        "R=1": 1.0,
        "R=2": 1.0,
        "R=3": 1.0,
        "R=5": 0.0,
    }
    assert figures["certified"]["K=1 M=1 observed, and right"]["R=1"] == 1.0
    assert figures["certified"]["K=1 M=1 observed"]["R=2"] == 0.0
    assert figures["certified"]["K=10 M=10 pre_attack"]["R=1"] == 0.0
    assert figures["certified"]["K=10 first-stage M=50 pre_attack"]["R=1"] == 0.0
    assert "K=10 M=50 pre_attack" not in figures["certified"]
    assert figures["set_radius_histogram"] == {"3": 1}
    assert figures["document_radius_histogram"] == {"3": 11}


def test_targets_are_below_the_top_and_not_relevant():
    item = made_list()
    order = list(range(12))
    for seed in range(20):
        assert choose_target(item, order, True, seed) in range(1, 5)
        assert choose_target(item, order, False, seed) in range(6, 12)
        assert choose_target(item, list(reversed(order)), False, seed) != 0


@dataclass(frozen=True)
class Lying(BalancedMask):
    """Claims that two edits touch nothing."""

    def touched(self, threat):
        return 1 if threat.budget == 1 else 0


def test_a_beaten_certificate_is_found():
    item = made_list()
    model = TableScorer(overlap)
    honest = Campaign(model, blocks=3)
    honest.run(item)
    assert honest.violations == []
    assert honest.checked == 28
    figures = honest.figures()
    assert figures["certificates_beaten"] == 0
    plain = figures["words"]["3 substituted"]["query_stuffing"]["plain"]
    assert plain["targets"] == 1.0
    assert plain["asr"] in (0.0, 1.0)

    model = TableScorer(lambda query, text: float(query in text))
    liar = Campaign(model, blocks=3)
    liar.mechanisms = {"substitute": Lying(blocks=3)}
    liar.rankers = {"substitute": ranker_for(model, Lying(blocks=3))}
    liar.run(item)
    assert any("top 1, certified" in problem for problem in liar.violations)
    assert any("its own certificate" in problem for problem in liar.violations)
    assert any("best rank" in problem for problem in liar.violations)
    assert any("above its bound" in problem for problem in liar.violations)
    assert liar.figures()["certificates_beaten"] == len(liar.violations)


def test_a_certified_list_that_is_not_the_clean_one_is_found(monkeypatch):
    item = made_list()
    ranker = ranker_for(TableScorer(overlap), BalancedMask(blocks=3))
    before = analyse(ranker, item.query, item.documents)
    after = analyse(ranker, item.query, [*item.documents[:-1], "lake " * 8])
    assert violations(before, after, 11, 8) == []
    monkeypatch.setattr(FixedAnalysis, "set_radius", lambda self, scope: 8 * (scope == "any"))
    assert violations(before, after, 11, 8) == [
        f"the top {k} of the attacked list is certified but not the clean one"
        for k in (1, 3, 5, 10)
    ]
    assert violations(before, after, 11, 0) == []


def arguments(data, folder, *more) -> argparse.Namespace:
    return ranking.parse(
        [
            "--data",
            str(data),
            "--json",
            str(folder / "found.json"),
            "--cache",
            str(folder / "c"),
            "--attacked",
            "1",
            "--sample",
            "3",
            "--frontier",
            "2",
            "4",
            "--blocks",
            "4",
            *more,
        ]
    )


@pytest.mark.filterwarnings("ignore:.*can never certify")
def test_a_whole_run_and_another_from_its_cache(questions, tmp_path):
    counted = []

    def score(query, text):
        counted.append(text)
        return overlap(query, text)

    options = arguments(questions, tmp_path)
    assert ranking.run(options, TableScorer(score), None) == []
    report = json.loads((tmp_path / "found.json").read_text())
    assert report["name"] == "ranking"
    figures = report["figures"]
    assert figures["data"] == "made_up"
    assert figures["plain"] == {"lists": 5, "mrr_10": 1.0, "ndcg_10": 1.0}
    assert figures["balanced_mask_4"]["lists"] == 5
    assert figures["hash_buckets_4"]["lists"] == 3
    assert [point["blocks"] for point in figures["frontier"]] == [2, 4]
    assert figures["attacks"]["lists"] == 1
    for plot in ("found_radii.png", "found_frontier.png"):
        assert (tmp_path / plot).read_bytes().startswith(b"\x89PNG")

    passes = len(counted)
    assert passes > 100
    assert ranking.run(options, TableScorer(score), None) == []
    assert len(counted) == passes
    assert json.loads((tmp_path / "found.json").read_text())["figures"] == figures


def test_the_cache_tells_scorers_and_queries_apart(tmp_path):
    one, other = TableScorer(lambda q, t: 0.1), TableScorer(lambda q, t: 0.9)
    other.fingerprint = "another"
    assert CachedScorer(one, tmp_path).score("q", ["a", "b"]) == [0.1, 0.1]
    assert CachedScorer(other, tmp_path).score("q", ["a", "b"]) == [0.9, 0.9]
    (next(tmp_path.glob("*.jsonl"))).open("a").write('{"cut sho')
    kept = CachedScorer(TableScorer(lambda q, t: 0.5), tmp_path)
    assert kept.score("q", ["a", "b"]) == [0.1, 0.1]
    assert kept.score("q2", ["a", "b"]) == [0.5, 0.5]
    assert kept.score("q", ["ab"]) == [0.5]
    assert CachedScorer(one, None).score("q", ["c"]) == [0.1]


def test_main_exits_with_one_when_a_certificate_is_beaten(monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(ranking, "parse", lambda: argparse.Namespace(threads=None, ranker=None))
    monkeypatch.setattr("robust_components.models.load_ranker", lambda folder: None)
    monkeypatch.setattr("robust_components.attacks.embedding_neighbours", lambda *_, **__: None)
    monkeypatch.setattr(ranking, "run", lambda *_: ["query 1: entered the top 1"])
    with pytest.raises(SystemExit) as stopped:
        ranking.main()
    assert stopped.value.code == 1
    assert "entered the top 1" in capsys.readouterr().err
