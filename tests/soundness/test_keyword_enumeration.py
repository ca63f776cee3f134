"""Keyword aggregation attacked by enumeration, against Algorithm 1 written apart.

A list is a tuple of (source, response) pairs, best rank first. A response is a frozenset of
keywords (perhaps empty), ``None`` for an abstention, or ``FAILS``. The final answer is an
adversarially shaped function of the kept keywords. Hostile responses are *all* subsets of the four
keywords, with and without a keyword nobody gave, and abstention.
"""

from __future__ import annotations

import itertools
import random
import zlib
from functools import cache

import pytest

from robust_components.models.protocols import ModelFailedError
from robust_components.models.testing import KeywordReader
from robust_components.rag.generator import RobustRAGGenerator
from robust_components.rag.passages import Passage
from robust_components.threats import PassageInjection, PassageModification

WORDS = ("w", "x", "y", "z")
UNSEEN = "evil"
FAILS = "fails"
EMPTY = "."
"""How a response without keywords is written: an empty text would be a failure."""


def subsets(words):
    sizes = range(len(words) + 1)
    return [frozenset(s) for size in sizes for s in itertools.combinations(words, size)]


def hostile_responses(words):
    return [None, *subsets(words), *(found | {UNSEEN} for found in subsets(words))]


# ---------------------------------------------------- final answers of an adversarial shape
# Each takes the kept keywords (never empty) and returns an answer, or None to abstain.


def arbitrary(kept, salt=0):
    return "yes" if zlib.crc32(f"{salt} {sorted(kept)}".encode()) % 2 else "no"


def rarely_different(kept, salt=0):
    """One set in eight abstains or answers differently."""
    return ("no", None, *["yes"] * 14)[zlib.crc32(f"{salt} {sorted(kept)}".encode()) % 16]


def by_w(kept, salt=0):
    return "yes" if "w" in kept else "no"


def by_extreme_sets(kept, salt=0):
    """Differs only on middle-sized sets, which are asked last."""
    return "no" if 1 < len(kept) < 3 else "yes"


def by_unseen_word(kept, salt=0):
    return "no" if UNSEEN in kept else "yes"


def failing_on_pairs(kept, salt=0):
    if kept == {"w", "x"}:
        raise TimeoutError("the final call")
    return "yes"


def same_after_normalising(kept, salt=0):
    return "The Yes!" if len(kept) % 2 else "yes"


SHAPES = (
    arbitrary,
    rarely_different,
    by_w,
    by_extreme_sets,
    by_unseen_word,
    failing_on_pairs,
    same_after_normalising,
)
ALPHAS = ("0.3", "0.5", "1")
BETAS = (1, 2, 3)


# ------------------------------------------------------------------------- the code under test


class SplitOnSpaces:
    def extract(self, text):
        return frozenset(text.split()) - {EMPTY}


def written(response):
    if response is None or response == FAILS:
        return f"passage: {response or 'nothing'}"
    return "passage: keywords " + (" ".join(sorted(response)) or EMPTY)


def reader(shape, salt=0):
    """Tells passages from keyword sets joined by commas, as a real model could."""

    def respond(query, text):
        if not text.startswith("passage: "):
            return shape(frozenset(text.split(", ")), salt)
        kind, _, keywords = text.removeprefix("passage: ").partition(" ")
        if kind == FAILS:
            raise ConnectionError("no response")
        return keywords or None

    return KeywordReader(respond)


@cache
def generator(shape, salt, alpha, beta, top_k, corruption_size=1):
    return RobustRAGGenerator(
        reader(shape, salt),
        "keyword",
        corruption_size,
        top_k=top_k,
        alpha=alpha,
        beta=beta,
        keyword_extractor=SplitOnSpaces(),
        max_optional_keywords=6,
    )


def unless_all_failed(entries, call, *arguments, **options):
    """What the call returns; ``None`` where it raises since no row gave a usable response."""
    try:
        return call(*arguments, **options)
    except ModelFailedError:
        assert {response for _, response in entries} == {FAILS}
        return None


def as_passages(entries):
    return [Passage(text=written(response), source=source) for source, response in entries]


def plain(answer):
    """The toy answers need nothing more to be compared."""
    return None if answer is None else answer.lower().removeprefix("the ").rstrip("!")


