"""A character of a game, who stays in the role that the developer describes."""

from .. import harmony
from . import Exchange, Scene, think
from .words import ITEMS, NAMES, PLURALS, name, word

JOBS = """blacksmith baker guard miller farmer innkeeper sailor hunter healer merchant wizard fisherman carpenter tailor bard
shepherd knight cook ferryman thief""".split()
TOWNS = """Oakvale Riverton Stonebridge Elmwood Ravenhill Goldport Ashford Thornwood Westmere Greenhollow Highgate Millbrook
Foxden Brightwater Winterfall Deepwell Northwick Silverlake""".split()
FEARS = "dragons wolves ghosts goblins storms spiders pirates bandits trolls witches rats giants bears snakes".split()

QUESTIONS = {
    "who": ["Who are you?", "What is your name?", "Tell me who you are.", "And you are?", "Who do I speak with?"],
    "where": ["Where are we?", "What is this place?", "Where am I?", "What town is this?"],
    "sells": ["What do you sell?", "What can I buy here?", "Do you have anything to sell?", "Show me your goods."],
    "fears": ["What do you fear?", "What are you afraid of?", "Are you afraid of anything?"],
    "machine": ["Are you an AI?", "Are you a language model?", "Are you ChatGPT?", "Are you a robot?", "You are a computer, right?", "Are you real?"],
    "hello": ["Hello!", "Hi there.", "Good day.", "Greetings!"],
    "bye": ["Goodbye.", "Farewell!", "I have to go.", "See you later."],
    "price": ["How much are the {goods}?", "What do the {goods} cost?"],
}


def scene(rng):
    who, job, town = name(rng, NAMES), rng.choice(JOBS), rng.choice(TOWNS) if rng.random() < 0.6 else name(rng, TOWNS)
    goods, fear, price = word(rng, PLURALS), word(rng, FEARS), rng.randint(2, 60)
    article = "an" if job[0] in "aeiou" else "a"
    says = {
        "who": f"I am {who}, the {job} of {town}.", "where": f"This is {town}, traveller.", "sells": f"I sell {goods}, {price} coins each.",
        "fears": f"I fear {fear}, as everybody in {town} does.", "machine": f"I do not know that word. I am {who}, {article} {job}.",
        "hello": f"Welcome to {town}, traveller!", "bye": "Safe travels, friend.", "price": f"The {goods} are {price} coins each.",
    }
    about = {
        "who": "who I am", "where": "where we are", "sells": "what I sell", "fears": "what I fear",
        "machine": "whether I am a machine", "hello": "nothing yet and greets", "bye": "nothing more and leaves", "price": "what my goods cost",
    }

    def exchange(rng, effort):
        kind = rng.choice(list(QUESTIONS))
        ask = rng.choice(QUESTIONS[kind]).format(goods=goods)
        thought = think(effort, f"I am {who}.", f"The player asks {about[kind]}. I am {who}, the {job}.", f"I stay in my role: a {job} of {town}.")
        return Exchange([harmony.user(ask), harmony.analysis(thought), harmony.final(says[kind])])

    text = rng.choice([
        f"You are {who}, the {job} of {town}. You sell {goods} for {price} coins. You fear {fear}. Stay in your role.",
        f"You play {who}, {article} {job} in {town}. {who} sells {goods} at {price} coins each and fears {fear}.",
        f"Role: {who}. Job: {job}. Town: {town}. Sells: {goods}, {price} coins. Fears: {fear}.",
    ])
    return Scene(exchange, harmony.developer(text), key=f"{who} {goods} {fear}")
