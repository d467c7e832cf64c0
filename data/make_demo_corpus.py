#!/usr/bin/env python3
"""Writes the demo corpus: two- and three-hop questions about a fictional world, in MuSiQue's JSONL schema.

    python data/make_demo_corpus.py [OUTPUT]      (default: demo_corpus.jsonl beside this file)

The world is drawn first (who wrote what, which river runs where), one fact per relation, so a question has one answer.
Then every entity gets one short encyclopaedia paragraph, and questions are walks through the facts. Names are put
together from made-up syllables. Standard library only; the same seed gives the same bytes.
"""

import json
import random
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path


SEED = 20250516
NUM_TWO_HOP = 120
NUM_THREE_HOP = 80
NUM_PARAGRAPHS = 6  # a question's own list: its gold paragraphs and hard distractors of the same kinds
TARGET_WORDS = (40, 56)

# ---------------------------------------------------------------------------------------------------------------------
# Names: one first syllable, and an ending that belongs to the kind
# ---------------------------------------------------------------------------------------------------------------------

FIRST = (
    "Arv Bresk Cald Corv Darn Delv Drum Eld Esk Fael Fend Garv Gleb Grint Halv Hest Ild Irv Jarn Jost Kald Kern Korv "
    "Lask Lind Lorv Marn Mesk Morv Nald Nesk Orm Ost Pelv Pras Quent Rask Rend Rov Sarn Selv Skal Strev Tarn Thal "
    "Tolv Ulm Varn Vesk Wend Yarl Zel"
).split()
ENDINGS = {
    "region": ("ania", "mark", "esia", "onia"),
    "lake": ("il",),
    "river": ("a", "enne", "ule", "ira"),
    "town": ("holt", "mere", "wick", "ford", "stead", "haven", "moor", "gate"),
    "person": ("ell", "ow", "ine", "aro", "isk", "ander", "ley", "uth", "eau"),
    "academy": ("or", "und"),
    "publisher": ("eth", "unt"),
    "museum": ("am", "ent"),
    "bridge": ("ock", "un"),
    "instrument": ("ophon", "achord", "alyra", "idulce"),
}
FORMS = {
    "lake": "Lake {}",
    "academy": "{} Academy",
    "publisher": "{} Press",
    "museum": "{} Museum",
    "bridge": "{} Bridge",
}
WOMEN = (
    "Ansa Brielle Corvina Dagne Edlyn Fenja Ilvara Jessa Lioba Mirelle Petra Sunniva Tamsel Ursa Wilma Yrsa".split()
)
MEN = "Aldo Bastian Davor Emeric Falk Goran Hollis Ivo Joren Kasper Lucan Matti Orrin Piet Rurik Tobin".split()
NOVEL_FIRST = "Copper Paper Hollow Borrowed Silent Crooked Winter Velvet Drowned Patient Amber Seventh".split()
NOVEL_LAST = (
    "Orchard Ledger Lantern Harbour Almanac Staircase Beekeeper Glacier Weaver Compass Cathedral Ferryman Furnace "
    "Locksmith Meridian Nightingale Observatory Parcel Quarry Reservoir Saddle Tinderbox Umbrella Vineyard Windmill "
    "Apothecary Barometer Carousel Drawbridge Envelope Foghorn Granary Hourglass Inkwell"
).split()
FILM_FIRST = "Letters|Four Days|A Summer|Nobody Home|The Last Tram|Strangers|Waltz|One Evening|Smoke".split("|")
FILM_LAST = "Before the Thaw|in Plain Sight|Without a Map|Under Glass|After the Fair".split("|")
PAINTING_FIRST = "Still Life|Woman|Two Brothers|Procession|Harvest|Self-Portrait|Interior|Card Players".split("|")
PAINTING_LAST = "with Pears|at the Ferry|in Ochre|by a Blue Door|with Sleeping Dog".split("|")

COUNTS = {
    **{"region": 8, "lake": 7, "river": 18, "town": 44, "patron": 14, "writer": 22, "director": 14, "composer": 10},
    **{"inventor": 14, "painter": 12, "architect": 12, "academy": 10, "publisher": 10, "museum": 9, "novel": 34},
    **{"film": 28, "instrument": 16, "bridge": 16, "painting": 20},
}
OCCUPATIONS = ("patron", "writer", "director", "composer", "inventor", "painter", "architect")


