"""Small programs for the python tool."""

from .. import harmony
from . import Exchange, Scene, think
from .words import ITEMS, PLURALS, word


def request(rng):
    """What is asked, the program, what it prints, and what the user is told."""
    kind = rng.randrange(7)
    if kind == 0:
        a, b = rng.randint(1, 20), rng.randint(21, 300)
        value = sum(range(a, b + 1))
        return f"What is the sum of the numbers from {a} to {b}?", f"print(sum(range({a}, {b} + 1)))", value, f"The sum is {value}."
    if kind == 1:
        a, b = rng.randint(100, 9999), rng.randint(100, 9999)
        return f"What is {a} * {b}?", f"print({a} * {b})", a * b, f"{a} * {b} = {a * b}"
    if kind == 2:
        a, b = rng.randint(2, 20), rng.randint(2, 12)
        return f"What is {a} to the power of {b}?", f"print({a} ** {b})", a**b, f"{a} to the power of {b} is {a**b}."
    text = word(rng, ITEMS + PLURALS)
    if kind == 3:
        return f"How many letters has the word {text}?", f'print(len("{text}"))', len(text), f"The word {text} has {len(text)} letters."
    if kind == 4:
        return f"Write the word {text} backwards.", f'print("{text}"[::-1])', text[::-1], f"Backwards it is {text[::-1]}."
    numbers = [rng.randint(1, 99) for _ in range(rng.randint(3, 5))]
    listed = ", ".join(map(str, numbers))
    if kind == 5:
        return f"Sort these numbers: {listed}", f"print(sorted([{listed}]))", sorted(numbers), f"Sorted: {', '.join(map(str, sorted(numbers)))}"
    return f"What is the largest of {listed}?", f"print(max([{listed}]))", max(numbers), f"The largest is {max(numbers)}."


def exchange(rng, effort):
    ask, code, printed, told = request(rng)
    ask = rng.choice(["", "", "Please use Python. ", "With Python: "]) + ask
    thought = think(effort, "I use Python.", "Python can compute this. I write a short program.", "It prints the value, and then I tell it.")
    call = harmony.python_call(code)
    return Exchange([harmony.user(ask), harmony.analysis(thought), call, harmony.result(call, f"{printed}\n"), harmony.final(told)], code)


def scene(rng):
    return Scene(exchange, python=True)
