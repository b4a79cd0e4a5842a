"""Images that are mosaics: a student sees one of their tiles at a time, enlarged to the image's size."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import interpolate


def check_tiles(tiles: int, images: Float[Tensor, "n 3 h w"]) -> None:
    """Check that images can be cut into ``tiles`` tiles a side.

    Raises:
        ValueError: their height or width cannot be divided by it.
    """
    height, width = images.shape[2:]
    if tiles < 1 or height % tiles or width % tiles:
        raise ValueError(f"tiles is {tiles}, expected a divisor of {height} and {width}, the pixels of the images.")


def tiles_of(images: Float[Tensor, "n 3 h w"], tiles: int) -> Float[Tensor, "n t 3 h w"]:
    """Return all t = ``tiles`` x ``tiles`` tiles of each image, row by row, enlarged to the size of the image.

    Enlarging is bicubic, as a product with two matrices, which repeats bitwise on a GPU where the gradient of
    ``interpolate`` does not.

    References:
        The multi-formation of IDC, arXiv 2205.14959 (bilinear there).
    """
    if tiles == 1:
        return images[:, None]
    count, channels, height, width = images.shape
    cut = images.reshape(count, channels, tiles, height // tiles, tiles, width // tiles)
    return _enlarged(cut.permute(0, 2, 4, 1, 3, 5).flatten(1, 2), height, width)


def drawn_tiles(images: Float[Tensor, "n 3 h w"], tiles: int, generator: Generator) -> Float[Tensor, "n 3 h w"]:
    """Return one random tile of each image, enlarged; differentiable. ``generator`` lives on the CPU."""
    count, channels, height, width = images.shape
    row, column = torch.randint(tiles, (2, count), generator=generator).to(images.device)
    every = torch.arange(count, device=images.device)
    cut = images.reshape(count, channels, tiles, height // tiles, tiles, width // tiles)
    return _enlarged(cut[every, :, row, :, column], height, width)


def mosaics(photos: Float[Tensor, "n t 3 h w"], tiles: int) -> Float[Tensor, "n 3 h w"]:
    """Return images whose tiles are the ``tiles`` x ``tiles`` photos of each row, reduced bicubically."""
    count, _, channels, height, width = photos.shape
    side = (height // tiles, width // tiles)
    small = interpolate(photos.flatten(0, 1), size=side, mode="bicubic", antialias=True).clamp(0, 1)
    placed = small.reshape(count, tiles, tiles, channels, *side).permute(0, 3, 1, 4, 2, 5)
    return placed.reshape(count, channels, height, width)


def _enlarged(images: Float[Tensor, "*b h w"], height: int, width: int) -> Float[Tensor, "*b {height} {width}"]:
    rows, columns = (_enlarging(*sizes).to(images) for sizes in ((images.shape[-2], height), (images.shape[-1], width)))
    return rows @ images @ columns.mT


def _enlarging(size: int, larger: int) -> Float[Tensor, "{larger} {size}"]:
    """Return the matrix that enlarges a row of ``size`` values bicubically."""
    return interpolate(torch.eye(size)[None, None], size=(larger, size), mode="bicubic")[0, 0]
