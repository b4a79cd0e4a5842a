"""Small data sets in the layouts that people have, of twelve photos with two captions each."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.data.photos import save_photo
from tests.data.sets.test_karpathy import entry, write

NAMES = [f"{number}.png" for number in range(12)]
CAPTIONS = {name: [f"A photo of {name} , early .", f"A photo of {name} , late ."] for name in NAMES}
SPLITS = {"train": NAMES[:8], "val": NAMES[8:10], "test": NAMES[10:]}


def photos(folder: Path, names: Iterable[str]) -> None:
    """Write a photo for each name, drawn from the number in it."""
    for name in names:
        save_photo(folder / name, int("".join(filter(str.isdigit, Path(name).stem))))


def lines(path: Path, rows: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def tokens(captions: dict[str, list[str]] = CAPTIONS) -> list[str]:
    return [f"{name}#{number}\t{text}" for name, texts in captions.items() for number, text in enumerate(texts)]


def karpathy(root: Path) -> None:
    photos(root / "images", NAMES)
    write(
        root / "dataset_flickr8k.json",
        {"images": [entry(name, split) for split, names in SPLITS.items() for name in names]},
    )


def flat(root: Path) -> None:
    photos(root / "flickr30k-images", NAMES)
    for split, names in SPLITS.items():
        rows = [{"image": f"flickr30k-images/{name}", "caption": CAPTIONS[name]} for name in names]
        write(root / "ann_file" / f"flickr30k_{split}.json", rows)


def flickr8k(root: Path) -> None:
    """Write what the two archives of Flickr8k hold, with what macOS adds."""
    photos(root / "Flicker8k_Dataset", NAMES)
    text = root / "Flickr8k_text"
    absent = {"2258277193_586949ec62.jpg.1": ["A photo that is not there .", "The same ."]}
    lines(text / "Flickr8k.token.txt", tokens({**CAPTIONS, **absent}))
    lines(text / "Flickr8k.lemma.token.txt", tokens())
    lines(text / "CrowdFlowerAnnotations.txt", [f"{NAMES[0]}\t{NAMES[1]}#2\t1\t0\t3"])
    lines(text / "readme.txt", ["If you use this corpus, please cite us."])
    for split, names in zip(("train", "dev", "test"), SPLITS.values(), strict=True):
        lines(text / f"Flickr_8k.{split}Images.txt", names)
    lines(root / "__MACOSX" / "._Flickr8k.token.txt", ["\0\5\26"])


def captions_txt(root: Path) -> None:
    photos(root / "Images", NAMES)
    rows = [f'{name},"{text}"' for name, texts in CAPTIONS.items() for text in texts]
    lines(root / "captions.txt", ["image,caption", *rows])


def results_csv(root: Path) -> None:
    """Write Flickr30k's table, with its row that lacks a bar."""
    photos(root / "flickr30k_images" / "flickr30k_images", NAMES)
    rows = [f"{name}| {n}| {text}" for name, texts in CAPTIONS.items() for n, text in enumerate(texts)]
    rows[3] = rows[3].replace("| 1| ", "| 1   ")
    lines(root / "flickr30k_images" / "results.csv", ["image_name| comment_number| comment", *rows])


def results_token(root: Path) -> None:
    photos(root / "flickr30k-images", NAMES)
    lines(root / "results_20130124.token", tokens())


def coco(root: Path, year: str = "2017") -> None:
    """Write the captions and the objects of train and val, whose files begin alike."""
    ids = {name: number + 1 for number, name in enumerate(NAMES)}
    for split, names in {"train": NAMES[:8], "val": NAMES[8:]}.items():
        files = {name: f"COCO_{split}2014_{name}" if year == "2014" else name for name in names}
        for name, file in files.items():
            save_photo(root / f"{split}{year}" / file, ids[name])
        images = [{"license": 3, "file_name": files[name], "id": ids[name]} for name in names]
        texts = [{"image_id": ids[name], "id": 1, "caption": f"{text}\n"} for name in names for text in CAPTIONS[name]]
        boxes = [{"image_id": ids[name], "id": 1, "bbox": [1, 2, 3, 4]} for name in names]
        for kind, annotations in {"captions": texts, "instances": boxes}.items():
            tree = {"info": {}, "images": images, "licenses": [], "annotations": annotations}
            write(root / "annotations" / f"{kind}_{split}{year}.json", tree)


def pairs(root: Path) -> None:
    """Write two shards as img2dataset does, with the facts of each photo."""
    for name in NAMES:
        shard = root / ("00000" if len(name) == 5 else "00001")
        photos(shard, [name])
        lines((shard / name).with_suffix(".txt"), CAPTIONS[name])
        write((shard / name).with_suffix(".json"), {"caption": CAPTIONS[name][0], "key": name})
    write(root / "00000_stats.json", {"count": 12})


def metadata_csv(root: Path) -> None:
    for split, names in zip(("train", "validation", "test"), SPLITS.values(), strict=True):
        photos(root / split, names)
        rows = [f'{name},"{text}"' for name in names for text in CAPTIONS[name]]
        lines(root / split / "metadata.csv", ["file_name,text", *rows])


def metadata_jsonl(root: Path) -> None:
    photos(root / "data", NAMES)
    rows = [{"file_name": f"data/{name}", "text": text} for name, texts in CAPTIONS.items() for text in texts]
    lines(root / "metadata.jsonl", map(json.dumps, rows))


Layout = Callable[[Path], None]

LAYOUTS: dict[Layout, tuple[str, dict[str, str]]] = {
    karpathy: ("karpathy", {"annotations": "dataset_flickr8k.json"}),
    flat: ("karpathy", {"annotations": "ann_file/flickr30k_train.json"}),
    flickr8k: ("flickr", {"captions": "Flickr8k_text/Flickr8k.token.txt"}),
    captions_txt: ("table", {"table": "captions.txt"}),
    results_csv: ("flickr", {"captions": "flickr30k_images/results.csv"}),
    results_token: ("flickr", {"captions": "results_20130124.token"}),
    coco: ("coco", {"captions": "annotations/captions_train2017.json"}),
    pairs: ("pairs", {}),
    metadata_csv: ("imagefolder", {"metadata": "metadata.csv"}),
    metadata_jsonl: ("imagefolder", {"metadata": "metadata.jsonl"}),
}
"""The name and the options that each layout is recognised as."""