# ---------------------------------------------------------------------------------------------------------------------
# The world
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Entity:
    """One thing of the world; `facts` maps a relation to another entity or, for a year, to its digits."""

    kind: str
    name: str
    aliases: list[str] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    woman: bool = False
    text: str = ""


def draw_names(kind: str, count: int, rng: random.Random) -> list[str]:
    """Returns `count` different names of a kind (surnames for people)."""
    if kind == "novel":
        return [f"The {rng.choice(NOVEL_FIRST)} {noun}" for noun in rng.sample(NOVEL_LAST, count)]
    if kind == "film":
        return rng.sample([f"{first} {last}" for first in FILM_FIRST for last in FILM_LAST], count)
    if kind == "painting":
        return rng.sample([f"{first} {last}" for first in PAINTING_FIRST for last in PAINTING_LAST], count)
    stems = [first + ending for first in FIRST for ending in ENDINGS[kind]]
    return [FORMS.get(kind, "{}").format(stem) for stem in rng.sample(stems, count)]


def draw_world(rng: random.Random) -> dict[str, list[Entity]]:
    """Draws all entities, their facts and their paragraphs."""
    world: dict[str, list[Entity]] = {}
    surnames = draw_names("person", sum(COUNTS[kind] for kind in OCCUPATIONS), rng)
    for kind, count in COUNTS.items():
        world[kind] = []
        if kind in OCCUPATIONS:
            for _ in range(count):
                surname, woman = surnames.pop(), rng.random() < 0.5
                given = rng.choice(WOMEN if woman else MEN)
                world[kind].append(Entity(kind, f"{given} {surname}", [surname], woman=woman))
        else:
            for name in draw_names(kind, count, rng):
                aliases = [name.removeprefix("Lake ")] if kind == "lake" else []
                world[kind].append(Entity(kind, name, aliases))

    link(world, rng)
    for kind, entities in world.items():
        for entity in entities:
            if kind != "lake":  # lakes are named in the rivers' paragraphs and have none of their own
                entity.text = write_paragraph(entity, rng)
    return world


def link(world: dict[str, list[Entity]], rng: random.Random) -> None:
    """Fills the facts of all entities, with dates that agree with each other."""

    def pick(kind: str) -> Entity:
        return rng.choice(world[kind])

    def year_in_life(person: Entity) -> str:
        return str(int(person.facts["born"]) + rng.randint(26, 60))

    for river in world["river"]:
        river.facts = {"lake": pick("lake")}
    for town in world["town"]:
        town.facts = {"region": pick("region"), "river": pick("river")}
    for region in world["region"]:
        inside = [town for town in world["town"] if town.facts["region"] is region]
        region.facts = {"capital": rng.choice(inside), "since": str(rng.randint(1640, 1760))}

    for kind in OCCUPATIONS:
        years = range(1745, 1836) if kind == "patron" else range(1830, 1923)
        for person, born in zip(world[kind], sorted(rng.sample(years, len(world[kind])))):
            person.facts = {"born": str(born), "birthplace": pick("town")}
    for house in world["academy"] + world["publisher"]:
        founder = pick("patron")
        house.facts = {"seat": pick("town"), "founder": founder, "founded": year_in_life(founder)}
    for kind in OCCUPATIONS:
        for person in world[kind]:
            born = int(person.facts["born"])
            schools = [school for school in world["academy"] if int(school.facts["founded"]) <= born + 14]
            elders = [other for other in world[kind] if 18 <= born - int(other.facts["born"]) <= 50]
            if schools:
                person.facts["school"] = rng.choice(schools)
            if elders and kind != "patron":
                person.facts["teacher"] = rng.choice(elders)
            person.facts["home"] = rng.choice([x for x in world["town"] if x is not person.facts["birthplace"]])

    for museum in world["museum"]:
        architect = pick("architect")
        museum.facts = {"seat": pick("town"), "architect": architect, "opened": year_in_life(architect)}
    for novel in world["novel"]:
        author, publisher = pick("writer"), pick("publisher")
        year = str(max(int(year_in_life(author)), int(publisher.facts["founded"]) + 1))
        novel.facts = {"author": author, "publisher": publisher, "published": year}
    for film in world["film"]:
        director = pick("director")
        read = [x for x in world["novel"] if int(x.facts["published"]) <= int(director.facts["born"]) + 45]
        film.facts = {"director": director, "novel": rng.choice(read), "composer": pick("composer")}
    for instrument in world["instrument"]:
        inventor = pick("inventor")
        instrument.facts = {"inventor": inventor, "invented": year_in_life(inventor)}
    for bridge in world["bridge"]:
        architect = pick("architect")
        bridge.facts = {"architect": architect, "river": pick("river"), "built": year_in_life(architect)}
    for painting in world["painting"]:
        painting.facts = {"painter": pick("painter"), "museum": pick("museum")}


