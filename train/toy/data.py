"""Rows of tokens to train on.

A row is one scene with as many exchanges as fit. They stand side by side: each begins behind what the system and developer
say, at the same position, and sees that and itself but not the others. So what they share is computed once. Some rows hold one
conversation of several turns instead, with the reasoning of past turns left out as the engine leaves it out.
"""

import random

import numpy as np

from . import harmony
from .skills import (EFFORTS, arithmetic, character, functions, held_out, json_answers, policy, python_tool,
                     small_talk)

LENGTH = 512

SKILLS = {"arithmetic": arithmetic, "functions": functions, "python": python_tool, "json": json_answers, "small talk": small_talk,
          "character": character, "policy": policy}

# How many rows of each, in a hundred. Rows without a developer mix arithmetic and small talk.
SHARES = {"arithmetic": 22, "functions": 35, "python": 19, "json": 8, "character": 9, "policy": 7}

DATES = ["2025-06-28", "2026-01-15", "2026-11-22", "2027-03-04"]


def prompt(rng, scene, effort):
    """What the system and developer say."""
    identity = harmony.IDENTITY if rng.random() < 0.85 else rng.choice(["You are a helpful assistant.", "You are Ossicle's toy model."])
    date = rng.choice(DATES) if rng.random() < 0.15 else None
    messages = [harmony.system(effort, identity, date, scene.python)]
    return messages + [scene.developer] if scene.developer else messages


def scene_of(rng, skill, held=False):
    """A scene whose exchanges are held out, or are not, or are a mixture."""
    while True:
        scene = SKILLS[skill].scene(rng)
        if not scene.key or held_out(scene.key) == held:
            return scene


def exchange_of(rng, scene, effort, held=False):
    """An exchange that is held out, or one that is not."""
    while True:
        exchange = scene.exchange(rng, effort)
        if scene.key or held_out(exchange.key) == held:
            return exchange


def encode_exchange(vocabulary, messages):
    """Tokens, and which of them the model is to write. The first two of each answer are given: start and role."""
    tokens, learned = [], []
    for index, message in enumerate(messages):
        ids = [token for part in harmony.fragments(message, is_answer=index == len(messages) - 1) for token in vocabulary.encode(part)]
        tokens += ids
        by_model = message["role"] == "assistant"
        prompted = by_model and messages[index - 1]["role"] != "assistant"
        learned += [by_model and not (prompted and place < 2) for place in range(len(ids))]
    return tokens, learned


def encode_prompt(vocabulary, messages, has_functions):
    return [token for message in messages for part in harmony.fragments(message, has_functions) for token in vocabulary.encode(part)]


def past(messages):
    """An exchange as it stands in later prompts."""
    return [message for message in messages if message.get("channel") != "analysis" or message.get("recipient") or message["role"] == "tool"]


class Row:
    """Tokens with their positions; `group` says which see one another: those of 0 are seen by all."""

    def __init__(self):
        self.tokens, self.positions, self.groups, self.learned = [], [], [], []

    def add(self, tokens, start, group, learned):
        self.tokens += tokens
        self.positions += range(start, start + len(tokens))
        self.groups += [group] * len(tokens)
        self.learned += learned

    def padded(self):
        pad = LENGTH - len(self.tokens)
        columns = (self.tokens + [0] * pad, self.positions + [0] * pad, self.groups + [-1] * pad, self.learned + [False] * pad)
        return [np.array(column, np.int16) for column in columns]


def row(rng, vocabulary, skill=None, scene=None):
    skill = skill or rng.choices(list(SHARES), SHARES.values())[0]
    scene = scene or scene_of(rng, skill)
    effort = rng.choice(EFFORTS)
    prefix = encode_prompt(vocabulary, prompt(rng, scene, effort), scene.functions)
    out = Row()
    out.add(prefix, 0, 0, [False] * len(prefix))
    conversation = rng.random() < 0.2
    start, group = len(prefix), 1
    misses = 0
    while misses < 3:
        here = scene
        if skill == "arithmetic" and rng.random() < 0.3:
            here = small_talk.scene(rng)
        elif skill in ("functions", "python") and rng.random() < 0.1:
            # Tools are not for everything.
            here = rng.choice([small_talk, arithmetic]).scene(rng)
        exchange = exchange_of(rng, here, effort)
        tokens, learned = encode_exchange(vocabulary, exchange.messages)
        if len(out.tokens) + len(tokens) > LENGTH:
            misses += 1
            continue
        out.add(tokens, start, group, learned)
        if conversation:
            # In place of the exchange, later ones see it without its reasoning.
            tokens = [token for message in past(exchange.messages) for part in harmony.fragments(message) for token in vocabulary.encode(part)]
            if len(out.tokens) + len(tokens) + 40 > LENGTH:
                break
            out.add(tokens, start, 0, [False] * len(tokens))
            start += len(tokens)
        group += 1
    return out