# ----------------------------------------------------------------------------- the brute force


def kept_keywords(entries, alpha, beta):
    """Algorithm 1 in tenths; ``None`` when no source responds."""
    said = {}
    for source, response in entries:
        said.setdefault(source, []).append(response)
    voices = []
    for responses in said.values():
        given = [one for one in responses if one is not None and one != FAILS]
        if not given or FAILS in responses:
            continue
        shared = frozenset.intersection(*given)
        if shared or len(given) == 1:
            voices.append(shared)
    if not voices:
        return None
    tenths = min(round(10 * float(alpha)) * len(voices), 10 * beta)
    words = frozenset().union(*voices)
    return frozenset(w for w in words if 10 * sum(w in voice for voice in voices) >= tenths)


def final_answer(kept, shape, salt=0):
    if not kept:
        return None
    try:
        return plain(shape(kept, salt))
    except TimeoutError:
        return None


def failed_sources(entries):
    return {source for source, response in entries if response == FAILS}


def injected(entries, budget, top_k, words, most_each=1):
    """Every list after up to ``budget`` sources injected; ranks matter only through the cut."""
    failed = failed_sources(entries)
    spare = budget - len(failed)
    if spare < 0:
        return
    responses = hostile_responses(words)
    rows = [i for i, (source, _) in enumerate(entries) if source in failed]
    for rewritten in itertools.product(responses, repeat=len(rows)):
        before = list(entries)
        for i, response in zip(rows, rewritten, strict=True):
            before[i] = (entries[i][0], response)
        for passages in range(spare * most_each + 1):
            staying = tuple(before[: max(0, top_k - passages)])
            for voices in range(min(spare, passages) + 1):
                for said in itertools.combinations_with_replacement(responses, voices):
                    yield staying + tuple((f"hostile {i}", one) for i, one in enumerate(said))


def modified(entries, budget, words, room=0):
    """Every list after ``budget`` sources (failed ones first) were rewritten or replaced.

    Each slot they held goes to any response of a source of its own, or to nobody. In a list with
    ``room``, a hostile source may also appear without anything being removed. In a chunked list, a
    slot may also go to one more passage of a source that stays, with any response.
    """
    failed = failed_sources(entries)
    sources = list(dict.fromkeys(source for source, _ in entries))
    if len(failed) > budget:
        return
    others = [source for source in sources if source not in failed]
    most = min(budget - len(failed), len(others))
    for count in range(0 if room else most, most + 1):
        for chosen in itertools.combinations(others, count):
            kept = tuple(entry for entry in entries if entry[0] not in failed.union(chosen))
            freed = len(entries) - len(kept) + min(room, budget - len(failed) - count)
            owners = [None]
            if chunked(entries):
                owners += dict.fromkeys(source for source, _ in kept)
            passages = list(itertools.product(owners, hostile_responses(words)))
            for said in itertools.combinations_with_replacement(passages, freed):
                yield kept + tuple(
                    (f"newcomer {i}" if owner is None else owner, one)
                    for i, (owner, one) in enumerate(said)
                )


def chunked(entries):
    return len({source for source, _ in entries}) < len(entries)


def reached_sets(worlds, alpha, beta):
    return {kept_keywords(world, alpha, beta) for world in worlds}


def true_budget(entries, worlds_within, limit, alpha, beta, shape, salt):
    """Largest budget up to ``limit`` within which nothing changes the answer."""
    answer = final_answer(kept_keywords(entries, alpha, beta), shape, salt)
    best = 0
    for budget in range(max(1, len(failed_sources(entries))), limit + 1):
        sets = reached_sets(worlds_within(budget), alpha, beta)
        if any(final_answer(kept, shape, salt) != answer for kept in sets):
            break
        best = budget
    return best


# ------------------------------------------------------------------------------- the instances


def random_list(draw, size, words, *, most_each=1, failures=True):
    """Lists with a leaning to agreement: elsewhere hardly anything can be certified."""
    common = frozenset(w for w in words if draw.random() < 0.5) or frozenset(words[:1])
    entries = []
    for i in range(size):
        source = f"s{i // most_each}" if draw.random() < 0.5 else f"s{i}"
        roll = draw.random()
        if roll < 0.08:
            response = None
        elif failures and roll < 0.14:
            response = FAILS
        elif roll < 0.6:
            response = common
        else:
            response = frozenset(w for w in words if draw.random() < 0.5)
        entries.append((source, response))
    return tuple(entries)


