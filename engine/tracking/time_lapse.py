"""Time-lapse of a synthetic set: a small frame of its first images at each validation, and the animation of them."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from engine.io.files import atomic_path
from engine.io.storage import Location, matching, read_whole

SHOWN, COLUMNS, PX, GAP = 12, 4, 96, 2
SECONDS = 8.0
"""Length of the animation, unless a frame would then be shown for less than 0.1 s or more than 0.8 s."""


def as_image(pixels: Float[Tensor, "3 h w"]) -> Image.Image:
    """Return one image of a set; pixels outside [0, 1] are clamped, and NaN is black."""
    values = np.nan_to_num(pixels.detach().float().cpu().numpy(), nan=0.0).clip(0.0, 1.0)
    return Image.fromarray((255 * values.transpose(1, 2, 0)).round().astype(np.uint8))


def small_webp(image: Image.Image, *, px: int, quality: int) -> str:
    """Return an image of at most ``px`` pixels as WebP in base64, without loss where its pixels can be seen."""
    small = image.width < px
    image.thumbnail((px, px))
    target = io.BytesIO()
    image.save(target, "WEBP", lossless=small, quality=quality)
    return base64.b64encode(target.getvalue()).decode()


def write_frame(folder: Location, images: Float[Tensor, "n 3 h w"], *, outer_step: int) -> None:
    """Write the first ``SHOWN`` images beside each other, each at most ``PX`` pixels wide, as the frame of a step."""
    shown = [as_image(one) for one in images[:SHOWN]]
    for image in shown:
        image.thumbnail((PX, PX))
    width, height = shown[0].size
    columns, rows = min(COLUMNS, len(shown)), math.ceil(len(shown) / COLUMNS)
    page = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "grey")
    for index, image in enumerate(shown):
        row, column = divmod(index, COLUMNS)
        page.paste(image, (column * (width + GAP), row * (height + GAP)))
    with atomic_path(folder / f"{outer_step:07d}.webp") as temporary:
        page.save(temporary, "WEBP", quality=85)


def frames(folder: Location) -> list[tuple[int, Location]]:
    """Return the outer steps and the files of the frames in a folder, in order of the steps."""
    return sorted((int(file.stem), file) for file in matching(folder, "*.webp") if file.stem.isdecimal())


def animated(files: Sequence[Location]) -> bytes:
    """Return frames as one endless WebP animation that stops for a second at its end."""
    pages = [Image.open(io.BytesIO(read_whole(file))).convert("RGB") for file in files]
    each = int(1000 * min(0.8, max(0.1, SECONDS / len(pages))))
    target = io.BytesIO()
    durations = [*[each] * (len(pages) - 1), each + 1000]
    pages[0].save(target, "WEBP", save_all=True, append_images=pages[1:], duration=durations, loop=0, quality=80)
    return target.getvalue()