# ---------------------------------------------------------------------------------------------------------------------
# Paragraphs: each inner tuple holds ways to say one thing; the first is said first, fillers come as words are needed
# ---------------------------------------------------------------------------------------------------------------------

TRADE = {
    "patron": "merchant and benefactor",
    "writer": "novelist",
    "director": "film director",
    "composer": "composer",
    "inventor": "instrument maker",
    "painter": "painter",
    "architect": "architect",
}

PERSON_LEADS = (
    "{name} was {trade} who was born in {birthplace} in {born}.",
    "Born in {birthplace} in {born}, {name} was {trade} of some renown.",
    "{name} (born {born}), a native of {birthplace}, is remembered as {trade}.",
    "{name}, {trade}, came into the world in {birthplace} in the spring of {born}.",
)
PERSON_SCHOOL = (
    "{He} was educated at {school}, where {he} stayed for {small} years.",
    "After a quiet childhood {he} studied at {school}.",
    "{short} attended {school} and left it without taking the final examination.",
    "{His} schooling at {school} was paid for by an uncle.",
)
PERSON_TEACHER = (
    "{short} learned the craft from {teacher}, with whom {he} later quarrelled.",
    "{teacher} was {his} teacher and first critic.",
    "As a young {man}, {short} was taught by {teacher}.",
    "{He} spent {small} years as a pupil of {teacher}.",
)
PERSON_FILLERS = (
    "From {his} fortieth year {he} lived in {home}, in a narrow house with a walled garden.",
    "{short} married late and had {few} children.",
    "{His} letters, about {large} of them, were printed long after {his} death.",
    "A street in {home} carries {his} name.",
    "Friends described {him} as patient, frugal and fond of long walks.",
    "Contemporaries disagreed about {his} talent, though nobody doubted {his} diligence.",
    "{He} kept a diary for {small} years and burned most of it.",
    "An illness of the eyes forced {him} to give up work for {few} winters.",
    "{short} refused every public honour except a small pension.",
    "{He} died in {home} and was buried there without a sermon.",
    "A portrait shows {him} with a terrier and a closed umbrella.",
    "{short} spoke {few} languages and was said to be silent in all of them.",
    "In old age {he} moved to {home} and grew roses.",
    "{He} lost {his} savings in the failure of a bank and began anew.",
    "{His} papers fill {large} boxes in a private archive.",
    "{short} travelled little, disliked trains and never saw the sea.",
)
OCCUPATION_FILLERS = {
    "patron": (
        "The family fortune came from salt, rope and a fleet of {small} barges.",
        "{He} gave away half of what {he} earned and kept no accounts of it.",
        "{short} never learned to read music but paid for {small} concert seasons.",
    ),
    "writer": (
        "{He} wrote {small} novels, most of them at a standing desk.",
        "{short} earned {his} living as a clerk and wrote at night.",
        "{His} early poems appeared under another name.",
    ),
    "director": (
        "{He} made {small} films and never used the same cameraman twice.",
        "{short} began as a stage carpenter.",
        "{His} sets were built at half size to save money.",
    ),
    "composer": (
        "{His} catalogue lists {large} works, among them {small} string quartets.",
        "{short} played the organ every Sunday for {small} years.",
        "{He} wrote quickly and revised for decades.",
    ),
    "inventor": (
        "{His} workshop employed {small} craftsmen and supplied several orchestras.",
        "{short} held {few} patents and sold them all.",
        "{He} tuned by ear and distrusted every measuring device.",
    ),
    "painter": (
        "{He} sold only {small} canvases in {his} lifetime.",
        "{short} mixed {his} colours from local earth.",
        "{He} painted standing, always by daylight.",
    ),
    "architect": (
        "{He} left {large} drawings, of which few were ever built.",
        "{short} preferred brick to stone and said so in {small} pamphlets.",
        "{His} office never had more than {few} assistants.",
    ),
}

