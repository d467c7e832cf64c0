"""Contexts: the gold paragraphs of a question among as many distractors as fill a token budget."""

import random
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ..common.errors import Skip
from .rendering import Renderer
from .sources import Document, Question
from .text import answer_words, has_answer, normalize
from .wording import WORDINGS, Wording


TOLERANCE = 0.02  # of a budget

# (rng, total, count) -> places from 0 of `count` pieces of evidence, in hop order, among `total` documents.
Placement = Callable[[random.Random, int, int], Sequence[int]]


@dataclass(frozen=True)
class Context:
    """A finished prompt; `positions` are the document numbers of the evidence, in hop order."""

    prompt: str
    tokens: int
    documents: int
    positions: tuple[int, ...]
    shortfall: bool  # room for a document like the others is left, and none fits

    @property
    def depths(self) -> list[float]:
        """Where the evidence stands: 0 is the first document, 1 the last."""
        return [(position - 1) / max(1, self.documents - 1) for position in self.positions]


class Pool:
    """All different documents of a run, each tokenised once."""

    def __init__(
        self, questions: Sequence[Question], corpus: Sequence[Document], renderer: Renderer, wording: Wording
    ) -> None:
        self.documents: list[Document] = []
        self.words: list[str] = []  # normalised titles and texts with a space on both sides, for whole-word search
        self.keys: list[str] = []  # normalised texts
        self._index: dict[str, int] = {}
        self._renderer = renderer
        self._wording = wording
        self._headings: list[int] = []
        listed = (document for question in questions for document in (*question.evidence, *question.distractors))
        for document in chain(listed, corpus):
            key = normalize(document.text)
            if key and key not in self._index:
                self._index[key] = len(self.documents)
                self.documents.append(document)
                self.words.append(f" {normalize(document.title)} {key} ")
                self.keys.append(key)
        self.costs = renderer.piece_lengths([wording.body(document) for document in self.documents])
        self.by_cost = sorted(range(len(self.costs)), key=lambda i: (self.costs[i], i))
        self._sorted_costs = [self.costs[i] for i in self.by_cost]
        self.median_cost = self._sorted_costs[len(self._sorted_costs) // 2] if self._sorted_costs else 0

    def indices(self, documents: Sequence[Document]) -> list[int]:
        """Pool indices of documents, each once (texts that differ in case or punctuation alone are the same)."""
        keys = [normalize(document.text) for document in documents]
        return list(dict.fromkeys(self._index[key] for key in keys if key))

    def heading_cost(self, number: int) -> int:
        """Tokens of what stands above document `number`."""
        if number >= len(self._headings):
            numbers = range(len(self._headings), 2 * number + 64)
            self._headings += self._renderer.piece_lengths([self._wording.heading(i) for i in numbers])
        return self._headings[number]

    def up_to(self, room: int) -> Iterator[int]:
        """Indices of the documents whose body fits in `room` tokens, the longest first."""
        for place in range(bisect_right(self._sorted_costs, room) - 1, -1, -1):
            yield self.by_cost[place]


class Synthesizer:
    """Makes the contexts of one question after another from a shared pool.

    Args:
        questions: all of the run, for their documents.
        corpus: further documents to draw from.
        verify: count the tokens of each finished prompt; else its parts' sum, an upper bound, must do.
        allow_answer: keep distractors with an answer in them.
        wording: of the prompts.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        renderer: Renderer,
        seed: int,
        corpus: Sequence[Document] = (),
        verify: bool = True,
        allow_answer: bool = False,
        wording: Wording = WORDINGS["cot"],
    ) -> None:
        self.renderer = renderer
        self.seed = seed
        self.pool = Pool(questions, corpus, renderer, wording)
        self.verify = verify
        self.allow_answer = allow_answer
        self.wording = wording

    def contexts(self, question: Question, short_tokens: int, long_tokens: int) -> tuple[Context, Context]:
        """Returns the short and the long context, or raises `Skip`."""
        candidates = self.candidates(question)
        gold_tokens = self.gold_tokens(question)
        budgets = {"short": short_tokens, "long": long_tokens}
        for view, budget in budgets.items():
            if budget and gold_tokens > budget:
                raise Skip(f"evidence alone over {view}_tokens")
        (short,), (long,) = (
            self.fit(question, candidates, gold_tokens, budget, f"{view} positions", [scattered])[0]
            for view, budget in budgets.items()
        )
        if long.documents <= short.documents:
            raise Skip("too few distractors")
        return short, long

    def candidates(self, question: Question) -> "Candidates":
        """What may stand beside a question's evidence."""
        answers = [] if self.allow_answer else answer_words(question.answers)
        return Candidates(self.pool, question, answers, random.Random(f"{self.seed}|{question.id}|distractors"))

    def gold_tokens(self, question: Question) -> int:
        """Tokens of the prompt with the evidence alone."""
        return self.renderer.count(self.wording.prompt(question.evidence, question.text))

    def fit(
        self,
        question: Question,
        candidates: "Candidates",
        gold_tokens: int,
        budget: int,
        key: str,
        placements: Sequence[Placement],
        chosen: Sequence[int] = (),
    ) -> tuple[list[Context], list[int]]:
        """One context for each placement, of the same documents within the budget.

        Args:
            key: names the random order of the distractors among this question's contexts.
            chosen: pool indices of distractors to begin with, those of a smaller context.

        Returns:
            The contexts, and the pool indices of their distractors.

        Raises:
            Skip: when the evidence takes more than the budget.
        """
        num_gold = len(question.evidence)
        chosen = self._fill(candidates, gold_tokens, num_gold, budget, chosen) if budget else []

        # The sum of the pieces is an estimate (an upper bound for common tokenizers): the rendered prompt decides.
        shrinking = False
        while True:
            laid_out = [self.lay_out(question, chosen, key, placement) for placement in placements]
            prompts = [self.wording.prompt(documents, question.text) for documents, _ in laid_out]
            tokens = gold_tokens + self._cost(chosen, num_gold)
            counts = [tokens] * len(prompts)
            total = num_gold + len(chosen)
            if budget == 0 or not self.verify:
                break
            # Parts that add up to the token in one order do so in the others.
            if (first := self.renderer.count(prompts[0])) != tokens:
                counts = [first, *(self.renderer.count(prompt) for prompt in prompts[1:])]
            tokens = max(counts)
            if tokens > budget:
                if not chosen:
                    raise Skip(f"evidence alone over {budget} tokens")
                chosen.pop()
                shrinking = True
            elif shrinking or (extra := candidates.best_fit(budget - tokens, total, chosen)) is None:
                break
            else:
                chosen.append(extra)
        costs = [self.pool.costs[index] for index in chosen] or [self.pool.median_cost]
        shortfall = not shrinking and budget - tokens > max(TOLERANCE * budget, sum(costs) / len(costs))
        contexts = [
            Context(prompt, count, total, positions, shortfall)
            for prompt, count, (_, positions) in zip(prompts, counts, laid_out)
        ]
        return contexts, chosen

    def _cost(self, chosen: Sequence[int], num_gold: int) -> int:
        """Tokens of distractors beside `num_gold` pieces of evidence, each counted by itself."""
        pool = self.pool
        return sum(pool.costs[index] + pool.heading_cost(num_gold + i) for i, index in enumerate(chosen, start=1))

    def _fill(
        self, candidates: "Candidates", gold_tokens: int, num_gold: int, budget: int, chosen: Sequence[int]
    ) -> list[int]:
        """Picks distractors beside those chosen: the question's own, then the pool at random, the last by best fit."""
        pool = self.pool
        chosen, taken = list(chosen), set(chosen)
        room = budget - gold_tokens - self._cost(chosen, num_gold)
        for index, is_own in candidates.in_order():
            if index in taken:
                continue
            cost = pool.costs[index] + pool.heading_cost(num_gold + len(chosen) + 1)
            if cost <= room:
                chosen.append(index)
                room -= cost
                continue
            if not is_own:
                break
        while (index := candidates.best_fit(room, num_gold + len(chosen), chosen)) is not None:
            chosen.append(index)
            room -= pool.costs[index] + pool.heading_cost(num_gold + len(chosen))
        return chosen

    def lay_out(
        self, question: Question, chosen: Sequence[int], key: str, placement: Placement
    ) -> tuple[list[Document], tuple[int, ...]]:
        """Puts the evidence at its places among distractors in a random order, the same for the same key."""
        rng = random.Random(f"{self.seed}|{question.id}|{key}")
        others = [self.pool.documents[index] for index in chosen]
        rng.shuffle(others)
        total = len(others) + len(question.evidence)
        places = placement(rng, total, len(question.evidence))
        by_place = dict(zip(places, question.evidence))
        rest = iter(others)
        documents = [by_place[place] if place in by_place else next(rest) for place in range(total)]
        return documents, tuple(place + 1 for place in places)


def scattered(rng: random.Random, total: int, count: int) -> list[int]:
    """Evidence anywhere, in any order."""
    return rng.sample(range(total), count)


class Candidates:
    """The documents that may stand beside one question's evidence, in an order drawn once for all its contexts."""

    def __init__(self, pool: Pool, question: Question, answers: list[str], rng: random.Random) -> None:
        self.pool = pool
        self._answers = answers
        self._evidence = [normalize(document.text) for document in question.evidence]
        self._allowed: dict[int, bool] = {}
        self._own = pool.indices(question.distractors)
        rng.shuffle(self._own)
        self._drawn: list[int] = []
        self._draw = _draw(len(pool.documents), rng)

    def allowed(self, index: int) -> bool:
        """False for a document that repeats evidence, in whole or in part, or has the answer in it."""
        if index not in self._allowed:
            key = self.pool.keys[index]
            repeats = any(evidence in key or key in evidence for evidence in self._evidence)
            self._allowed[index] = not repeats and not has_answer(self.pool.words[index], self._answers)
        return self._allowed[index]

    def in_order(self) -> Iterator[tuple[int, bool]]:
        """Yields (index, whether it is the question's own): first its own documents, then the pool."""
        own = set(self._own)
        for index in self._own:
            if self.allowed(index):
                yield index, True
        place = 0
        while True:
            if place == len(self._drawn):
                index = next(self._draw, None)
                if index is None:
                    return
                self._drawn.append(index)
            index = self._drawn[place]
            place += 1
            if index not in own and self.allowed(index):
                yield index, False

    def best_fit(self, room: int, num_documents: int, chosen: Sequence[int]) -> int | None:
        """The longest unused document that fits beside `num_documents` others."""
        taken = set(chosen)
        for index in self.pool.up_to(room - self.pool.heading_cost(num_documents + 1)):
            if index not in taken and self.allowed(index):
                return index
        return None


def _draw(count: int, rng: random.Random) -> Iterator[int]:
    """A random permutation of range(count), drawn as far as it is read (a sparse Fisher-Yates shuffle)."""
    moved: dict[int, int] = {}
    for i in range(count):
        j = rng.randrange(i, count)
        yield moved.get(j, j)
        moved[j] = moved.get(i, i)