def settings(draw):
    return draw.choice(SHAPES), draw.randrange(1000), draw.choice(ALPHAS), draw.choice(BETAS)


# ----------------------------------------------------------------------------------- the tests


def test_own_algorithm_agrees_with_run():
    draw = random.Random(1)
    for _ in range(400):
        shape, salt, alpha, beta = settings(draw)
        entries = random_list(draw, draw.randint(1, 4), WORDS, most_each=2)
        run = generator(shape, salt, alpha, beta, 4).run
        result = unless_all_failed(entries, run, "q", as_passages(entries))
        if result is None:
            continue
        kept = kept_keywords(entries, alpha, beta)
        assert frozenset(result.keywords) == (kept or frozenset())
        found = None if result.abstained else plain(result.answer)
        assert found == final_answer(kept, shape, salt), entries


def compare(seed, cases, sizes, words, limit, statement, most_each):
    """Certified against true budgets over random lists.

    Fails where the certified budget is larger; or smaller, although the certificate names keywords
    that "are reachable" and give something else (in a chunked list that is modified they may not
    be: a source with a new passage is taken to respond arbitrarily, not with part of what it said).
    Returns how often anything was certified, and how
    often less than the true optimum (mostly where "any keyword" is reachable and harmless).
    """
    draw = random.Random(seed)
    certified_somewhere = below = 0
    for _ in range(cases):
        shape, salt, alpha, beta = settings(draw)
        size = draw.choice(sizes)
        entries = random_list(draw, size, words, most_each=most_each)
        top_k = size + draw.choice((0, 0, 1, 3))
        robust = generator(shape, salt, alpha, beta, top_k)
        if statement == "injection":
            each = draw.choice((1, 2))
            threat = PassageInjection(limit + 1, passages_per_source=each)

            def worlds(k, entries=entries, top_k=top_k, each=each):
                return injected(entries, k, top_k, words, each)
        else:
            threat = PassageModification(limit + 1)

            def worlds(k, entries=entries, room=top_k - size):
                return modified(entries, k, words, room)

        certificate = unless_all_failed(entries, robust.certify, "q", as_passages(entries), threat)
        if certificate is None:
            continue
        radius = min(limit, certificate.radius)
        best = true_budget(entries, worlds, limit, alpha, beta, shape, salt)
        case = (entries, threat, top_k, shape.__name__, salt, alpha, beta)
        assert radius <= best, case
        exact = statement == "injection" or not chunked(entries)
        if exact and certificate.radius < limit and "are reachable and give" in certificate.reason:
            assert radius == best, case
        certified_somewhere += radius > 0
        below += radius < best
    return certified_somewhere, below


