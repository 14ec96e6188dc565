"""Writes assignment-vectors.json: who serves which unit, computed without Serinus.

Needs the package xxhash. Implement the same few lines in your language and test it against the file.
"""

import json

import xxhash

TABLES = [
    [],
    [("v2", 500_000, 0)],
    [("v2", 500_000, 50_000)],
    [("v2", 500_000, 250_000)],
    [("v2", 500_000, 500_000)],
    [("v2", 1_000_000, 1_000_000)],
    [("v2", 200_000, 100_000), ("v3", 300_000, 50_000)],
    [("v2", 200_000, 200_000), ("v3", 300_000, 300_000)],
    [("v2", 333_333, 333_333), ("v3", 333_333, 333_333), ("v4", 333_334, 333_334)],
]
SHADOWS = [("v2", 1_000_000), ("v2", 100_000), ("v3", 100_000), ("v1", 500_000), ("v2", 0)]
SALTS = ["", "k3-flights-v2", "s\u00e4lz"]
UNITS = [b"", b"N14228", b"ann", b"\x00", b"\xff\xfe\x1f", "J\u00fcrgen".encode(), b"r1", b"x" * 239, b"x" * 240, b"x" * 241,
         b"x" * 256, b"x" * 1500] + [f"unit-{i}".encode() for i in range(40)]


def point(salt: bytes, unit: bytes) -> float:
    return (xxhash.xxh3_64_intdigest(salt + b"\x1f" + unit) >> 11) * 2.0**-53


def arm(table, at):
    start = 0
    for version, width, share in table:
        if start / 1e6 <= at < (start + share) / 1e6:
            return version
        start += width
    return "v1"


def case(salt: str, unit: bytes):
    at = point(salt.encode(), unit)
    copied = [point(f"{salt}/shadow/{version}".encode(), unit) < share / 1e6 for version, share in SHADOWS]
    return {"salt": salt, "unit_hex": unit.hex(), "point": at, "arms": [arm(table, at) for table in TABLES], "copied": copied}


vectors = {
    "about": "point = (xxh3_64(salt ++ 0x1f ++ unit) >> 11) * 2^-53. Slices lie end to end; at its share a version serves the first of its "
    "slice, and v1 is stable. `arms` has one version for each table, `copied` one truth for each shadow, drawn with salt ++ \"/shadow/\" "
    "++ version. Widths and shares are in millionths.",
    "tables": [{"slices": [{"version": v, "width": w, "share": s} for v, w, s in table]} for table in TABLES],
    "shadows": [{"version": v, "share": s} for v, s in SHADOWS],
    "cases": [case(salt, unit) for salt in SALTS for unit in UNITS],
}
head, cases = {k: v for k, v in vectors.items() if k != "cases"}, vectors["cases"]
text = json.dumps(head, indent=1)[:-2] + ',\n "cases": [\n  ' + ",\n  ".join(json.dumps(it) for it in cases) + "\n ]\n}\n"
json.loads(text)
with open("assignment-vectors.json", "w", encoding="utf-8") as file:
    file.write(text)