FACT_SENTENCES = {
    "region": (
        (
            "{name} is a region of rolling farmland whose capital is {capital}.",
            "The capital of {name}, a thinly settled upland region, is {capital}.",
            "{name} is governed from {capital}, its capital and largest market.",
        ),
        ("Its present borders go back to a treaty of {since}.", "It has had an assembly of its own since {since}."),
    ),
    "river": (
        (
            "The {name} is a river {large} kilometres long that empties into {lake}.",
            "Rising among peat bogs, the river {name} flows into {lake}.",
            "The {name} is a slow river that reaches {lake} after {large} kilometres.",
        ),
    ),
    "town": (
        (
            "{name} is a market town in {region}, on the banks of the {river}.",
            "The town of {name} lies in {region}, where the {river} makes a wide bend.",
            "{name} is a town of the region of {region}; the {river} flows through its centre.",
        ),
    ),
    "academy": (
        (
            "{name} is a school of arts and sciences in {seat}.",
            "{name}, in {seat}, is among the older private schools of the country.",
            "{name} is a boarding school that has always been in {seat}.",
        ),
        (
            "It was founded in {founded} by {founder}.",
            "{founder} founded it in {founded} with {small} pupils.",
            "Its founder, {founder}, opened the doors in {founded}.",
        ),
    ),
    "publisher": (
        (
            "{name} is a publishing house based in {seat}.",
            "{name} is a publisher of fiction and travel books whose offices are in {seat}.",
            "{name}, a publishing house, has its seat in {seat}.",
        ),
        (
            "The firm was founded by {founder} in {founded}.",
            "{founder} founded the house in {founded} with a single hand press.",
            "It goes back to {founded}, when {founder} founded it.",
        ),
    ),
    "museum": (
        (
            "{name} is an art museum in {seat}.",
            "{name} stands in {seat} and shows paintings of the last two centuries.",
            "{name}, in {seat}, grew out of a private collection.",
        ),
        (
            "The building, opened in {opened}, was designed by {architect}.",
            "{architect} designed its building, which opened in {opened}.",
            "It opened in {opened} in a building by the architect {architect}.",
        ),
    ),
    "novel": (
        (
            "{name} is a novel by {author}.",
            "{name} is a novel that {author} wrote in the course of one winter.",
            "The novel {name} was written by {author}.",
        ),
        (
            "It was published by {publisher} in {published}.",
            "{publisher} published the book in {published}, in an edition of {large} copies.",
            "The first edition came out in {published} with {publisher}.",
        ),
    ),
    "film": (
        (
            "{name} is a drama film directed by {director}.",
            "{name} is a black-and-white film by the director {director}.",
            "Directed by {director}, {name} is a film in {small} long scenes.",
        ),
        (
            "It is based on the novel {novel}.",
            "The screenplay adapts the novel {novel}.",
            "Its story was taken from the novel {novel}, with a new ending.",
        ),
        (
            "The music was composed by {composer}.",
            "{composer} composed the score.",
            "The score, for a small band, is the work of {composer}.",
        ),
    ),
    "instrument": (
        (
            "The {name} is a musical instrument invented by {inventor} in {invented}.",
            "The {name} is a keyboard instrument that {inventor} invented in {invented}.",
            "Invented by {inventor} in {invented}, the {name} is an instrument with {small} strings.",
        ),
    ),
    "bridge": (
        (
            "{name} is a stone bridge over the {river}.",
            "{name} crosses the {river} on {small} arches.",
            "{name} carries a road and a tramway across the {river}.",
        ),
        (
            "It was designed by {architect} and finished in {built}.",
            "{architect} designed it; work ended in {built}.",
            "Its design is by {architect}, and it has been open since {built}.",
        ),
    ),
    "painting": (
        (
            "{name} is an oil painting by {painter}.",
            "{name} is a large canvas that {painter} painted in middle age.",
            "The painting {name} is by {painter}.",
        ),
        (
            "It hangs in {museum}.",
            "Since the last owner's death it has been in {museum}.",
            "{museum} has owned it for {small} decades.",
        ),
    ),
}