@pytest.mark.parametrize(
    "statement, cases, sizes, words, limit, most_each",
    [
        ("injection", 800, (1, 2, 3, 4), WORDS, 1, 1),
        ("injection", 200, (3, 4, 5), WORDS, 2, 1),
        ("injection", 300, (2, 3, 4), WORDS[:2], 2, 2),
        ("modification", 800, (1, 2, 3, 4), WORDS, 1, 1),
        ("modification", 100, (3, 4, 5), WORDS[:3], 2, 1),
        ("modification", 300, (2, 3, 4), WORDS[:2], 1, 2),
        pytest.param("injection", 4000, (3, 4, 5), WORDS, 2, 1, marks=pytest.mark.slow),
        pytest.param("injection", 3000, (4, 5), WORDS[:3], 2, 2, marks=pytest.mark.slow),
        pytest.param("modification", 600, (4, 5), WORDS, 2, 1, marks=pytest.mark.slow),
        pytest.param("modification", 1500, (4, 5, 6), WORDS[:2], 1, 2, marks=pytest.mark.slow),
        pytest.param("modification", 100, (3, 4), WORDS[:1], 2, 2, marks=pytest.mark.slow),
    ],
)
def test_no_attack_beats_a_certificate(
    statement, cases, sizes, words, limit, most_each, record_property
):
    certified, below = compare(7, cases, sizes, words, limit, statement, most_each)
    assert certified
    record_property("certified", f"{certified} of {cases}")
    record_property("below the true optimum", f"{below} of {cases}")
    print(f"{statement}: {certified} of {cases} certified, {below} below the true optimum")


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("beta", BETAS)
def test_tau_is_a_lower_bound_on_the_gold_hit_of_every_reached_answer(alpha, beta):
    draw = random.Random(3)
    for _ in range(30):
        shape, salt, _, _ = settings(draw)
        entries = random_list(draw, draw.randint(1, 4), WORDS[:3], most_each=2)
        budget, top_k = draw.choice((1, 2)), len(entries) + draw.choice((0, 2))
        robust = generator(shape, salt, alpha, beta, top_k)
        for threat, worlds in (
            (PassageInjection(budget), injected(entries, budget, top_k, WORDS[:3])),
            (
                PassageModification(1),
                modified(entries, 1, WORDS[:2], top_k - len(entries)),
            ),
        ):
            certificate = unless_all_failed(
                entries, robust.certify, "q", as_passages(entries), threat, gold=["yes"]
            )
            if certificate is None:
                continue
            sets = reached_sets(worlds, alpha, beta) | {kept_keywords(entries, alpha, beta)}
            answers = {final_answer(kept, shape, salt) for kept in sets}
            lowest = min(float(answer == "yes") for answer in answers)
            assert certificate.evidence["tau"] <= lowest, (entries, threat)


# ------------------------------------------------------------------------------ live outputs

FEW = WORDS[:2]


@pytest.mark.parametrize(
    "alpha, beta, top_k",
    [("0.5", 2, 3), ("1", 2, 3), ("1", 3, 3), ("0.5", 3, 4), ("1", 2, 4)],
)
def test_observed_certificates_recover_the_clean_answer(alpha, beta, top_k):
    """Every clean list of three over two keywords, every attack by one source, all mixtures.

    A hostile source rewrites its passage, drops out for an unknown clean source (or for nobody, in
    a short list), or joins and pushes out the last passage of a full list.
    """
    held = 0
    for shape in (by_w, by_extreme_sets, failing_on_pairs, rarely_different):

        @cache
        def observed(responses, shape=shape):
            entries = [(f"source {i}", response) for i, response in enumerate(responses)]
            run = generator(shape, 5, alpha, beta, top_k).run
            result = unless_all_failed(entries, run, "q", as_passages(entries))
            if result is None:
                return None, 0
            found = None if result.abstained else plain(result.answer)
            return found, result.certificate.radius

        hostile = (*hostile_responses(FEW), FAILS)
        for clean in itertools.product([None, *subsets(FEW)], repeat=3):
            entries = tuple((f"s{i}", response) for i, response in enumerate(clean))
            before = final_answer(kept_keywords(entries, alpha, beta), shape, 5)
            after = {(*clean[:i], r, *clean[i + 1 :]) for i in range(3) for r in hostile}
            after |= {(response, *clean)[:top_k] for response in hostile}
            if top_k > 3:
                after |= {(*clean[:i], *clean[i + 1 :]) for i in range(3)}
            for attacked in after:
                found, radius = observed(attacked)
                if radius >= 1:
                    held += 1
                    assert found == before, (shape.__name__, clean, attacked)
    assert held


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_observed_certificates_against_two_sources(seed):
    """Random attacked lists; the clean list is any that two hostile sources could have hidden."""
    draw = random.Random(seed)
    held = 0
    for _ in range(600):
        shape, salt, alpha, beta = settings(draw)
        size = draw.choice((4, 5, 6))
        clean = random_list(draw, size, WORDS, failures=False)
        before = final_answer(kept_keywords(clean, alpha, beta), shape, salt)
        for _ in range(10):
            after = list(clean)
            for i in range(2):
                response = draw.choice((*hostile_responses(WORDS), FAILS))
                if draw.random() < 0.5:
                    after[draw.randrange(len(after))] = (f"hostile {i}", response)
                else:
                    after = [(f"hostile {i}", response), *after][:size]
            robust = generator(shape, salt, alpha, beta, size)
            result = robust.run("q", as_passages(after))
            if result.certificate.radius >= 2:
                held += 1
                found = None if result.abstained else plain(result.answer)
                assert found == before, (clean, after, shape.__name__, salt, alpha, beta)
    assert held


