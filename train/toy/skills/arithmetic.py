"""Sums, differences and products, computed digit by digit in the reasoning."""

from .. import harmony
from . import Exchange, Scene

ASK = {
    "+": ["What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "How much is {a} plus {b}?", "Add {a} and {b}.", "What is {a} plus {b}?",
          "Calculate {a} + {b}.", "what is {a}+{b}?", "{a} + {b} = ?"],
    "-": ["What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "How much is {a} minus {b}?", "Subtract {b} from {a}.",
          "What is {a} minus {b}?", "Calculate {a} - {b}.", "what is {a}-{b}?", "{a} - {b} = ?"],
    "*": ["What is {a} * {b}?", "{a} * {b}", "{a}*{b}", "How much is {a} times {b}?", "Multiply {a} by {b}.",
          "What is {a} times {b}?", "Calculate {a} * {b}.", "What is {a} x {b}?", "what is {a}*{b}?", "{a} * {b} = ?"],
}


def steps(a, operator, b):
    """The lines of the computation, each without its explanation and with it."""
    a1, a0, b1, b0 = a // 10, a % 10, b // 10, b % 10
    if operator == "+":
        units = a0 + b0
        carry = units // 10
        tens = f"{a1}+{b1}+1={a1 + b1 + 1}" if carry else f"{a1}+{b1}={a1 + b1}"
        return [(f"{a0}+{b0}={units}", f"Units: {a0}+{b0}={units}" + (", carry 1." if carry else ".")), (tens, f"Tens: {tens}.")]
    if operator == "-":
        borrow = a0 < b0
        units = f"{a0 + 10 * borrow}-{b0}={a0 + 10 * borrow - b0}"
        tens = f"{a1}-{b1}-1={a1 - b1 - 1}" if borrow else f"{a1}-{b1}={a1 - b1}"
        return [(units, f"Units: {units}" + (", borrow 1." if borrow else ".")), (tens, f"Tens: {tens}.")]
    units, tens = a0 * b, a1 * b
    both = f"{tens * 10}+{units}={tens * 10 + units}"
    return [(f"{a0}*{b}={units}", f"Units: {a0}*{b}={units}."), (f"{a1 * 10}*{b}={tens * 10}", f"Tens: {a1 * 10}*{b}={tens * 10}."),
            (both, f"Together: {both}.")]


def compute(a, operator, b):
    return {"+": a + b, "-": a - b, "*": a * b}[operator]


def reasoning(effort, a, operator, b):
    answer, lines = compute(a, operator, b), steps(a, operator, b)
    if effort == "low":
        return ", ".join(short for short, _ in lines) + f", so {answer}."
    text = "\n".join(long for _, long in lines) + f"\nSo {a}{operator}{b}={answer}."
    if effort == "high":
        if operator == "+":
            check, value = steps(answer, "-", b), f"{answer}-{b}={a}"
            if answer > 99:
                check = []
        elif operator == "-":
            check, value = steps(answer, "+", b), f"{answer}+{b}={a}"
        else:
            check, value = [], f"{b}*{a}={answer}"
        text += "\nCheck: " + "".join(short + ", " for short, _ in check) + f"{value}. Right."
    return text


def operands(rng):
    operator = rng.choice("++--**")
    if operator == "*":
        return rng.randint(2, 99) if rng.random() < 0.7 else rng.randint(2, 9), operator, rng.randint(2, 9)
    top = 99 if rng.random() < 0.85 else 12
    a, b = rng.randint(0, top), rng.randint(0, top)
    return (max(a, b), operator, min(a, b)) if operator == "-" else (a, operator, b)


def exchange(rng, effort):
    a, operator, b = operands(rng)
    ask = rng.choice(ASK[operator]).format(a=a, b=b)
    messages = [harmony.user(ask), harmony.analysis(reasoning(effort, a, operator, b)),
                harmony.final(f"{a} {operator} {b} = {compute(a, operator, b)}")]
    return Exchange(messages, f"{a}{operator}{b}")


def scene(rng):
    return Scene(exchange)