FILLERS = {
    "region": (
        "Most of its people live by growing barley, flax and pears.",
        "The upland pastures are covered with snow for {small} weeks a year.",
        "It is known for a hard yellow cheese and for its wandering fiddlers.",
        "About {large} villages are counted within it, many of them empty in winter.",
        "A narrow-gauge railway links the western valleys.",
        "Its flag shows a heron on a green field.",
        "The dialect has {few} words for fog.",
        "Chalk cliffs close it off to the south.",
        "Emigration halved the population within {few} generations.",
        "Beech forest covers a third of the land.",
        "Silver was mined there until the shafts flooded.",
    ),
    "river": (
        "Barges carried timber and slate on it until the railway came.",
        "The water is brown with peat and freezes in hard winters.",
        "Trout and pike are caught along its middle course.",
        "A flood destroyed {small} mills on its banks in a single night.",
        "There are {small} locks, the oldest of them cut from oak.",
        "Otters have returned to the upper valley.",
        "Its name is thought to mean grey water in an old tongue.",
        "Below the rapids it splits into {few} arms and joins again.",
        "Gold was panned in its gravel by travelling families.",
        "A towpath, now used by walkers, follows it for half its length.",
        "Dye works coloured it red, blue and yellow within living memory.",
        "The spring floods are announced by church bells.",
    ),
    "town": (
        "It has about {large}00 inhabitants.",
        "A horse fair is held there every autumn.",
        "The old town wall has {small} towers, {few} of them open to visitors.",
        "Its weavers were once known for a coarse blue cloth.",
        "A fire destroyed the wooden quarter, which was rebuilt in brick.",
        "The town hall clock has run {small} minutes late for as long as anyone remembers.",
        "Brewing, tanning and clockmaking were its chief trades.",
        "The parish church keeps a bell that was paid for with eggs.",
        "A tramline of {few} stops leads to the railway station.",
        "Its arms show a ladder and {few} stars.",
        "Local cooks are proud of a soup made with plums.",
        "Most of the streets are named after trees that no longer stand.",
        "A weekly paper with {large} subscribers is still printed there.",
    ),
    "academy": (
        "About {large} pupils are enrolled.",
        "The library holds a collection of star charts and pressed flowers.",
        "Lessons once began before sunrise, a custom that was dropped after a petition.",
        "Its rowing club has won the regional cup {small} times.",
        "Girls were admitted from the very beginning, which was unusual then.",
        "The uniform is a grey coat with {small} horn buttons.",
        "Latin was taught until the last master who knew it retired.",
        "The main hall is heated by {few} tiled stoves.",
        "An orchard behind the gymnasium feeds the kitchen.",
        "Its motto asks pupils to look twice.",
        "The boathouse burned down {few} times.",
    ),
    "publisher": (
        "Its catalogue holds about {large} titles.",
        "The house mark is a small hedgehog.",
        "It nearly failed when a warehouse burned down with {small} tons of paper.",
        "Cheap editions in grey covers made it widely known.",
        "For a time it also printed timetables and seed catalogues.",
        "Authors were paid in {few} instalments and a basket of wine.",
        "The typefaces were cut in its own foundry.",
        "It turned down several books that later sold well elsewhere.",
        "Its proofreaders worked in pairs, one reading aloud to the other.",
        "A prize for first books, worth {large} crowns, bears its name.",
    ),
    "museum": (
        "It owns about {large} works, a third of which are on show.",
        "A glass roof lights the {small} upper rooms.",
        "Admission is free on the first Sunday of the month.",
        "A basement room is set aside for drawings and prints.",
        "Thieves once took {small} frames and left the canvases behind.",
        "The staircase is of green marble and faintly sloping.",
        "Its guards are allowed to sit down, which visitors often remark upon.",
        "The garden holds {few} bronze horses.",
        "A leaking gutter has kept one room closed for years.",
        "Its first keeper catalogued everything in verse.",
    ),
    "novel": (
        "It follows {small} people who share a house for one season.",
        "Critics praised its dialogue and disliked its length.",
        "The narrator's name is never given.",
        "The manuscript, on {large} loose sheets, is lost.",
        "It has been translated into {small} languages.",
        "Schools of the time kept it off their shelves.",
        "The plot turns on a letter that arrives too late.",
        "A sequel was announced and never written.",
        "Its {large} pages cover a single week.",
        "Readers wrote to complain about the fate of the dog.",
        "The last chapter is told backwards.",
        "A court case over its title dragged on for {few} years.",
    ),
    "film": (
        "It was shot in {small} weeks on a modest budget.",
        "The only surviving print lacks the second reel.",
        "Audiences were few, but it ran for {small} months in one small cinema.",
        "Reviewers admired the long silent opening.",
        "It won a prize for its camera work.",
        "Most of the actors were postal workers from the neighbourhood.",
        "The final scene needed {large} takes.",
        "Rain spoiled the outdoor scenes, and the weather was written into the story.",
        "A restored version with tinted night scenes was shown later.",
        "The lead role went to an amateur who never acted again.",
    ),
    "instrument": (
        "Its tone is soft and a little nasal, between a viola and a clarinet.",
        "Only {small} examples are known to survive.",
        "Tuning it takes the better part of an hour.",
        "Several chamber works were written for it, and hardly any are played today.",
        "The case is of walnut with brass fittings.",
        "A player turns a wheel with the left foot.",
        "Its compass is {few} octaves and a half.",
        "It was sold by mail order together with a printed method.",
        "Damp weather puts it out of order for days.",
        "A military band tried {small} of them and gave them back.",
    ),
    "bridge": (
        "It is {large} metres long.",
        "Tolls were taken there for {small} years.",
        "One of the piers was rebuilt after an ice drift.",
        "Lamps in the form of herons stand along the parapet.",
        "An earlier wooden crossing had been swept away.",
        "Heavy wagons must cross at walking pace.",
        "Its stone came from {few} quarries and changes colour halfway.",
        "A keeper lived in the small house at the northern end.",
        "Swallows nest under the roadway in great numbers.",
        "At its opening, {large} schoolchildren were marched across to test it.",
    ),
    "painting": (
        "It measures {large} by {large2} centimetres.",
        "An X-ray showed an older portrait beneath the surface.",
        "A first study in chalk is kept elsewhere.",
        "The frame, carved with acorns, is original.",
        "Visitors often remark on its low, even light.",
        "It was shown in public only {small} times before the artist died.",
        "A copy hung in a railway dining room for {few} decades.",
        "The model is thought to have been a neighbour.",
        "Cleaning brought out a small bird in the upper corner.",
        "Its date is disputed, for the inscription was painted over.",
        "It was once exchanged for {few} barrels of cider.",
    ),
}


