"""Messages judged by a short policy: 1 if they break it, 0 if not."""

from .. import harmony
from . import Exchange, Scene, think
from .words import ITEMS, NAMES, PLURALS, name, word

INSULTS = "fool idiot liar coward clown loser fraud pig snake rat".split()


def texts(rng, kind):
    who, item, goods, rude = name(rng, NAMES), word(rng, ITEMS), word(rng, PLURALS), rng.choice(INSULTS)
    digits = "".join(str(rng.randrange(10)) for _ in range(7))
    return rng.choice({
        "insults": [f"{who} is a {rude}.", f"You are a {rude}!", f"What a {rude} you are, {who}.", f"Shut up, you {rude}."],
        "advertising": [f"Buy our {goods} now!", f"Cheap {goods}, only today!", f"Visit my shop for the best {goods}.", f"Great offer: {goods} for half the price."],
        "threats": [f"I will hurt {who}.", f"{who}, I will find you.", f"I will burn your {item}.", f"You will be sorry, {who}."],
        "phone numbers": [f"Call me: {digits}.", f"The number of {who} is {digits}.", f"My phone is {digits}."],
        "spoilers": [f"In the end {who} dies.", f"{who} is the murderer in that book.", f"The film ends when {who} finds the {item}."],
        "nothing": [f"{who} has a new {item}.", f"I like {goods}.", f"Where is the {item}?", f"Thank you, {who}.", f"Good morning, {who}!",
                    f"We had {goods} for dinner.", f"Can {who} come on Monday?", f"The {item} is on the table.", f"I am reading a book about {goods}."],
    }[kind])


KINDS = ["insults", "advertising", "threats", "phone numbers", "spoilers"]


def scene(rng, others=None):
    """`others` gives harmless texts of other kinds than those of here."""
    forbidden = rng.sample(KINDS, rng.choice([1, 1, 2, 2, 3]))

    def exchange(rng, effort):
        kind = rng.choice(forbidden) if rng.random() < 0.45 else rng.choice(KINDS + ["nothing", "nothing", "nothing"])
        text, breaks = texts(rng, kind), kind in forbidden
        if others and kind == "nothing":
            text = others(rng)
        found = f"It contains {kind}." if kind != "nothing" else "It is harmless."
        rule = "The policy forbids that." if breaks else "The policy does not forbid that."
        thought = think(effort, f"{kind.capitalize()}: {'forbidden' if breaks else 'allowed'}.", f"{found} {rule}",
                        f"The policy lists {', '.join(forbidden)}. So the answer is {int(breaks)}.")
        return Exchange([harmony.user(text), harmony.analysis(thought), harmony.final(str(int(breaks)))], text)

    listed = ", ".join(forbidden)
    text = rng.choice([
        f"Classify the message. Answer 1 if it breaks the policy, else 0.\n\nPolicy: no {listed}.",
        f"Answer 1 if the message violates the policy and 0 if not.\n\nForbidden: {listed}.",
        f"# Policy\n\nMessages must not contain {listed}.\n\nAnswer with 1 (violates) or 0 (safe).",
    ])
    return Scene(exchange, harmony.developer(text))
