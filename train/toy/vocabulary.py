"""A part of o200k that is a valid byte-level BPE of its own, and an encoder for it.

All single bytes, the first merges, and those that the training text uses; each with the tokens it is merged from. Left out are
merges of digits, so that every digit is a token and a sum can be computed digit by digit; and merges of anything else with a
letter behind it, so that a word is the same tokens after a blank, a quote or a dot and can be copied from a text into JSON.
Encoding gives what lowest-rank merging with these tokens gives, in the engine as here.
"""

import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path

import regex

from .harmony import SPECIAL, Special

PACKED = Path(__file__).parents[2] / "host" / "data" / "o200k.deflate"

# The split of o200k.
SPLIT = regex.compile(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def o200k():
    """All tokens of o200k in the order of their ranks."""
    packed, tokens, place = zlib.decompress(PACKED.read_bytes(), -15), [], 0
    while place < len(packed):
        size = packed[place]
        tokens.append(packed[place + 1 : place + 1 + size])
        place += 1 + size
    return tokens


def merge(piece, ranks):
    """Lowest-rank merging, leftmost first."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while len(parts) > 1:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], 1 << 30))
        if parts[best] + parts[best + 1] not in ranks:
            break
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts


def pieces(text):
    return [piece.encode() for piece in SPLIT.findall(text)]


class Vocabulary:
    def __init__(self, tokens):
        self.tokens = tokens
        self.ranks = {token: rank for rank, token in enumerate(tokens)}
        self.special = {name: len(tokens) + index for index, name in enumerate(SPECIAL)}
        self.known = {}

    def __len__(self):
        """Rows of the matrices: a multiple of 32, the last of which may be unused."""
        return -(-(len(self.tokens) + len(self.special)) // 32) * 32

    def encode(self, text):
        if isinstance(text, Special):
            return [self.special[text]]
        return [token for piece in pieces(text) for token in self.encode_piece(piece)]

    def decode(self, ids):
        """Text, with control tokens by their names."""
        names = {index: name.encode() for name, index in self.special.items()}
        return b"".join(names[index] if index in names else self.tokens[index] for index in ids).decode(errors="replace")

    def encode_piece(self, piece):
        if piece not in self.known:
            self.known[piece] = [self.ranks[part] for part in merge(piece, self.ranks)]
        return self.known[piece]


def is_wanted(token):
    """Neither digits nor the beginning of a word with something before it."""
    if len(token) == 1:
        return True
    letters = [chr(byte).isalpha() or byte >= 0x80 for byte in token]
    return not any(byte in b"0123456789" for byte in token) and not any(b and not a for a, b in zip(letters, letters[1:]))


def choose(texts, size, first=500):
    """The vocabulary of about `size` ordinary tokens that serves `texts` best."""
    ordered = [token for token in o200k() if is_wanted(token)]
    ranks = {token: rank for rank, token in enumerate(ordered)}
    counts = Counter()
    cached = lru_cache(None)(lambda piece: merge(piece, ranks))
    for text in texts:
        if not isinstance(text, Special):
            for piece in pieces(text):
                counts.update(cached(piece))
    chosen = {token for token in ordered if len(token) == 1} | set(ordered[:first])

    parts_of = {}

    def close(token):
        """The tokens that a token is merged from, itself included."""
        if token not in parts_of:
            below = Below(ranks, ranks[token])
            left_right = merge(token, below)
            parts_of[token] = {token}.union(*(close(part) for part in left_right)) if len(token) > 1 else {token}
        return parts_of[token]

    for token, _ in counts.most_common():
        if len(chosen) >= size:
            break
        chosen |= close(token)
    for token in list(chosen):
        chosen |= close(token)
    return Vocabulary(sorted(chosen, key=ranks.get))


class Below:
    """The ranks below one."""

    def __init__(self, ranks, limit):
        self.ranks, self.limit = ranks, limit

    def get(self, token, default):
        rank = self.ranks.get(token, default)
        return rank if rank < self.limit else default

    def __contains__(self, token):
        return self.ranks.get(token, self.limit) < self.limit
