"""The content of scenes and their random generation."""

from dataclasses import dataclass, replace

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "moon")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted", "checked")
BACKDROPS = ("sky", "night", "grass", "sand", "sea", "snow", "bricks", "planks", "sunset", "tiles")

LAYOUTS = {"beside": 2, "stacked": 2, "overlapping": 2, "row": 3, "column": 3, "pyramid": 3}
"""Number of things of each layout; things are ordered left to right, top to bottom, or front to back."""

LAYOUT_WEIGHTS = (0.3, 0.3, 0.15, 0.08, 0.08, 0.09)
TEXTURE_WEIGHTS = (0.4, 0.2, 0.2, 0.2)

DIAMETERS = {"small": 0.28, "large": 0.46}
DIAMETERS_OF_THREE = {"small": 0.22, "large": 0.34}

CENTRES = {
    "beside": ((0.26, 0.5), (0.74, 0.5)),
    "stacked": ((0.5, 0.26), (0.5, 0.74)),
    "overlapping": ((0.42, 0.6), (0.54, 0.46)),
    "row": ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5)),
    "column": ((0.5, 0.18), (0.5, 0.5), (0.5, 0.82)),
    "pyramid": ((0.5, 0.27), (0.26, 0.72), (0.74, 0.72)),
}
"""Centres (x to the right, y downwards, as fractions of the image) of the things of each layout."""


@dataclass(frozen=True)
class Thing:
    """One coloured shape."""

    shape: str
    colour: str
    size: str
    texture: str


@dataclass(frozen=True)
class Scene:
    """The content of a picture; equal scenes may be drawn differently."""

    backdrop: str
    layout: str
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Placement:
    """The position of one thing: centre and radius as fractions of the image, tilt in radians."""

    x: float
    y: float
    radius: float
    tilt: float
    shade: float


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw one scene; its things differ in colour."""
    layout = str(rng.choice(tuple(LAYOUTS), p=LAYOUT_WEIGHTS))
    things: list[Thing] = []
    while len(things) < LAYOUTS[layout]:
        shape, colour, size = one_of(SHAPES, rng), one_of(COLOURS, rng), one_of(SIZES, rng)
        thing = Thing(shape, colour, size, texture=str(rng.choice(TEXTURES, p=TEXTURE_WEIGHTS)))
        if all(thing.colour != other.colour for other in things):
            things.append(thing)
    if layout == "overlapping":  # a small one in front of a large one, so that both are visible
        things = [replace(things[0], size="small"), replace(things[1], size="large")]
    return Scene(backdrop=one_of(BACKDROPS, rng), layout=layout, things=tuple(things))


def place(scene: Scene, rng: np.random.Generator) -> list[Placement]:
    """Draw the positions of a scene's things near the centres of its layout."""
    diameters = DIAMETERS if len(scene.things) == 2 else DIAMETERS_OF_THREE
    shift_x, shift_y = rng.uniform(-0.03, 0.03, 2).tolist()
    placements = []
    for thing, (x, y) in zip(scene.things, CENTRES[scene.layout], strict=True):
        dx, dy, size, tilt, shade = rng.uniform(-1, 1, 5).tolist()
        radius = diameters[thing.size] / 2 * (1 + 0.08 * size)
        placements.append(Placement(x + shift_x + 0.03 * dx, y + shift_y + 0.03 * dy, radius, 0.2 * tilt, 0.08 * shade))
    return placements


def one_of(words: tuple[str, ...], rng: np.random.Generator) -> str:
    """Return one of the words, with equal probability."""
    return words[int(rng.integers(len(words)))]
