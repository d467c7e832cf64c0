"""Made-up two-hop questions of any number and length, for experiments with tiny models.

A document is one fact of four words, `Gelopu boss-of Dubufo .` (Gelopu is the boss of Dubufo) or `Soselo home-of Gelopu .`
(Soselo is the home of Gelopu), a question `home-of boss-of Dubufo`, its answer Soselo. Each question has a small world of
its own with a few people in many facts, so any context holds facts that are nearly the right one, and nothing can be
learnt by heart. Give more `facts` than the longest context holds: when they run out, a context is filled from the worlds of
other questions, which may contradict.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from ...common.errors import SolopoError
from .base import Source
from .questions import Document, Hop, Question


PERSON_RELATIONS = ("boss-of", "aunt-of", "heir-of", "guest-of", "rival-of", "friend-of")
CITY_RELATIONS = ("home-of", "grave-of")
EXAMPLE = '{"questions": 1000, "facts": 256, "seed": 1}'
FACTS_OF_A_PERSON = 4  # on average, of the eight that are possible


def _make_words(count: int) -> list[str]:
    """Different words of three syllables: none is part of another."""
    rng = random.Random("two-hop words")
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(rng.choices(syllables, k=3)).capitalize()] = None
    return list(words)


NUM_PEOPLE, NUM_CITIES = 400, 80
_WORDS = _make_words(NUM_PEOPLE + NUM_CITIES)
PEOPLE, CITIES = _WORDS[:NUM_PEOPLE], _WORDS[NUM_PEOPLE:]


class World:
    """Facts about a small cast; `asked` questions can be answered from them, each in two hops."""

    def __init__(self, rng: random.Random, num_facts: int, num_questions: int = 1) -> None:
        size = max(num_questions + 1, -(-num_facts // FACTS_OF_A_PERSON))
        cast = rng.sample(PEOPLE, min(size, NUM_PEOPLE))
        relations = PERSON_RELATIONS + CITY_RELATIONS
        self.facts: dict[tuple[str, str], str] = {}  # (relation, subject) -> object
        self.asked: list[tuple[str, str, str]] = []  # (second relation, first relation, subject)
        chain = rng.sample(cast, num_questions + 1)
        for subject, middle in zip(chain, chain[1:]):
            first, second = rng.choice(PERSON_RELATIONS), rng.choice(CITY_RELATIONS)
            self.facts[first, subject] = middle
            self.facts[second, middle] = rng.choice(CITIES)
            self.asked.append((second, first, subject))
        others = [
            (relation, person) for person in cast for relation in relations if (relation, person) not in self.facts
        ]
        for relation, subject in rng.sample(others, min(len(others), num_facts - len(self.facts))):
            self.facts[relation, subject] = rng.choice(
                [person for person in cast if person != subject] if relation in PERSON_RELATIONS else CITIES
            )

    def document(self, relation: str, subject: str) -> Document:
        """The fact as a document. The value stands first: tiny models do not learn to look it up otherwise."""
        return Document("", f"{self.facts[relation, subject]} {relation} {subject} .")


class TwoHopSource(Source):
    """Generates questions; the input is a JSON file with the number of `questions`, of `facts` to each, and a `seed`."""

    name = "two_hop"
    licence = "Apache-2.0"
    schema = "two-hop"

    def read(self, path: str) -> Iterator[Question]:
        """Yields the questions of a file such as `EXAMPLE`.

        Raises:
            SolopoError: for a file that cannot be read or lacks a key.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8-sig"))
            count, num_facts, seed = int(values["questions"]), int(values["facts"]), values["seed"]
            if num_facts < 2:
                raise ValueError("a question takes two")
        except (OSError, ValueError, KeyError, TypeError):
            raise SolopoError(f"input '{path}' is no two-hop file: write an object such as {EXAMPLE}.") from None
        for number in range(count):
            yield make_question(f"{seed}-{number}", num_facts)


def make_question(id: str, num_facts: int) -> Question:
    """The question of this id, always the same."""
    world = World(random.Random(f"two-hop|{id}"), num_facts)
    second, first, subject = world.asked[0]
    middle = world.facts[first, subject]
    city = world.facts[second, middle]
    evidence = (world.document(first, subject), world.document(second, middle))
    rest = [key for key in world.facts if key not in ((first, subject), (second, middle))]
    return Question(
        id=id,
        text=f"{second} {first} {subject}",
        answers=(city,),
        evidence=evidence,
        distractors=tuple(world.document(*key) for key in rest),
        num_hops=2,
        hops=(
            Hop(f"{first} {subject}", middle, evidence[0]),
            Hop(f"{second} {middle}", city, evidence[1]),
        ),
    )
