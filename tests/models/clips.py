"""A CLIP of two small transformers, as open_clip is told of it."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from engine.rng import forked, named_generator

NAME = "tiny-clip"
CONFIG: dict[str, Any] = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def register_tiny_clip(folder: Path) -> None:
    """Make ``tiny-clip`` a name that open_clip knows, without weights."""
    import open_clip

    file = folder / f"{NAME}.json"
    file.write_text(json.dumps(CONFIG), encoding="utf-8")
    open_clip.add_model_config(file)


def save_tiny_clip(folder: Path, *, seed: int = 0) -> None:
    """Write a folder as the hub has them: the configuration and random weights in safetensors."""
    import open_clip

    folder.mkdir(parents=True)
    preprocess = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    with forked(named_generator(seed, "clip")):
        model = open_clip.CLIP(**CONFIG)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