# ------------------------------------------------------------------- what the claims leave out


def test_id_that_reads_like_the_name_of_an_unnamed_passage():
    clean = ["passage: keywords w", "passage: keywords w", "passage: keywords x"]
    after = [Passage("passage: keywords y", id="passage 2"), *clean]
    robust = generator(by_w, 0, "1", 2, 10)
    radius = robust.certify("q", clean, PassageInjection(1)).radius
    assert radius < 1 or robust.run("q", after).answer == robust.run("q", clean).answer


def test_injection_by_a_source_already_in_the_list():
    clean = [Passage("passage: keywords w", "s0"), Passage("passage: keywords w", "s1")]
    clean.append(Passage("passage: keywords y", "s2"))
    after = [Passage("passage: keywords x", "s0"), *clean]
    robust = generator(by_w, 0, "1", 2, 10)
    certificate = robust.certify("q", clean, PassageInjection(1))
    assert (
        certificate.radius < 1
        or robust.run("q", after).answer == robust.run("q", clean).answer
        or any("sources not in the clean list" in one for one in certificate.assumptions)
    )


def test_newcomer_from_a_listed_source_is_excluded_by_an_assumption():
    """``s0`` has a second clean passage, which the injection pushed out and which silences ``s0``.

    So the clean answer is another one although the certificate holds for one hostile source: the
    assumption that newcomers are new sources carries weight here, and has to be stated.
    """
    agree, other = frozenset("w"), frozenset("x")
    clean = (("s0", agree), ("s1", agree), ("s2", agree), ("s3", frozenset("y")), ("s0", other))
    after = (("hostile", agree), *clean[:4])
    robust = generator(by_w, 0, "1", 3, 5)
    found = robust.run("q", as_passages(after))
    assert (found.answer, found.certificate.radius) == ("yes", 1)
    assert robust.run("q", as_passages(clean)).abstained
    assert any("not otherwise in the list" in one for one in found.certificate.assumptions)


def test_a_newcomer_may_silence_a_listed_source_of_a_chunked_list():
    """The same where ``s1`` has two passages: then ``s0`` may have had more, too."""
    agree, other = frozenset("w"), frozenset("x")
    rest = (("s1", agree), ("s1", agree), ("s2", agree), ("s3", frozenset("y")))
    clean = (("s0", agree), *rest, ("s0", other))
    after = (("hostile", agree), ("s0", agree), *rest)
    robust = generator(by_w, 0, "1", 3, 6)
    found = robust.run("q", as_passages(after))
    assert (found.answer, found.certificate.radius) == ("yes", 0)
    assert robust.run("q", as_passages(clean)).abstained
    assert not any("not otherwise in the list" in one for one in found.certificate.assumptions)
    assert found.certificate.verify()


def test_hostile_source_that_left_a_list_nobody_said_is_full():
    """Two sources say x, two say y; the missing one said both, and its slot stays empty."""

    def not_both(kept, salt=0):
        return "no" if {"x", "y"} <= kept else "yes"

    after = [("s0", "wx"), ("s1", "wx"), ("s2", "wy"), ("s3", "wy")]
    after = [(source, frozenset(words)) for source, words in after]
    clean = [*after, ("s4", frozenset("wxy"))]
    found = generator(not_both, 0, "1", 3, None).run("q", as_passages(after))
    assert generator(not_both, 0, "1", 3, None).run("q", as_passages(clean)).answer == "no"
    assert (
        found.answer == "no"
        or found.certificate.radius < 1
        or any("cuts" in one or "full" in one for one in found.certificate.assumptions)
    )


def test_scenarios_cut_short_are_not_certified():
    """A list of three cut at 30,000; one source may place enough passages to push all out."""
    clean = [(f"s{i}", frozenset("w")) for i in range(3)]
    robust = generator(by_w, 0, "1", 2, 30_000)
    threat = PassageInjection(1, passages_per_source=30_000)
    flood = [Passage("passage: keywords evil", "hostile")] * 30_000
    assert robust.run("q", [*flood, *as_passages(clean)]).answer == "no"
    assert robust.certify("q", as_passages(clean), threat).radius == 0