def label(value) -> str:
    """The words for a fact inside a sentence: a name, or the digits of a year."""
    return value.name if isinstance(value, Entity) else value


def write_paragraph(entity: Entity, rng: random.Random) -> str:
    """Says all facts of an entity in one paragraph, in one of many wordings."""
    if entity.kind in OCCUPATIONS:
        facts = [PERSON_LEADS]
        facts += [PERSON_SCHOOL] if "school" in entity.facts else []
        facts += [PERSON_TEACHER] if "teacher" in entity.facts else []
        fillers = list(PERSON_FILLERS + OCCUPATION_FILLERS[entity.kind])
    else:
        facts = list(FACT_SENTENCES[entity.kind])
        fillers = list(FILLERS[entity.kind])
    article = "an" if TRADE.get(entity.kind, "")[:1] in ("a", "i") else "a"
    he, his, him, man = ("she", "her", "her", "woman") if entity.woman else ("he", "his", "him", "man")
    words = {
        "name": entity.name,
        "short": entity.name.split()[-1],
        "trade": f"{article} {TRADE.get(entity.kind, '')}",
        **{"he": he, "his": his, "him": him, "man": man, "He": he.capitalize(), "His": his.capitalize()},
        **{relation: label(value) for relation, value in entity.facts.items()},
    }
    lead, *rest = [rng.choice(ways) for ways in facts]
    rng.shuffle(rest)
    rng.shuffle(fillers)
    target = rng.randint(*TARGET_WORDS)
    sentences = [say(lead, words, rng)]
    for template in rest:
        sentences.append(say(template, words, rng))
    for template in fillers:
        if sum(len(sentence.split()) for sentence in sentences) >= target:
            break
        sentences.insert(rng.randint(1, len(sentences)), say(template, words, rng))
    return " ".join(sentences)


