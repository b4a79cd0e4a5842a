"""The frozen text tower of any CLIP of open_clip, with its projection into the space that CLIP shares with images."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float32, Int64
from torch import Tensor, nn

from engine.io.files import digest
from engine.io.paths import Paths
from engine.models.open_clip import load_clip, quiet
from engine.models.text.transformers import weights_digest

BATCH_SIZE = 64
PROBES = ["a dog runs across the grass", "Two people, 3 bicycles & a red car!"]
"""What their tokens are tells tokenizers of different rules apart."""


class OpenClipEncoder:
    """A frozen CLIP text tower in evaluation mode; ``tokenize`` cuts captions to the length that it was made for."""

    def __init__(self, model: Any, tokenize: Callable[[list[str]], Int64[Tensor, "b n"]], *, normalize: bool) -> None:
        model.visual = nn.Identity()  # the image tower is not needed, nor part of the identity
        self.model = model.eval().requires_grad_(False)
        self.tokenize = tokenize
        self.normalize = normalize
        self.dim = len(self.embed(PROBES[:1])[0])
        options = json.dumps({"normalize": normalize, "tokens": tokenize(PROBES).tolist()})
        self.key = f"open_clip/1 {digest(options)} {weights_digest(model)}"

    def fit(self, captions: Sequence[str]) -> None:
        """Do nothing: the model is pretrained."""

    @torch.no_grad()
    def embed(self, captions: Sequence[str]) -> Float32[Tensor, "m dim"]:
        """Return one projected embedding a caption, unit vectors if ``normalize``."""
        batches = [list(captions[start : start + BATCH_SIZE]) for start in range(0, len(captions), BATCH_SIZE)]
        embedded = [self.model.encode_text(self.tokenize(batch), normalize=self.normalize) for batch in batches]
        return torch.cat(embedded).float() if embedded else torch.empty(0, self.dim)


def build(
    paths: Paths, *, model: str, pretrained: str | None = None, weights: str | None = None, normalize: bool = True
) -> OpenClipEncoder:
    """Build the text tower of ``model`` with its tokenizer.

    Weights come from a folder of the model's name below the weights folder, from the tag ``pretrained`` of open_clip,
    or from the local safetensors file ``weights`` of the whole CLIP.

    Raises:
        FileNotFoundError: ``weights`` is not there.
        ValueError: there is no such model or tag, its weights or its tokenizer cannot be had, or no weights are named.
    """
    loaded = load_clip(paths, model=model, pretrained=pretrained, weights=weights, key="student.text")
    if not loaded.pretrained:
        raise ValueError(f"student.text.pretrained: {model} is frozen, expected a tag of its weights, or text.weights.")
    import open_clip

    try:
        with quiet():
            tokenize = open_clip.get_tokenizer(loaded.name)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"student.text.model: the tokenizer of {model!r} could not be had ({reason}).") from error
    return OpenClipEncoder(loaded.model, tokenize, normalize=normalize)
