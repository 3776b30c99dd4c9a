"""The vocabulary: kinds, parts, colours, patterns, backgrounds, synonyms, and what is held out of training."""

from __future__ import annotations

from typing import Final

KINDS: Final = (
    "circle",
    "star",
    "heart",
    "fish",
    "house",
    "tree",
    "car",
    "boat",
    "cup",
    "leaf",
    "mushroom",
    "umbrella",
)
PARTS: Final = (
    "eye",
    "fin",
    "tail",
    "roof",
    "window",
    "door",
    "trunk",
    "wheel",
    "sail",
    "mast",
    "handle",
    "vein",
    "stem",
)
# Backgrounds have no colour word: "green" must mean a green object, or the truth of a colour unit would be ambiguous.
BACKGROUNDS: Final = (
    "cloudy sky",
    "grassy lawn",
    "sandy beach",
    "brick wall",
    "rippling water",
    "wooden planks",
    "starry night",
)
COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (206, 44, 40),
    "orange": (240, 138, 36),
    "yellow": (246, 212, 48),
    "green": (58, 160, 62),
    "blue": (44, 92, 204),
    "purple": (132, 58, 168),
    "pink": (244, 128, 180),
    "brown": (124, 82, 50),
    "black": (38, 38, 42),
    "white": (244, 243, 240),
}
PATTERNS: Final = ("solid", "striped", "dotted", "checked")

OPTIONAL_PARTS: Final = frozenset({"window", "door", "fin", "handle", "vein", "sail"})
"""Parts that an object may lack, so that a part and its kind are two different concepts."""

PARTS_OF: Final[dict[str, tuple[str, ...]]] = {
    "fish": ("tail", "fin", "eye"),
    "house": ("roof", "door", "window"),
    "tree": ("trunk",),
    "car": ("wheel", "window"),
    "boat": ("mast", "sail"),
    "cup": ("handle",),
    "leaf": ("vein",),
    "mushroom": ("stem",),
    "umbrella": ("handle",),
}

HELD_OUT: Final = (("purple", "house"), ("striped", "star"), ("checked", "leaf"))
"""(colour or pattern, kind) pairs that never occur in the train split, so that generalisation can be measured."""

CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    "object": KINDS,
    "part": PARTS,
    "color": tuple(COLOURS),
    "texture": PATTERNS,
    "scene": BACKGROUNDS,
}
"""Category, in Broden's words → concept names."""

CONCEPTS: Final[tuple[str, ...]] = tuple(name for names in CATEGORIES.values() for name in names)
"""All concepts; the order of the target model's outputs."""

CATEGORY_OF: Final[dict[str, str]] = {name: category for category, names in CATEGORIES.items() for name in names}

SYNONYMS: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("disc", "disk", "ball"),
    "house": ("home", "cottage", "hut"),
    "car": ("automobile", "vehicle"),
    "boat": ("ship", "sailboat", "sailing boat"),
    "cup": ("mug",),
    "mushroom": ("toadstool",),
    "umbrella": ("parasol",),
    "purple": ("violet",),
    "solid": ("plain",),
    "striped": ("stripes", "stripy", "stripe"),
    "dotted": ("dots", "polka dots", "spotted", "dot"),
    "checked": ("checkered", "chequered", "checkerboard", "check"),
    "cloudy sky": ("sky", "clouds", "cloud"),
    "grassy lawn": ("lawn", "grass", "grassy"),
    "sandy beach": ("beach", "sand", "sandy"),
    "brick wall": ("brick", "bricks", "wall"),
    "rippling water": ("water", "waves", "rippling"),
    "wooden planks": ("wood", "planks", "wooden", "plank"),
    "starry night": ("night", "starry", "stars at night", "night sky"),
}
"""Concept → other names for it; the truth's synonym list. No colour has one that could mean another colour."""

WORLD_SEED: Final = 20261122
WORLD: Final = 2
"""Version of the scenes: raised whenever a scene of the same number looks different."""
SIZE: Final = 224
"""Side in pixels at which scenes are drawn."""
SIDE: Final = 112
"""Side of the networks' input in pixels."""
GRID: Final = SIDE // 4
"""Side of the grid of positions at which training and planted units look up the content."""
SPLITS: Final[dict[str, int]] = {"train": 0, "probe": 10_000_000, "test": 20_000_000}
"""Split → index of its first scene; each has ten million."""
