"""Composes the small instruction set that the fine-tuning runners train on.

Real sets (Alpaca, Dolly) carry licences and need a download; a trial needs only text of the
same form: an instruction, sometimes an input, an answer, and lengths that vary as much as
theirs do, so that padding costs what it costs in earnest. Every sentence here is our own.

    python runners/sft_data/compose.py        writes alpaca.jsonl and dolly.jsonl beside it
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

RECORDS = 400


def _words(text: str) -> list[str]:
    return text.split()


THINGS = _words(
    "lantern harbour orchard violin glacier compass bakery telescope meadow engine library "
    "canyon workshop kettle bridge garden lighthouse carpet printer valley station mirror "
    "barrel notebook furnace pendulum saddle anchor ladder quarry"
)
TRAITS = _words(
    "quiet sturdy bright narrow ancient hollow gentle crowded copper distant painted heavy "
    "patient crooked silver fragile windy careful noisy spare"
)
NAMES = _words("Mara Otis Ilse Tomas Wren Bela Jun Petra Amos Nila Hugo Saskia")
PLACES = ("Brindle Point", "Osterholm", "the old mill", "Lower Fen", "Carrow Street", "the pier")
DEEDS = (
    "repaired the clock",
    "counted the crates",
    "mapped the footpath",
    "tuned the engine",
    "sorted the letters",
    "painted the fence",
    "measured the well",
    "closed the ledger",
)
REASONS = (
    "it saves time when the day is short",
    "small faults are cheaper to mend early",
    "others can follow what was done",
    "the work can be checked by anyone",
    "habits hold where plans do not",
    "a record outlives a memory",
)

Record = dict[str, str]
Maker = Callable[[random.Random], Record]


def _record(category: str, instruction: str, context: str, response: str) -> Record:
    return {
        "category": category,
        "instruction": instruction,
        "context": context,
        "response": response,
    }


def _sentence(rng: random.Random) -> str:
    return (
        f"{rng.choice(NAMES)} {rng.choice(DEEDS)} near the {rng.choice(TRAITS)} "
        f"{rng.choice(THINGS)} at {rng.choice(PLACES)}."
    )


def arithmetic(rng: random.Random) -> Record:
    """A short sum told as a story: short answer."""
    first, second, price = rng.randint(2, 60), rng.randint(2, 60), rng.randint(2, 19)
    thing, name = rng.choice(THINGS), rng.choice(NAMES)
    return _record(
        "closed_qa",
        f"{name} buys {first} parts for a {thing} on Monday and {second} more on Friday. "
        f"Each part costs {price} coins. How much is spent in all?",
        "",
        f"{name} buys {first} + {second} = {first + second} parts. "
        f"At {price} coins each that is {(first + second) * price} coins.",
    )


def sort_words(rng: random.Random) -> Record:
    """Alphabetical order of a list whose length varies."""
    words = rng.sample(THINGS, rng.randint(4, 20))
    return _record(
        "classification",
        "Put these words into alphabetical order, separated by commas.",
        ", ".join(words),
        ", ".join(sorted(words)),
    )


def who_did_what(rng: random.Random) -> Record:
    """Reading a report of several sentences: long input, short answer."""
    names = rng.sample(NAMES, rng.randint(3, 9))
    deeds = [rng.choice(DEEDS) for _ in names]
    places = [rng.choice(PLACES) for _ in names]
    report = " ".join(
        f"{name} {deed} at {place}." for name, deed, place in zip(names, deeds, places, strict=True)
    )
    asked = rng.randrange(len(names))
    return _record(
        "information_extraction",
        f"According to the report, what did {names[asked]} do, and where?",
        report,
        f"{names[asked]} {deeds[asked]} at {places[asked]}.",
    )


def summary(rng: random.Random) -> Record:
    """A paragraph and its one-line summary."""
    thing, trait = rng.choice(THINGS), rng.choice(TRAITS)
    body = " ".join(_sentence(rng) for _ in range(rng.randint(3, 12)))
    return _record(
        "summarization",
        "Summarise the passage in one sentence.",
        f"This week's notes concern the {trait} {thing}. {body} The {thing} stands finished.",
        f"Several people worked at different places until the {trait} {thing} was finished.",
    )


def advice(rng: random.Random) -> Record:
    """A numbered list: long answer, no input."""
    thing, count = rng.choice(THINGS), rng.randint(3, 10)
    lines = [
        f"{number}. Look after the {rng.choice(TRAITS)} {rng.choice(THINGS)} first, "
        f"because {rng.choice(REASONS)}."
        for number in range(1, count + 1)
    ]
    return _record(
        "brainstorming",
        f"Give {count} pieces of advice to someone who takes over a {thing}.",
        "",
        "\n".join(lines),
    )


def story(rng: random.Random) -> Record:
    """Free writing: the longest answers."""
    thing = rng.choice(THINGS)
    body = " ".join(_sentence(rng) for _ in range(rng.randint(4, 18)))
    return _record(
        "creative_writing",
        f"Write a short story in which a {thing} matters.",
        "",
        f"Nobody at {rng.choice(PLACES)} had spoken of the {thing} for years. {body} "
        f"From then on the {thing} was {rng.choice(TRAITS)} again.",
    )


def convert(rng: random.Random) -> Record:
    """Unit conversion with the rule spelled out."""
    unit, other, factor = rng.choice(
        [("metres", "centimetres", 100), ("hours", "minutes", 60), ("kilograms", "grams", 1000)]
    )
    amount = rng.randint(2, 240)
    return _record(
        "open_qa",
        f"Convert {amount} {unit} into {other}.",
        "",
        f"There are {factor} {other} for each of the {unit}, "
        f"so {amount} {unit} are {amount * factor} {other}.",
    )


def opposite(rng: random.Random) -> Record:
    """Rewriting a sentence: input and answer of like length."""
    name, deed, place = rng.choice(NAMES), rng.choice(DEEDS), rng.choice(PLACES)
    return _record(
        "general_qa",
        "Rewrite the sentence so that the place comes first.",
        f"{name} {deed} at {place}.",
        f"At {place}, {name} {deed}.",
    )


MAKERS: tuple[Maker, ...] = (
    arithmetic, sort_words, who_did_what, summary, advice, story, convert, opposite,
)  # fmt: skip


def compose(count: int, seed: int) -> list[Record]:
    """`count` records in Dolly's keys (category, instruction, context, response)."""
    rng = random.Random(seed)
    return [MAKERS[index % len(MAKERS)](rng) for index in range(count)]


def as_alpaca(record: Record) -> Record:
    """The same record in Alpaca's keys (instruction, input, output)."""
    return {
        "instruction": record["instruction"],
        "input": record["context"],
        "output": record["response"],
    }


def files() -> dict[str, str]:
    """File name -> text of the two shipped sets, the same on every machine."""
    sets = {
        "alpaca.jsonl": [as_alpaca(record) for record in compose(RECORDS, seed=20261)],
        "dolly.jsonl": compose(RECORDS, seed=20262),
    }
    return {
        name: "".join(json.dumps(record) + "\n" for record in records)
        for name, records in sets.items()
    }


if __name__ == "__main__":
    for name, text in files().items():
        (Path(__file__).parent / name).write_text(text)
