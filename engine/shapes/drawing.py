"""Drawing scenes with numpy, at a multiple of the wanted size and averaged down."""

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from engine.shapes.scene import Placement, Scene, Thing, place

Plane = Float32[np.ndarray, "h w"]
Mask = Bool[np.ndarray, "h w"]
Canvas = Float32[np.ndarray, "h w 3"]

RGB = {
    "red": (0.86, 0.12, 0.12),
    "orange": (0.98, 0.53, 0.05),
    "yellow": (0.98, 0.90, 0.15),
    "green": (0.10, 0.55, 0.20),
    "blue": (0.10, 0.25, 0.85),
    "purple": (0.50, 0.15, 0.65),
    "pink": (0.99, 0.55, 0.75),
    "brown": (0.45, 0.25, 0.10),
    "black": (0.06, 0.06, 0.07),
    "white": (0.97, 0.97, 0.97),
}
"""Colours of things, sRGB in [0, 1]."""


def draw(scene: Scene, *, image_px: int, rng: np.random.Generator) -> UInt8[np.ndarray, "3 h w"]:
    """Draw one picture of a scene; ``rng`` draws positions, sizes and shades."""
    scale = 3 if image_px < 96 else 2
    px = image_px * scale
    axis = (np.arange(px, dtype=np.float32) + 0.5) / px
    x, y = np.meshgrid(axis, axis)
    canvas = np.empty((px, px, 3), np.float32)
    if scene.backdrop in ("bricks", "planks", "tiles"):
        draw_surface(canvas, scene.backdrop, x, y, rng)
    else:
        draw_landscape(canvas, scene.backdrop, x, y, rng)
    canvas += rng.uniform(-0.06, 0.06, 3).astype(np.float32)
    placements = place(scene, rng)
    for thing, placement in reversed(list(zip(scene.things, placements, strict=True))):  # the front one last
        draw_thing(canvas, axis, thing, placement)
    rows = canvas.reshape(image_px, scale, -1).sum(axis=1)
    total = rows.reshape(image_px, image_px, scale, 3).sum(axis=2)
    return np.round((total / scale**2).clip(0, 1) * 255).astype(np.uint8).transpose(2, 0, 1)


def draw_thing(canvas: Canvas, axis: Float32[np.ndarray, " h"], thing: Thing, placement: Placement) -> None:
    """Paint one thing with its outline onto ``canvas`` in place; only the pixels around it are computed."""
    reach = placement.radius * 1.5
    rows = slice(*np.searchsorted(axis, (placement.y - reach, placement.y + reach)))
    columns = slice(*np.searchsorted(axis, (placement.x - reach, placement.x + reach)))
    u = (axis[None, columns] - placement.x) / placement.radius
    v = (axis[rows, None] - placement.y) / placement.radius
    cosine, sine = np.float32(np.cos(placement.tilt)), np.float32(np.sin(placement.tilt))
    u, v = cosine * u + sine * v, cosine * v - sine * u
    bright = float(np.dot(RGB[thing.colour], (0.3, 0.6, 0.1))) > 0.35
    patch, away = canvas[rows, columns], distance(thing.shape, u, v)
    patch[away < 0.16] = 0.1 if bright else 0.92  # an outline: light around dark things, dark around light ones
    first = np.asarray(RGB[thing.colour], np.float32) + np.float32(placement.shade)
    bright = float(first @ np.asarray((0.3, 0.6, 0.1), np.float32)) > 0.55
    second = first * np.float32(0.45) if bright else first * np.float32(0.35) + np.float32(0.62)
    patch[away < 0] = first
    patch[(away < 0) & textured(thing.texture, u, v)] = second


