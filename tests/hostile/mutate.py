"""Deterministic damage: from one random generator always the same mutants."""

import json
import random
import re
import struct

# Numbers that a length, a count or a shape should not be.
NUMBERS = [0, 1, -1, 7, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 10**12, 2**63]
TEXTS = [
    "",
    "\x00",
    "é",
    "../../etc/passwd",
    "/etc/passwd",
    "</script>",
    "nan",
    "ok",
    "1e999",
    "a" * 99,
]
VALUES = [
    None,
    True,
    -1,
    0,
    1.5,
    1e308,
    10**12,
    10**30,
    "",
    "x",
    "../x",
    [],
    [[]],
    {},
    {"a": {}},
    [None],
]
TOKENS = [
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"NaN",
    b"[]",
    b"{}",
    b'""',
    b"10e11",
    b"'x'",
    b"[[1]]",
]


def damaged(content: bytes, random: random.Random, others: list[bytes]) -> bytes:
    """Return the bytes with one to four faults: cut, flipped, spliced, or a length made huge."""
    found = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        _FAULTS[random.randrange(len(_FAULTS))](found, random, others)
    return bytes(found)


def _place(found, random):
    # Headers are where it hurts: half of the faults are in the first 200 bytes.
    return (
        random.randrange(min(len(found), 200) if random.random() < 0.5 else len(found))
        if found
        else 0
    )


def _cut(found, random, others):
    del found[_place(found, random) :]


def _flip(found, random, others):
    for _ in range(random.choice([1, 1, 8])):
        if found:
            found[_place(found, random)] ^= 1 << random.randrange(8)


def _byte(found, random, others):
    if found:
        found[_place(found, random)] = random.randrange(256)


def _field(found, random, others):
    size, order, at = random.choice("BHIQ"), random.choice("<>"), _place(found, random)
    number = random.choice(NUMBERS) % (1 << 8 * struct.calcsize(size))
    found[at : at + struct.calcsize(size)] = struct.pack(order + size, number)


def _digits(found, random, others):
    numbers = list(re.finditer(rb"-?\d+", found))
    if numbers:
        number = random.choice(numbers)
        found[number.start() : number.end()] = str(random.choice(NUMBERS)).encode()


def _token(found, random, others):
    tokens = list(re.finditer(rb'"[^"]*"|\d+(\.\d+)?|true|null|\[\]|\w+', found))
    if tokens:
        token = random.choice(tokens)
        found[token.start() : token.end()] = random.choice(TOKENS)


def _remove(found, random, others):
    at = _place(found, random)
    del found[at : at + random.choice([1, 2, 8, 100])]


def _splice(found, random, others):
    other = random.choice([*others, bytes(found)]) or b"\x00"
    begin = random.randrange(len(other))
    section, at = other[begin : begin + random.choice([1, 4, 30, 500])], _place(found, random)
    found[at : at + random.choice([0, len(section)])] = section


def _repeat(found, random, others):
    at = _place(found, random)
    section = bytes(found[at : at + random.choice([1, 1, 8, 64])])
    found[at:at] = section * random.choice([2, 50, 3000])


def _nest(found, random, others):
    opening = random.choice([b"[", b'{"a":', b"(", b"a.", b"\x85", b"]", b"}"])
    at = _place(found, random)
    found[at:at] = opening * random.choice([10, 1000, 20000])


_FAULTS = [
    *(_cut, _flip, _flip, _byte, _field, _field, _digits, _token, _token),
    *(_remove, _splice, _splice, _repeat, _nest),
]


def damaged_json(text: str, random: random.Random) -> str:
    """Return a JSON text in which one to three values, or their names, are something else."""
    value = json.loads(text)
    for _ in range(random.choice([1, 1, 2, 3])):
        value = _other(value, random)
    return json.dumps(value)


def _other(value, random):
    """Return the value with one place in it replaced, removed or renamed, at any depth."""
    inside = isinstance(value, dict | list) and value and random.random() < 0.85
    if not inside:
        return random.choice([*VALUES, *TEXTS, *NUMBERS])
    if isinstance(value, list):
        at = random.randrange(len(value))
        return [*value[:at], _other(value[at], random), *value[at + 1 :]]
    name = random.choice(list(value))
    changed = dict(value)
    kind = random.random()
    if kind < 0.15:
        del changed[name]
    elif kind < 0.3:
        changed[random.choice([*TEXTS, *value])] = changed.pop(name)
    else:
        changed[name] = _other(value[name], random)
    return changed
