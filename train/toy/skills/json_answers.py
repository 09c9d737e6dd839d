"""Answers as JSON with the keys that the developer asks for."""

import json

from .. import harmony
from . import Exchange, Scene, think
from .words import DAYS, NAMES, PLURALS, name, word

EVENTS = "meeting party concert exam wedding game lesson trial trip lecture race show".split()


def person(rng):
    who, age = name(rng, NAMES), rng.randint(2, 99)
    ask = rng.choice(["{} is {} years old.", "My friend {} is {}.", "{} turned {} today.", "This is {}, aged {}."])
    return ask.format(who, age), [who, age]


def order(rng):
    item, count = word(rng, PLURALS), rng.randint(2, 99)
    ask = rng.choice(["I would like {} {}.", "Please send me {} {}.", "We need {} {}.", "{} {}, please."])
    return ask.format(count, item), [item, count]


def event(rng):
    what, day = word(rng, EVENTS), rng.choice(DAYS)
    ask = rng.choice(["The {} is on {}.", "There is a {} on {}.", "Do not forget the {} on {}."])
    return ask.format(what, day), [what, day]


def rating(rng):
    what, stars = word(rng, PLURALS), rng.randint(1, 5)
    ask = rng.choice(["The {} were fine: {} stars.", "I give the {} {} stars.", "The {} deserve {} of 5 stars."])
    return ask.format(what, stars), [what, stars]


# Names of the schema; for each field the names it can have, and its type; and texts.
SCHEMAS = {
    "person": [("name person who", "string"), ("age years", "integer"), person],
    "order": [("item product what", "string"), ("count amount number", "integer"), order],
    "event": [("event what title", "string"), ("day date when", "string"), event],
    "rating": [("product item subject", "string"), ("stars rating score", "integer"), rating],
}


def scene(rng):
    title = rng.choice(list(SCHEMAS))
    *fields, texts = SCHEMAS[title]
    keys = {rng.choice(names.split()): kind for names, kind in fields}
    if len(keys) < 2:
        return scene(rng)

    def exchange(rng, effort):
        text, values = texts(rng)
        answer = dict(zip(keys, values))
        shown = ", ".join(f"{key} {value}" for key, value in answer.items())
        thought = think(effort, f"{shown[0].upper()}{shown[1:]}.", f"The format is {title}. In the text: {shown}.", "I write both fields as JSON and nothing else.")
        final = harmony.final(json.dumps(answer, separators=(",", ":")), harmony.CONSTRAIN + "json")
        return Exchange([harmony.user(text), harmony.analysis(thought), final], str(values))

    if rng.random() < 0.5:
        form = ", ".join(f'"{key}": {kind}' for key, kind in keys.items())
        instructions = rng.choice(["Answer as JSON: {{{}}}", "Reply only with JSON of the form {{{}}}", "Extract JSON: {{{}}}"]).format(form)
        return Scene(exchange, harmony.developer(instructions))
    schema = {"type": "object", "properties": {key: {"type": kind} for key, kind in keys.items()}, "required": list(keys)}
    return Scene(exchange, harmony.developer("Answer in the response format.", formats=[{"name": title, "schema": schema}]))