def distance(shape: str, u: Plane, v: Plane) -> Plane:
    """Return the distance to a shape of radius 1, as a fraction of its radius and negative inside."""
    match shape:
        case "circle":  # a disc
            return np.hypot(u, v) - np.float32(0.95)
        case "square":  # a square
            return np.maximum(abs(u), abs(v)) - np.float32(0.82)
        case "triangle":  # a triangle that stands on its side
            return np.maximum(
                v - np.float32(0.75), (abs(u) * np.float32(0.9) - (v + np.float32(1.0)) * np.float32(0.46))
            )
        case "star":  # a five-pointed star
            turn = np.float32(2 * np.pi / 5)
            angle = np.arctan2(u, -v)
            sector = abs((angle + turn / 2) % turn - turn / 2)
            radius = np.hypot(u, v)
            x, y = radius * np.cos(sector), radius * np.sin(sector)
            return (x - np.float32(1.08)) * np.float32(0.5) + y * np.float32(0.87)
        case "cross":  # an upright cross
            long, short = np.maximum(abs(u), abs(v)), np.minimum(abs(u), abs(v))
            return np.maximum(long - np.float32(0.95), short - np.float32(0.32))
        case "heart":  # a heart: two discs above a wedge
            lobes = np.hypot(abs(u) - np.float32(0.44), v + np.float32(0.34)) - np.float32(0.52)
            wedge = np.maximum(
                (abs(u) + v * np.float32(0.95) - np.float32(0.86)) * np.float32(0.72), -v - np.float32(0.34)
            )
            wedge = np.maximum(wedge, abs(u) - np.float32(0.95))
            return np.minimum(lobes, wedge)
        case "ring":  # a ring
            return abs(np.hypot(u, v) - np.float32(0.7)) - np.float32(0.27)
        case "moon":  # a crescent open to the right
            return np.maximum(np.hypot(u, v) - np.float32(1.0), np.float32(0.78) - np.hypot(u - np.float32(0.52), v))
    raise AssertionError(f"there is no drawing of the shape {shape}")


def textured(texture: str, u: Plane, v: Plane) -> Mask:
    """Return where a thing has its second colour."""
    match texture:
        case "plain":  # no second colour
            return np.zeros(u.shape, bool)
        case "striped":  # slanted stripes, three across a thing
            return np.sin((u + v * np.float32(0.6)) * np.float32(6.5)) > 0.1
        case "dotted":  # round dots on a square grid
            pitch = np.float32(0.62)
            x, y = (u / pitch) % 1 - np.float32(0.5), (v / pitch) % 1 - np.float32(0.5)
            return x * x + y * y < np.float32(0.085)
        case "checked":  # a chequerboard
            return (np.floor(u * np.float32(1.8)) + np.floor(v * np.float32(1.8))) % 2 == 0
    raise AssertionError(f"there is no drawing of the texture {texture}")


def colour(*values: float) -> Float32[np.ndarray, " 3"]:
    """Return an sRGB colour in [0, 1]."""
    return np.asarray(values, np.float32)


def gradient(y: Plane, *stops: Float32[np.ndarray, " 3"]) -> Float32[np.ndarray, "h 1 3"]:
    """Interpolate colours linearly from the top to the bottom row of the image."""
    position = y[:, :1] * (len(stops) - 1)
    index = np.minimum(position.astype(int), len(stops) - 2)
    table = np.stack(stops)
    weight = (position - index).astype(np.float32)[..., None]
    return table[index] + weight * (table[index + 1] - table[index])


def grain(shape: tuple[int, int], cells: int, rng: np.random.Generator) -> Plane:
    """Blocks of noise, ``cells`` across, each in [-1, 1]."""
    values = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    index = np.arange(shape[0]) * cells // shape[0]
    return values[index[:, None], index[None, :]]


