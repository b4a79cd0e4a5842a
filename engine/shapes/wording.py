"""Captions of scenes: differently worded, most of them incomplete."""

from dataclasses import dataclass

import numpy as np

from engine.shapes.scene import Scene, Thing, one_of

SHAPE_WORDS = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "pyramid"),
    "star": ("star",),
    "cross": ("cross", "plus sign"),
    "heart": ("heart", "valentine"),
    "ring": ("ring", "hoop", "doughnut"),
    "moon": ("moon", "crescent"),
}
COLOUR_WORDS = {
    "red": ("red", "scarlet"),
    "orange": ("orange",),
    "yellow": ("yellow", "lemon-coloured"),
    "green": ("green", "emerald"),
    "blue": ("blue", "royal blue"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rosy"),
    "brown": ("brown", "chocolate-coloured"),
    "black": ("black", "jet-black"),
    "white": ("white",),
}
SIZE_WORDS = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
TEXTURE_WORDS = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
VAGUE_WORDS = ("shape", "figure", "thing")

BACKDROP_PHRASES = {
    "sky": ("in the sky", "among the clouds", "against a blue sky", "floating in the cloudy sky"),
    "night": ("at night", "under the stars", "in a starry night", "against the dark night sky"),
    "grass": ("on the grass", "on a green lawn", "in a meadow", "lying on the lawn"),
    "sand": ("on the sand", "on a sandy beach", "in the desert sand", "at the beach"),
    "sea": ("on the sea", "in the water", "above the waves", "floating on the waves"),
    "snow": ("in the snow", "on a snowy hill", "in a white winter landscape", "on the snow"),
    "bricks": ("in front of a brick wall", "against a brick wall", "on a wall of bricks", "by the brick wall"),
    "planks": ("on a wooden wall", "in front of wooden boards", "on brown planks", "against a wooden fence"),
    "sunset": ("at sunset", "in the evening sun", "against an orange evening sky", "while the sun goes down"),
    "tiles": ("on a tiled floor", "on grey tiles", "on the kitchen tiles", "on a floor of grey tiles"),
}

RELATED = {
    "beside": (
        "{a} to the left of {b}",
        "{b} to the right of {a}",
        "{a} on the left and {b} on the right",
        "{b} on the right side of {a}",
        "on the left {a} and on the right {b}",
    ),
    "stacked": (
        "{a} above {b}",
        "{b} below {a}",
        "{a} at the top and {b} at the bottom",
        "{b} underneath {a}",
        "{a} hovering over {b}",
    ),
    "overlapping": (
        "{a} in front of {b}",
        "{b} partly hidden behind {a}",
        "{a} overlapping {b}",
        "{b} half covered by {a}",
    ),
    "row": (
        "{a} , {b} and {c} in a row",
        "{b} in the middle between {a} on the left and {c} on the right",
        "from left to right {a} , {b} and {c}",
        "from right to left {c} , {b} and {a}",
    ),
    "column": (
        "{a} , {b} and {c} in a column",
        "{b} in the middle between {a} above and {c} below",
        "from top to bottom {a} , {b} and {c}",
        "{c} at the bottom , {b} above it and {a} at the top",
    ),
    "pyramid": (
        "{a} above {b} and {c}",
        "{b} and {c} below {a}",
        "{a} at the top , {b} at the bottom left and {c} at the bottom right",
        "{b} beside {c} and {a} over both",
    ),
}
"""Sentences with the positions of the things; a, b, c are the scene's things in order."""

UNRELATED = {
    2: ("{a} and {b}", "{b} and {a}", "{a} with {b}", "{b} together with {a}"),
    3: ("{a} , {b} and {c}", "{c} , {a} and {b}", "{b} with {a} and {c}", "three shapes : {c} , {b} and {a}"),
}
"""Sentences without the positions of the things."""

FRAMES = ("{} .", "there is {} .", "a picture of {} .", "we see {} .", "{} can be seen .")


@dataclass(frozen=True)
class Detail:
    """Probability that a caption mentions each attribute."""

    shape: float
    colour: float
    size: float
    texture: float
    backdrop: float
    relation: float


COMPLETE = Detail(shape=1, colour=1, size=1, texture=1, backdrop=1, relation=1)
USUAL = Detail(shape=0.92, colour=0.88, size=0.4, texture=0.55, backdrop=0.75, relation=0.6)


def captions_of(scene: Scene, *, count: int, rng: np.random.Generator) -> list[str]:
    """Return ``count`` different captions in random order; one of them is complete."""
    captions = {caption(scene, COMPLETE, rng): None}
    while len(captions) < count:
        captions[caption(scene, USUAL, rng)] = None
    texts = list(captions)
    return [texts[index] for index in rng.permutation(count)]


def caption(scene: Scene, detail: Detail, rng: np.random.Generator) -> str:
    """Return a caption that mentions each attribute with its probability in ``detail``."""
    names = dict(zip("abc", (noun_phrase(thing, detail, rng) for thing in scene.things), strict=False))
    related = rng.random() < detail.relation
    text = one_of(RELATED[scene.layout] if related else UNRELATED[len(scene.things)], rng).format(**names)
    if rng.random() < detail.backdrop:
        where = one_of(BACKDROP_PHRASES[scene.backdrop], rng)
        text = f"{where} , {text}" if rng.random() < 0.25 else f"{text} {where}"
    framed = one_of(FRAMES, rng).format(text) if text.startswith(("a ", "an ")) else f"{text} ."
    sentence = framed.replace(" ,", ",").replace(" :", ":").replace(" .", ".")
    return sentence[0].upper() + sentence[1:]


def noun_phrase(thing: Thing, detail: Detail, rng: np.random.Generator) -> str:
    """Name one thing, e.g. ``a small striped red star``; the colour is always named if the shape is not."""
    words = []
    says_shape = rng.random() < detail.shape
    if rng.random() < detail.size:
        words.append(common_word(SIZE_WORDS[thing.size], rng))
    if rng.random() < detail.texture * (0.3 if thing.texture == "plain" and detail.texture < 1 else 1):
        words.append(common_word(TEXTURE_WORDS[thing.texture], rng))
    if rng.random() < detail.colour or not says_shape:
        words.append(common_word(COLOUR_WORDS[thing.colour], rng))
    words.append(common_word(SHAPE_WORDS[thing.shape], rng) if says_shape else one_of(VAGUE_WORDS, rng))
    phrase = " ".join(words)
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def common_word(words: tuple[str, ...], rng: np.random.Generator) -> str:
    """Return the first word two times in three, else one of its synonyms."""
    return words[0] if rng.random() < 2 / 3 or len(words) == 1 else one_of(words[1:], rng)