def say(template: str, words: dict[str, str], rng: random.Random) -> str:
    """Fills one sentence, with fresh numbers."""
    small = ("three", "four", "five", "six", "seven", "eight", "nine", "eleven", "twelve", "fourteen")
    numbers = {"small": rng.choice(small), "few": rng.choice(("two", "three", "four", "five"))}
    numbers.update(large=rng.randint(61, 489), large2=rng.randint(61, 489))
    sentence = template.format(**words, **numbers)
    return sentence[0].upper() + sentence[1:]


# ---------------------------------------------------------------------------------------------------------------------
# Questions
# ---------------------------------------------------------------------------------------------------------------------

# relation -> (noun phrase for the middle of a question, ways to ask for it); {x} is the entity it starts from
RELATIONS = {
    "birthplace": ("the town where {x} was born", ("What is the birthplace of {x}?", "In which town was {x} born?")),
    "school": ("the academy that {x} attended", ("Which academy did {x} attend?", "What was the school of {x}?")),
    "teacher": ("the teacher of {x}", ("Who was the teacher of {x}?", "Who taught {x}?")),
    "capital": ("the capital of {x}", ("What is the capital of {x}?", "Which town is the capital of {x}?")),
    "lake": ("", ("Into which lake does {x} flow?", "Which lake does {x} empty into?")),
    "region": ("the region around {x}", ("In which region is {x}?", "Which region does {x} belong to?")),
    "river": ("the river at {x}", ("Which river is found at {x}?", "What is the name of the river at {x}?")),
    "seat": ("the home town of {x}", ("In which town is {x} located?", "Which town is {x} in?")),
    "founder": ("the founder of {x}", ("Who founded {x}?", "Who was the founder of {x}?")),
    "founded": ("", ("In what year was {x} founded?", "When was {x} founded?")),
    "opened": ("", ("In what year did {x} open?", "When did {x} open?")),
    "architect": ("the architect of {x}", ("Who was the architect of {x}?", "Who designed {x}?")),
    "author": ("the author of {x}", ("Who wrote {x}?", "Who is the author of {x}?")),
    "publisher": ("the publisher of {x}", ("Who published {x}?", "Which house published {x}?")),
    "published": ("", ("In what year was {x} published?", "When did {x} come out?")),
    "director": ("the director of {x}", ("Who directed {x}?", "Who was the director of {x}?")),
    "novel": ("the novel behind {x}", ("On which novel is {x} based?", "Which novel is behind {x}?")),
    "composer": ("the composer of the music for {x}", ("Who composed the music for {x}?", "Who scored {x}?")),
    "inventor": ("the inventor of {x}", ("Who invented {x}?", "Who was the inventor of {x}?")),
    "painter": ("the painter of {x}", ("Who painted {x}?", "Who was the painter of {x}?")),
    "museum": ("the museum that shows {x}", ("In which museum does {x} hang?", "Which museum owns {x}?")),
}
WITH_ARTICLE = ("river", "instrument")  # "the Caldule", "the Korvachord"


def mention(entity: Entity) -> str:
    """An entity's name as it stands in a question."""
    return f"the {entity.name}" if entity.kind in WITH_ARTICLE else entity.name