def draw_landscape(canvas: Canvas, name: str, x: Plane, y: Plane, rng: np.random.Generator) -> None:
    """Fill a canvas with a landscape in place."""
    match name:
        case "sky":  # blue with white clouds
            canvas[:] = gradient(y, colour(0.35, 0.62, 0.92), colour(0.72, 0.86, 0.97))
            for cx, cy in rng.uniform(0.05, 0.95, (3, 2)):
                for shift in (-0.07, 0.0, 0.07):
                    canvas[(x - cx - shift) ** 2 + (2 * (y - cy)) ** 2 < 0.007] = colour(0.97, 0.97, 0.99)
        case "night":  # dark blue with stars
            canvas[:] = gradient(y, colour(0.04, 0.04, 0.16), colour(0.12, 0.10, 0.30))
            for cx, cy in rng.uniform(0, 1, (18, 2)):
                canvas[abs(x - cx) + abs(y - cy) < 0.022] = colour(0.95, 0.95, 0.75)
        case "grass":  # green with blades
            canvas[:] = colour(0.40, 0.72, 0.28) + 0.10 * grain(x.shape, 48, rng)[..., None]
        case "sand":  # yellowish with ripples
            phase = rng.uniform(0, 6.28)
            ripples = np.sin(34 * y + 2.2 * np.sin(7 * x + phase) + phase)
            canvas[:] = colour(0.88, 0.76, 0.50) + 0.06 * ripples[..., None] + 0.04 * grain(x.shape, 48, rng)[..., None]
        case "sea":  # blue-green with the crests of waves
            waves = np.sin(28 * y + 1.2 * np.sin(16 * x + rng.uniform(0, 6.28)))
            canvas[:] = colour(0.08, 0.42, 0.55) + 0.05 * waves[..., None]
            canvas[waves > 0.85] = colour(0.55, 0.80, 0.85)
        case "snow":  # white hills under a pale sky
            hills = 0.35 + 0.08 * np.sin(6 * x + rng.uniform(0, 6.28))
            canvas[:] = np.where((y > hills)[..., None], colour(0.93, 0.95, 0.98), colour(0.70, 0.76, 0.82))
        case "sunset":  # purple above, orange below, the sun on the horizon
            canvas[:] = gradient(y, colour(0.36, 0.20, 0.48), colour(0.90, 0.42, 0.38), colour(1.0, 0.75, 0.35))
            sun = rng.uniform(0.2, 0.8)
            canvas[(x - sun) ** 2 + (y - 0.85) ** 2 < 0.02] = colour(1.0, 0.95, 0.65)
            canvas[y > 0.88] = colour(0.25, 0.13, 0.28)
        case _:
            raise AssertionError(f"there is no drawing of the backdrop {name}")


def draw_surface(canvas: Canvas, name: str, x: Plane, y: Plane, rng: np.random.Generator) -> None:
    """Fill a canvas with a wall or a floor in place."""
    match name:
        case "bricks":  # a wall of reddish bricks
            row = np.floor(y * 8)
            column = x * 4 + 0.5 * (row % 2) + rng.uniform(0, 1)
            mortar = ((y * 8) % 1 < 0.16) | (column % 1 < 0.08)
            canvas[:] = np.where(mortar[..., None], colour(0.80, 0.76, 0.70), colour(0.66, 0.30, 0.24))
        case "planks":  # upright wooden boards
            board = np.floor(x * 6 + rng.uniform(0, 1)).astype(int)
            shade = rng.uniform(-0.08, 0.08, 8).astype(np.float32)[board]
            canvas[:] = colour(0.68, 0.47, 0.27) + shade[..., None]
            canvas[(x * 6 - np.floor(x * 6)) < 0.1] = colour(0.36, 0.22, 0.11)
        case "tiles":  # a floor of light and dark grey tiles
            shift = rng.uniform(0, 1, 2)
            dark = (np.floor(x * 5 + shift[0]) + np.floor(y * 5 + shift[1])) % 2 == 0
            canvas[:] = np.where(dark[..., None], colour(0.46, 0.47, 0.50), colour(0.74, 0.75, 0.77))
        case _:
            raise AssertionError(f"there is no drawing of the backdrop {name}")
