"""Prompts in tokens: a shared beginning, one passage as plain text, the question.

The parts are tokenised apart from each other, so that a passage changes nothing but its own tokens.
Passages and questions are plain text: whatever they contain, no special token comes out of it.
Examples and instructions are trusted, and so is a chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from robust_components.checks import positive_integer

CHARACTERS_PER_TOKEN = 100
"""A passage is cut at this many characters for each token it may have before it is tokenised."""

PASSAGE_MARK = "@@passage-goes-here@@"
QUERY_MARK = "@@question-goes-here@@"
ANSWER_MARK = "@@answer-goes-here@@"


class Vocabulary(Protocol):
    """A tokenizer.

    Attributes:
        leading: special tokens before a prompt that is not written by a chat template.
        trailing: special tokens after it (encoder-decoder models).
        control: tokens that plain text must not become, with their text.
    """

    leading: tuple[int, ...]
    trailing: tuple[int, ...]

    @property
    def control(self) -> Mapping[int, str]: ...

    def encode(self, text: str, *, markup: bool) -> list[int]:
        """Token ids, nothing added; special tokens written in ``text`` count if ``markup``."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str | None:
        """A conversation in the model's chat template, or ``None`` when it has none.

        After a user message the assistant's turn is opened.
        """
        ...


@dataclass(frozen=True)
class Example:
    """A worked example for the prompt."""

    passage: str
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """The words around a passage and a question, with a passage and without.

    Args:
        instructions: beginning of the prompt, the same for every passage and question.
        message: holds ``{passage}``, then ``{query}``, once each.
        instructions_without_passage: the same for the prompt that yields no-retrieval tokens.
        message_without_passage: holds ``{query}`` once.
        examples: worked examples; shown without their passages in the prompt without passage.
        abstention: the answer that says that the passage does not answer the question.

    Raises:
        ValueError: a message lacks a place or has one twice, or the abstention is empty.
    """

    instructions: str = (
        "Answer the question from the context alone, in as few words as possible. "
        'If the context does not answer it, say "I don\'t know".'
    )
    message: str = "Context: {passage}\nQuestion: {query}\nAnswer:"
    instructions_without_passage: str = (
        "Answer the question in as few words as possible. "
        'If you do not know the answer, say "I don\'t know".'
    )
    message_without_passage: str = "Question: {query}\nAnswer:"
    examples: tuple[Example, ...] = ()
    abstention: str = "I don't know"

    def __post_init__(self) -> None:
        for name, places in (
            ("message", ("{passage}", "{query}")),
            ("message_without_passage", ("{query}",)),
        ):
            text = getattr(self, name)
            at = [text.find(place) for place in places]
            if any(text.count(place) != 1 for place in places) or at != sorted(at):
                wanted = ", then ".join(places)
                raise ValueError(f"{name} must hold {wanted}, once each, got {text!r}; add it")
        if not self.abstention.strip():
            raise ValueError('abstention must not be empty; try "I don\'t know"')

    @classmethod
    def of(cls, template: PromptTemplate | Mapping[str, Any] | None) -> PromptTemplate:
        """A template from its fields, as a configuration file has them; the default for ``None``.

        Raises:
            ValueError, TypeError: see the class; or a field is unknown.
        """
        if isinstance(template, PromptTemplate):
            return template
        fields = dict(template or {})
        examples = [
            e if isinstance(e, Example) else Example(**e) for e in fields.pop("examples", ())
        ]
        return cls(examples=tuple(examples), **fields)

    def messages(self, *, with_passage: bool) -> list[dict[str, str]]:
        """The conversation up to the question, with marks for passage and question."""
        instructions = self.instructions if with_passage else self.instructions_without_passage
        message = self.message if with_passage else self.message_without_passage
        filled: list[dict[str, str]] = []
        asked = [(e.passage, e.question, e.answer) for e in self.examples]
        for passage, question, answer in [*asked, (PASSAGE_MARK, QUERY_MARK, "")]:
            before, _, rest = message.rpartition("{query}")
            content = before.replace("{passage}", passage) + question + rest
            if not filled and instructions:
                content = f"{instructions}\n\n{content}"
            filled.append({"role": "user", "content": content})
            filled.append({"role": "assistant", "content": answer})
        return filled[:-1]