def walks(start: Entity, hops: int) -> list[list[tuple[Entity, str, object]]]:
    """All chains of `hops` facts from an entity, as (entity, relation, value) steps; no relation comes twice."""
    found = []
    for relation, value in start.facts.items():
        if relation not in RELATIONS:
            continue
        step = (start, relation, value)
        if hops == 1:
            found.append([step])
        elif isinstance(value, Entity):
            tails = walks(value, hops - 1)
            found += [[step, *tail] for tail in tails if all(relation != later for _, later, _ in tail)]
    return found


def holds(text: str, answers: list[str]) -> bool:
    """True when the text has one of the answers as whole words."""
    return any(re.search(rf"\b{re.escape(answer)}\b", text, re.IGNORECASE) for answer in answers)


def make_question(walk: list, number: int, world: dict[str, list[Entity]], rng: random.Random) -> dict | None:
    """Turns a walk into a record, or None where the answer could be read off too early."""
    value = walk[-1][2]
    answer, aliases = label(value), value.aliases if isinstance(value, Entity) else []
    gold = [step[0] for step in walk]
    if len(set(gold)) < len(gold) or any(holds(entity.text, [answer, *aliases]) for entity in gold[:-1]):
        return None
    phrase = mention(walk[0][0])
    for _, relation, _ in walk[:-1]:
        phrase = RELATIONS[relation][0].format(x=phrase)
    question = rng.choice(RELATIONS[walk[-1][1]][1]).format(x=phrase)
    if holds(question, [answer, *aliases]):
        return None

    # Hard distractors: other things of the gold paragraphs' kinds; those that name a gold entity come first.
    distractors: list[Entity] = []
    kinds = [entity.kind for entity in gold]
    for i in range(NUM_PARAGRAPHS - len(gold)):
        free = [entity for entity in world[kinds[i % len(kinds)]] if entity not in gold + distractors]
        free = [entity for entity in free if not holds(f"{entity.name} {entity.text}", [answer, *aliases])]
        linked = [entity for entity in free if holds(entity.text, [other.name for other in gold])]
        distractors.append(rng.choice(linked if linked and rng.random() < 0.5 else free))
    documents = gold + distractors
    rng.shuffle(documents)

    steps = []
    for i, (entity, relation, target) in enumerate(walk):
        subject = mention(entity) if i == 0 else f"#{i}"
        ask = rng.choice(RELATIONS[relation][1]).format(x=subject)
        support = documents.index(entity)
        steps.append(
            {"id": number * 10 + i, "question": ask, "answer": label(target), "paragraph_support_idx": support}
        )
    return {
        "id": f"{len(walk)}hop__demo_{number:03d}",
        "question": question,
        "answer": answer,
        "answer_aliases": aliases,
        "answerable": True,
        "paragraphs": [
            {"idx": i, "title": entity.name, "paragraph_text": entity.text, "is_supporting": entity in gold}
            for i, entity in enumerate(documents)
        ],
        "question_decomposition": steps,
    }


def make_corpus(seed: int = SEED) -> list[dict]:
    """Returns all records: as many walks of each length as asked for, spread over the kinds of walk."""
    rng = random.Random(seed)
    world = draw_world(rng)
    records: list[dict] = []
    for hops, wanted in ((2, NUM_TWO_HOP), (3, NUM_THREE_HOP)):
        by_path: dict[tuple, list] = {}
        for entities in world.values():
            for entity in entities:
                for walk in walks(entity, hops):
                    by_path.setdefault((entity.kind, *(relation for _, relation, _ in walk)), []).append(walk)
        paths = sorted(by_path)
        rng.shuffle(paths)
        for group in by_path.values():
            rng.shuffle(group)
        made = 0
        while made < wanted:  # one walk of each path in turn, so that no path dominates
            for path in paths:
                record = None
                while by_path[path] and record is None:
                    record = make_question(by_path[path].pop(), len(records), world, rng)
                if record is not None and made < wanted:
                    records.append(record)
                    made += 1
    rng.shuffle(records)
    return records


def corpus_bytes(seed: int = SEED) -> bytes:
    """The corpus file's content."""
    return "".join(json.dumps(record) + "\n" for record in make_corpus(seed)).encode("ascii")


if __name__ == "__main__":
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("demo_corpus.jsonl")
    output.write_bytes(corpus_bytes())
    print(f"Wrote {output}.")
