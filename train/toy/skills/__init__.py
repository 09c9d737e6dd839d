"""What the model learns. Each skill is a function of a source of randomness that gives a scene: what the system and developer
say, and a function that gives an exchange in it. An exchange is a list of messages; the answer is a function of what was
asked, so whether the model's is right can be told by comparing.

Exchanges whose key is held out are asked in the evaluation only; all others in training only.
"""

import zlib
from dataclasses import dataclass
from typing import Callable

EFFORTS = ["low", "medium", "high"]


@dataclass
class Exchange:
    messages: list
    # Nothing, where the scene has a key.
    key: str = ""


@dataclass
class Scene:
    exchange: Callable
    developer: dict | None = None
    python: bool = False
    functions: bool = False
    # Where exchanges are held out by their scene.
    key: str = ""


def held_out(key):
    return zlib.crc32(key.encode()) % 10 == 0


def think(effort, low, medium, high):
    """Reasoning whose length follows the effort: a line; what it is about; that, and a second thought."""
    return {"low": low, "medium": medium, "high": f"{medium} {high}"}[effort]
