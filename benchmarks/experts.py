"""Claim: an expert's pairs a second, on features computed once or photos decoded once, against the published loop.

python -m benchmarks.experts [--photos 256] [--px 128] [--batch 64] [--layers 6] [--tokens 16] [--repeat 3]

Both train the same student (MobileNetV1-0.25 and a BERT, random weights) on the same batches of made photos (JPEG of
500 x 375) and captions, once with heads alone and once with the whole image encoder. The published loop (the buffer of
arXiv 2308.07545) decodes the photos of each batch and runs both encoders on it, though that of texts is frozen. Ours
trains on what ``engine.data`` prepares once, which is timed beside it and serves all experts and epochs. Each saves
what it keeps of an epoch: the published loop all parameters by ``torch.save``, ours those that are trained. The
captions of the published loop are tokenised before.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, normalize
from transformers import BertConfig, BertModel

from benchmarks.common import Row, check_same, difference, interleave, main, timed
from benchmarks.gradients import TEXT_FEATURES, student
from engine.data.images import decode
from engine.data.prepared import PreparedPairs, as_inputs, features
from engine.experts.store import ExpertStore
from engine.experts.train import ExpertRecipe, epoch_batches, train_epoch
from engine.models.two_tower import Train, TwoTower
from engine.rng import forked, named_generator
from engine.tensors import Params, sgd_groups

CAPTIONS, VOCABULARY = 5, 30_000
GOALS: dict[Train, str] = {"frozen": ">= 50", "full": ">= 4"}
WHY: dict[Train, str] = {
    "frozen": "photos are small, and so is what encodes them",
    "full": "on a CPU the encoder's own gradient binds, which both compute",
}


@dataclass(frozen=True)
class Size:
    """Photos with five captions each; layers, width and tokens are those of the text encoder."""

    photos: int = 256
    px: int = 128
    batch: int = 64
    layers: int = 6
    width: int = TEXT_FEATURES
    tokens: int = 16
    repeat: int = 3


SMALLEST = Size(photos=8, px=32, batch=16, layers=1, tokens=4, repeat=1)


class Captions(nn.Module):
    """A BERT with random weights; the embedding of a caption is the mean over its tokens."""

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        shape = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": max(1, width // 32)}
        with forked(named_generator(0, "bert")):
            self.bert = BertModel(BertConfig(vocab_size=VOCABULARY, num_hidden_layers=layers, **shape)).eval()

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        return self.bert(tokens).last_hidden_state.mean(dim=1)


@dataclass(frozen=True)
class Photos:
    """Made photos on the disk, and the tokens of their captions."""

    files: list[Path]
    tokens: Tensor
    caption_image: np.ndarray
    text: Captions

    @classmethod
    def made(cls, folder: Path, size: Size) -> "Photos":
        """Write smooth random photos, which compress as others do, and draw captions."""
        draws, files = np.random.default_rng(0), [folder / f"{number}.jpg" for number in range(size.photos)]
        for file in files:
            coarse = Image.fromarray(draws.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            coarse.resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)
        generator, number = named_generator(0, "captions"), size.photos * CAPTIONS
        tokens = torch.randint(VOCABULARY, (number, size.tokens), generator=generator)
        return cls(files, tokens, np.arange(number) // CAPTIONS, Captions(size.layers, size.width))

    def prepared(self, two_tower: TwoTower, train: Train, px: int) -> PreparedPairs:
        """Return what ours is trained on: decoded photos, or their features, and embeddings of the captions."""
        photos = np.stack([decode(file, image_px=px) for file in self.files])
        images = features(two_tower.image, photos, device=two_tower.device) if train == "frozen" else photos
        texts = np.concatenate([self.text(tokens).numpy() for tokens in self.tokens.split(64)])
        return PreparedPairs(images, texts, self.caption_image)


def ours(two_tower: TwoTower, pairs: PreparedPairs, start: Params, recipe: ExpertRecipe, folder: Path) -> Params:
    """Train one epoch and store its snapshot."""
    params = train_epoch(two_tower, start, pairs, recipe=recipe, generator=named_generator(0, "epoch"))
    ExpertStore(folder).save(0, 1, params)
    return params


def published(two_tower: TwoTower, photos: Photos, start: Params, recipe: ExpertRecipe, px: int, file: Path) -> Params:
    """Train one epoch with the loop of published code, and save all parameters."""
    params = {name: value.clone().requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.SGD(sgd_groups(params, recipe.learning_rates), lr=0.0)
    sides = {m: {n[len(m) + 1 :]: v for n, v in params.items() if n.startswith(m)} for m in ("image", "text")}
    pairs = PreparedPairs(np.empty(0), np.empty(0), photos.caption_image)
    for rows in epoch_batches(pairs, recipe, named_generator(0, "epoch")):
        images = [decode(photos.files[number], image_px=px) for number in pairs.images_of(rows)]
        inputs = two_tower.image.prepare(as_inputs(np.stack(images), two_tower.device)).detach()
        embedded = functional_call(two_tower.image.trained, sides["image"], (inputs,))
        texts = functional_call(two_tower.text.trained, sides["text"], (photos.text(photos.tokens[rows]),))
        logits = normalize(embedded, dim=-1) @ normalize(texts, dim=-1).T / two_tower.temperature
        truth = torch.arange(len(rows))
        optimiser.zero_grad()
        ((cross_entropy(logits, truth) + cross_entropy(logits.T, truth)) / 2).backward()
        optimiser.step()
    params = {name: value.detach() for name, value in params.items()}
    torch.save([params, two_tower.image.frozen.state_dict()], file)
    return params


def measure(size: Size) -> Iterator[Row]:
    """Yield one row for heads and one for the whole image encoder."""
    for train, name in (("frozen", "heads"), ("full", "full")):
        two_tower, recipe = student(train=train, head="mlp", width=256), ExpertRecipe(batch_size=size.batch)
        two_tower = two_tower.to(torch.device("cpu"))
        recipe = replace(recipe, learning_rates=dict.fromkeys(recipe.learning_rates, 0.03))
        start = two_tower.init_params(named_generator(0, "expert"))
        with tempfile.TemporaryDirectory() as folder:
            where = Path(folder)
            photos = Photos.made(where, size)
            once, pairs = timed(partial(photos.prepared, two_tower, train, size.px))
            calls = {
                "ours": partial(ours, two_tower, pairs, start, recipe, where / "store"),
                "published": partial(published, two_tower, photos, start, recipe, size.px, where / "all.pt"),
            }
            spent, found = interleave(calls, size.repeat)
        moved = {who: {n: value - start[n] for n, value in params.items()} for who, params in found.items()}
        check_same(f"{name}: movement of an epoch", difference(moved["ours"], moved["published"]), limit=1e-3)
        number = sum(map(len, epoch_batches(pairs, recipe, named_generator(0, "epoch"))))
        rates = {who: f"{number / seconds.processor:,.0f} /s" for who, seconds in spent.items()}
        print(f"  {name}: what ours prepares once takes {once}, an epoch of the published loop {spent['published']}")
        ratio = spent["published"].processor / spent["ours"].processor
        yield Row(
            f"experts, {name}: pairs a second", "the published loop", rates["ours"], rates["published"], ratio,
            GOALS[train], WHY[train],
        )  # fmt: skip


if __name__ == "__main__":
    main(__doc__, Size, SMALLEST, measure)
