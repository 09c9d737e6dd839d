"""Asks the engine what was held out, and counts what it answers right."""

import json
import subprocess
from collections import Counter

from . import data, harmony
from .skills import EFFORTS

CASES = 200


def answers(engine, model, conversations):
    """What the engine's program `answer` says to each."""
    asked = "".join(json.dumps({"messages": messages}) + "\n" for messages in conversations)
    done = subprocess.run([engine, model], input=asked.encode(), capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.decode())
    return [json.loads(line) for line in done.stdout.splitlines()]


def text_of(message):
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def heading(message):
    return [message.get(key) for key in ("role", "recipient", "channel")]


def same(expected, found):
    """Whether a message says what it should: calls and JSON by their values, all else to the letter."""
    if heading(expected) != heading(found):
        return False
    want, have = text_of(expected), text_of(found)
    if "json" in (expected.get("content_type") or ""):
        try:
            return json.loads(want) == json.loads(have)
        except ValueError:
            return False
    return want == have


def is_well_formed(answer):
    """No diagnostic, and an end that the model chose: after an answer, or to call."""
    messages, stop = answer["parsed"]["messages"], answer["stop"]
    if answer["parsed"]["diagnostics"] or not messages:
        return False
    if stop == "ToolCall":
        return messages[-1].get("recipient") is not None
    return stop == "Finished" and messages[-1].get("channel") == "final"


def is_reasoning(message):
    return message.get("channel") == "analysis" and not message.get("recipient")


def evaluate(engine, model, vocabulary, skill, effort, cases=CASES):
    """Counts for a skill at an effort."""
    held, seen, seed = [], set(), 0
    while len(held) < cases:
        case = data.held_out_case(seed, skill, effort)
        seed += 1
        key = json.dumps(case[:2])
        if key not in seen:
            seen.add(key)
            held.append(case)
    counts = Counter(cases=cases)
    waiting = []
    asked = [prompt + expected[:1] for prompt, expected, _ in held]
    for (prompt, expected, has_functions), answer in zip(held, answers(engine, model, asked)):
        rendered = data.encode_prompt(vocabulary, prompt + expected[:1], has_functions)
        rendered += vocabulary.encode(harmony.Special(harmony.START)) + vocabulary.encode("assistant")
        assert rendered == answer["prompt"], "the engine renders and encodes as the training did"
        messages = answer["parsed"]["messages"]
        counts["turns"] += 1
        counts["well-formed"] += is_well_formed(answer)
        counts["reasoning"] += sum(len(vocabulary.encode(text_of(message))) for message in messages if is_reasoning(message))
        wanted = next(message for message in expected if message["role"] == "assistant" and not is_reasoning(message))
        if not messages or not same(wanted, messages[-1]):
            counts["wrong"] += 1
        elif wanted.get("recipient"):
            counts["calls"] += 1
            waiting.append((prompt + expected[: expected.index(wanted) + 2], expected[-1]))
        else:
            counts["right"] += 1
        counts["to call"] += bool(wanted.get("recipient"))
    for (_, wanted), answer in zip(waiting, answers(engine, model, [messages for messages, _ in waiting])):
        counts["turns"] += 1
        counts["well-formed"] += is_well_formed(answer)
        messages = answer["parsed"]["messages"]
        counts["right"] += bool(messages) and same(wanted, messages[-1])
    return counts


def table(engine, model, vocabulary, cases=CASES):
    """Rows of the model card, and all counts together."""
    total, lines = Counter(), []
    for skill in data.SKILLS:
        for effort in EFFORTS:
            counts = evaluate(engine, model, vocabulary, skill, effort, cases)
            total += counts
            called = f"{counts['calls'] / counts['to call']:.1%}" if counts["to call"] else ""
            lines.append(f"| {skill} | {effort} | {counts['right'] / counts['cases']:.1%} | {called} | "
                         f"{counts['well-formed']} of {counts['turns']} | {counts['reasoning'] / counts['cases']:.0f} |")
            print(lines[-1], flush=True)
    return lines, total