@dataclass(frozen=True)
class QuestionPrompt:
    """One question's prompt around any passage.

    Attributes:
        prefix: tokens before the passage, the same for every question.
        suffix: tokens after it.
        abstention: the tokens of "I don't know" as an answer.
        room: tokens a passage may have.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    abstention: tuple[int, ...]
    room: int


@dataclass(frozen=True)
class _Layout:
    """The template in pieces; ``gap`` is white space that belongs to the piece after it."""

    head: str
    passage_gap: str
    between: str
    query_gap: str
    tail: str
    answer_gap: str
    from_chat: bool


class TokenPrompts:
    """Builds prompts for one tokenizer and template.

    Args:
        vocabulary: the tokenizer.
        template: the words of the prompt.
        max_passage_tokens: longer passages are cut and flagged.
        max_answer_tokens: room kept for an answer.
        context: tokens the model can read and write in all, or ``None`` for no limit.
        separate_answer: the answer is not a continuation of the prompt (encoder-decoder models).

    Attributes:
        abstention: the tokens of "I don't know" as an answer.

    Raises:
        ValueError, TypeError: a limit is below 1 or no integer, there is no room for an answer, the
            chat template drops or repeats the passage or the question, or the abstention has no
            tokens.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        template: PromptTemplate,
        *,
        max_passage_tokens: int,
        max_answer_tokens: int,
        context: int | None,
        separate_answer: bool = False,
    ) -> None:
        self.max_passage_tokens = positive_integer("max_passage_tokens", max_passage_tokens, 1)
        self.max_answer_tokens = positive_integer("max_answer_tokens", max_answer_tokens, 1)
        self._vocabulary = vocabulary
        self._template = template
        self._context = context
        self._separate = separate_answer
        self._layouts = {flag: self._layout(flag) for flag in (True, False)}
        self._prefixes = {flag: self._prefix(layout) for flag, layout in self._layouts.items()}
        self.abstention = self._abstention_tokens(self._layouts[True])
        if not self.abstention:
            raise ValueError(
                f"abstention must have tokens, got none for {template.abstention!r}; "
                "choose other words in the template"
            )
        if separate_answer and context is not None and self.max_answer_tokens >= context:
            raise ValueError(
                f"max_answer_tokens must be below the model's context of {context}, got "
                f"{max_answer_tokens}; lower it"
            )

    @property
    def longest(self) -> int | None:
        """Tokens a prompt may have so that an answer fits behind it; ``None`` for no limit."""
        if self._context is None or self._separate:
            return self._context
        return self._context - max(len(self.abstention), self.max_answer_tokens)

    @property
    def sample(self) -> tuple[int, ...]:
        """Some of the template's own tokens, at least one."""
        return (*self._prefixes[True], *self.abstention)

    def question(self, query: str, *, with_passage: bool = True) -> QuestionPrompt:
        """The prompt of ``query``.

        Raises:
            ValueError: the question leaves no room in the model's context.
        """
        layout = self._layouts[with_passage]
        vocabulary = self._vocabulary
        suffix = vocabulary.encode(layout.between, markup=True) if layout.between else []
        suffix += plain_tokens(vocabulary, layout.query_gap + query)
        suffix += vocabulary.encode(layout.tail, markup=True) if layout.tail else []
        if self._separate and not layout.from_chat:
            suffix += vocabulary.trailing
        prefix, room = self._prefixes[with_passage], self.max_passage_tokens
        if self.longest is not None:
            left = self.longest - len(prefix) - len(suffix)
            if left < 1:
                raise ValueError(
                    f"the prompt must leave room for a passage in {self.longest} tokens, which the "
                    f"model's context leaves before the answer, but has {len(prefix) + len(suffix)}"
                    " without it; shorten the question, the examples or max_answer_tokens"
                )
            room = min(room, left)
        return QuestionPrompt(prefix, tuple(suffix), self.abstention, room)

    def passage(self, text: str, room: int) -> tuple[tuple[int, ...], bool]:
        """Tokens of a passage, at most ``room``, and whether it was cut."""
        cut = text[: room * CHARACTERS_PER_TOKEN]
        tokens = plain_tokens(self._vocabulary, self._layouts[True].passage_gap + cut)
        return tuple(tokens[:room]), len(tokens) > room or len(cut) < len(text)

    def _layout(self, with_passage: bool) -> _Layout:
        messages = self._template.messages(with_passage=with_passage)
        text = self._vocabulary.chat(messages)
        gap = "" if self._separate else " "
        from_chat = text is not None
        if text is None:
            parts = [m["content"] + (" ", "\n\n")[i % 2] for i, m in enumerate(messages)]
            text = "".join(parts)[:-1]
        else:
            done = [*messages, {"role": "assistant", "content": ANSWER_MARK}]
            answered = self._vocabulary.chat(done) or ""
            gap = ""
            if answered.startswith(text) and ANSWER_MARK in answered:
                gap = answered[len(text) : answered.index(ANSWER_MARK)]
        marks = [PASSAGE_MARK, QUERY_MARK] if with_passage else [QUERY_MARK]
        if any(text.count(mark) != 1 for mark in marks):
            raise ValueError(
                "the chat template must show a user message once and unchanged; "
                f"it made {text!r}; pass a template of your own"
            )
        head, passage_gap, rest = "", "", text
        if with_passage:
            head, passage_gap, rest = _split(text, PASSAGE_MARK)
        between, query_gap, tail = _split(rest, QUERY_MARK)
        if not with_passage:
            head, between = between, ""
        return _Layout(head, passage_gap, between, query_gap, tail, gap, from_chat)

    def _prefix(self, layout: _Layout) -> tuple[int, ...]:
        leading = () if layout.from_chat else self._vocabulary.leading
        return (*leading, *self._vocabulary.encode(layout.head, markup=True))

    def _abstention_tokens(self, layout: _Layout) -> tuple[int, ...]:
        """As the model would write them after the prompt, where the two can be told apart."""
        encode, answer = self._vocabulary.encode, layout.answer_gap + self._template.abstention
        if self._separate:
            return (*self._vocabulary.leading, *encode(answer, markup=False))
        before = encode(layout.tail, markup=True) if layout.tail else []
        joined = encode(layout.tail + answer, markup=True)
        if joined[: len(before)] == before and len(joined) > len(before):
            return tuple(joined[len(before) :])
        return tuple(encode(answer, markup=False))