def copying(rng, vocabulary):
    """Tokens, repeated. To go on as before is what names, values and tools need, and comes late from conversations alone. Some rows are of
    any tokens, some of few different ones, and some are lists of numbers: there the token before does not tell where to go on."""
    out, kind = Row(), rng.randrange(3)
    tokens = range(len(vocabulary.tokens)) if kind == 0 else rng.sample(range(len(vocabulary.tokens)), rng.randint(4, 16))

    def part():
        if kind == 2:
            return vocabulary.encode(", ".join(str(rng.randint(1, 99)) for _ in range(rng.randint(2, 7))) + "\n")
        return [rng.choice(tokens) for _ in range(rng.randint(3, 20))]

    while len(out.tokens) < LENGTH:
        repeated = part()
        for repeat in range(rng.randint(2, 5)):
            fits = repeated[: LENGTH - len(out.tokens)]
            out.add(fits, len(out.tokens), 0, [repeat > 0 and place > 0 for place in range(len(fits))])
    return out


# How many brief rows of each, in a hundred: what takes longest to learn.
BRIEF_SHARES = {"arithmetic": 30, "functions": 34, "python": 26, "json": 10}


def brief(rng, vocabulary):
    """A scene with many exchanges of which only the contents are said: what is asked, a thought as short as with low effort, and
    the answer or the call. Nearly all that is left has to be computed."""
    skill = rng.choices(list(BRIEF_SHARES), BRIEF_SHARES.values())[0]
    scene = scene_of(rng, skill)
    prefix = encode_prompt(vocabulary, prompt(rng, scene, "low"), scene.functions)
    out, group = Row(), 1
    out.add(prefix, 0, 0, [False] * len(prefix))
    while True:
        asked, *answered = exchange_of(rng, scene, "low").messages[:3]
        question = vocabulary.encode(asked["content"]) + vocabulary.encode("\n")
        answer = [token for message in answered for token in vocabulary.encode(message["content"]) + vocabulary.encode("\n")]
        if len(out.tokens) + len(question) + len(answer) > LENGTH:
            return out
        out.add(question + answer, len(prefix), group, [False] * len(question) + [True] * len(answer))
        group += 1


def late(rng, vocabulary):
    """What is learned last: sums, and to judge what is said in other scenes."""
    if rng.random() < 0.7:
        return row(rng, vocabulary, "arithmetic")

    def others(rng):
        skill = rng.choice(["arithmetic", "functions", "python", "small talk"])
        return rng.choice(exchange_of(rng, scene_of(rng, skill), "low").messages)["content"]

    return row(rng, vocabulary, "policy", policy.scene(rng, others))


def rows(seed, count, vocabulary, copies=0.0, briefs=0.0, lates=0.0):
    """Arrays of int16, [count, LENGTH] each: tokens, positions, groups, and whether the model is to write the token. A share of
    the rows only copies, one is brief, and one is what is learned last."""
    rng = random.Random(seed)
    kinds = rng.choices([copying, brief, row, late], [copies, briefs, 1 - copies - briefs - lates, lates], k=count)
    return [np.stack(column) for column in zip(*(kind(rng, vocabulary).padded() for kind in kinds))]


def texts(seed, count):
    """All fragments of so many exchanges, to choose the vocabulary by."""
    rng = random.Random(seed)
    for _ in range(count):
        skill = rng.choices([*SHARES, "small talk"], [*SHARES.values(), 12])[0]
        scene = scene_of(rng, skill)
        effort = rng.choice(EFFORTS)
        for message in prompt(rng, scene, effort) + exchange_of(rng, scene, effort).messages:
            yield from harmony.fragments(message, scene.functions)


def held_out_case(seed, skill, effort):
    """A conversation of the evaluation: what is said before the model answers, and what it should answer."""
    rng = random.Random(f"{seed} {skill} {effort}")
    scene = scene_of(rng, skill, held=True)
    messages = [harmony.system(effort, python=scene.python)] + ([scene.developer] if scene.developer else [])
    return messages, exchange_of(rng, scene, effort, held=True).messages, scene.functions