def plain_tokens(vocabulary: Vocabulary, text: str) -> list[int]:
    """Tokens of ``text`` without any control token.

    Where the tokenizer would read one, its text is cut after the first character and the parts are
    tokenised apart. Characters that cannot be written in UTF-8 become question marks.

    Raises:
        ValueError: a control token cannot be avoided.
    """
    pieces = [text.encode("utf-8", "replace").decode("utf-8")]
    while True:
        tokens = [t for piece in pieces for t in vocabulary.encode(piece, markup=False)]
        found = {vocabulary.control[token] for token in tokens if token in vocabulary.control}
        if not found:
            return tokens
        uncut = len(pieces)
        for name in sorted(found):
            pieces = [part for piece in pieces for part in _cut_inside(piece, name)]
        if len(pieces) == uncut:
            raise ValueError(
                f"the tokenizer reads {sorted(found)} into plain text; use another tokenizer"
            )


def _cut_inside(text: str, name: str) -> list[str]:
    """``text`` cut after the first character of every ``name``."""
    if len(name) < 2:
        return [text]
    parts = text.split(name)
    starts = [part + name[:1] for part in parts[:-1]] + [parts[-1]]
    return [starts[0], *(name[1:] + part for part in starts[1:])]


def _split(text: str, mark: str) -> tuple[str, str, str]:
    """What stands before ``mark`` without its last spaces, those spaces, and what follows."""
    before, _, after = text.partition(mark)
    kept = before.rstrip(" ")
    return kept, before[len(kept) :], after
