"""Published files as published code writes them: what is read, what is refused, and that a refusal writes nothing."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.experts.store import ExpertStore
from engine.io.paths import Paths
from engine.rng import named_generator
from engine.synthetic.import_published import import_buffers, read_published_set
from engine.synthetic.set import load_set
from tests.toys import tiny_student

PAIRS, RANK = 5, 2


def drawn(*shape: int, name: str = "published") -> Tensor:
    return torch.randn(*shape, generator=named_generator(0, name))


def published_set(**changes: Any) -> dict[str, Any]:
    """Return the dictionary that LoRS saves; a change to None takes an entry out."""
    parts = [drawn(PAIRS, name="a"), drawn(PAIRS, RANK, name="left"), drawn(PAIRS, RANK, name="right")]
    entries = {
        "image": drawn(PAIRS, 3, 4, 4),
        "text": drawn(PAIRS, 6, name="texts"),
        "similarity_params": parts,
        "similarity_mat": parts[0].diag() + parts[1] @ parts[2].T * 3.0 / RANK,
        "syn_lr_img": torch.tensor(0.2),
        "syn_lr_txt": torch.tensor(0.05),
        **changes,
    }
    return {name: value for name, value in entries.items() if value is not None}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "distilled_3000.pt"


def test_a_set_is_read_and_survives_our_own_file(file: Path, tmp_path: Path) -> None:
    saved = published_set()
    torch.save(saved, file)
    read = read_published_set(file)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    torch.testing.assert_close((read.images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1), saved["image"])
    assert torch.equal(read.texts, saved["text"])
    assert read.learning_rates() == pytest.approx({"image": 0.2, "text": 0.05})
    torch.testing.assert_close(read.similarity(), saved["similarity_mat"])
    assert read.loss == "wbce"
    read.save(tmp_path / "ours.safetensors")
    again = load_set(tmp_path / "ours.safetensors")
    assert all(torch.equal(ours, value) for ours, value in zip(again.parameters(), read.parameters(), strict=True))
    assert again.metadata == {"published": {"file": file.name, "normalisation": "clip"}}


@pytest.mark.parametrize("normalisation", ["none", "imagenet"])
def test_other_normalisations(file: Path, normalisation: str) -> None:
    torch.save(published_set(image=torch.zeros(PAIRS, 3, 4, 4)), file)
    middle = read_published_set(file, normalisation=normalisation).images[0, :, 0, 0].tolist()
    assert middle == pytest.approx({"none": [0.0] * 3, "imagenet": [0.485, 0.456, 0.406]}[normalisation])


def test_other_spellings_and_kinds_of_similarity(file: Path) -> None:
    saved = published_set()
    whole = {"images": saved["image"], "texts": saved["text"], "syn_lr": 0.1, "similarity": saved["similarity_mat"]}
    torch.save(whole, file)
    read = read_published_set(file)
    assert torch.equal(read.similarity(), saved["similarity_mat"])
    assert read.learning_rates() == pytest.approx({"image": 0.1, "text": 0.1})
    torch.save(published_set(similarity_params=[saved["similarity_mat"]], similarity_mat=None), file)
    assert torch.equal(read_published_set(file).similarity(), saved["similarity_mat"])
    torch.save(published_set(similarity_params=None, similarity_mat=None), file)
    plain = read_published_set(file)
    assert (plain.similarity(), plain.loss) == (None, "info_nce")


def test_alpha_is_given_where_the_whole_matrix_is_not(file: Path) -> None:
    saved = published_set()
    torch.save(published_set(similarity_mat=None), file)
    torch.testing.assert_close(read_published_set(file, alpha=3.0).similarity(), saved["similarity_mat"])
    with pytest.raises(ValueError, match=r"expected it as --alpha\.$"):
        read_published_set(file)
    torch.save(saved, file)
    with pytest.raises(ValueError, match="not made of its parts for that alpha"):
        read_published_set(file, alpha=1.0)
    with pytest.raises(ValueError, match=r"alpha: it is -1\.0, expected a number above 0"):
        read_published_set(file, alpha=-1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_set_of_another_precision_is_read_with_its_tolerance(dtype: torch.dtype, file: Path) -> None:
    saved = published_set()
    other = {name: value.to(dtype) for name, value in saved.items() if isinstance(value, Tensor)}
    other["similarity_params"] = [value.to(dtype) for value in saved["similarity_params"]]
    torch.save(other, file)
    read = read_published_set(file)
    assert all(value.dtype == torch.float32 for value in read.parameters())
    near = max(float(torch.finfo(dtype).eps), 1e-6) * 10
    torch.testing.assert_close(read.similarity(), saved["similarity_mat"], rtol=near, atol=10 * near)
    other["similarity_mat"] = other["similarity_mat"] + torch.eye(PAIRS, dtype=dtype)
    torch.save(other, file)
    with pytest.raises(ValueError, match="not made of its parts for any alpha"):
        read_published_set(file)


class Harmful:
    """Runs a command when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch harmed",)


REFUSED = [
    ([], "expected a dictionary of a distilled set, found a list"),
    ({}, "expected one of the entries image, images, image_syn, found nothing"),
    (published_set(text=None), "expected one of the entries text, texts, text_syn, found image, similarity_params"),
    (published_set(syn_lr_txt=None), "syn_lr_txt is None, expected one learning rate above 0"),
    (published_set(syn_lr_img=torch.tensor(-0.1)), "syn_lr_img is -0.1.*, expected one learning rate above 0"),
    (
        published_set(image=torch.zeros(PAIRS, 4, 4)),
        "image is .5, 4, 4. of torch.float32, expected a tensor of numbers",
    ),
    (published_set(image=torch.zeros(4, 3, 4, 4)), "as many pairs, found .4, 3, 4, 4. and .5, 6."),
    (published_set(text=torch.full((PAIRS, 6), torch.nan)), r"text\[0, 0\] is nan, expected finite numbers"),
    (
        published_set(text=torch.full((PAIRS, 6), 1e300, dtype=torch.float64)),
        r"text\[0, 0\] is inf, expected finite numbers",
    ),
    (published_set(image=torch.zeros(1, 1, 1, 1).expand(PAIRS, 3, 4, 4)), "image repeats the numbers of a smaller"),
    (published_set(image=torch.eye(3).to_sparse()), "image is .3, 3. of torch.float32, expected a tensor of numbers"),
    (published_set(syn_lr_img=torch.tensor(torch.nan)), "syn_lr_img is nan, expected finite numbers"),
    (published_set(syn_lr_img=10**400), "syn_lr_img is 10+, expected one learning rate above 0"),
    (
        published_set(image=torch.zeros(0, 3, 4, 4), text=torch.zeros(0, 6)),
        "image has the shape .0, 3, 4, 4., expected",
    ),
    (
        published_set(similarity_params=[torch.ones(PAIRS), *[torch.ones(PAIRS, 0)] * 2]),
        r"similarity_params\[1\] has the",
    ),
    (
        published_set(similarity_params=[torch.ones(PAIRS), *[torch.full((PAIRS, 2), 3e38)] * 2]),
        "not made of its parts",
    ),
    (published_set(text="caption"), "text is str, expected a tensor of numbers with 2 dimensions"),
    (published_set(similarity_params=[torch.ones(3)] * 2), "similarity_params has 2 entries"),
    (
        published_set(similarity_params=[torch.ones(PAIRS), torch.ones(PAIRS, 2), torch.ones(PAIRS, 3)]),
        "similarity_params.2. has the shape .5, 3., expected .5, 2.",
    ),
    (published_set(similarity_mat=torch.eye(3)), "similarity_mat has the shape .3, 3., expected .5, 5."),
    (published_set(similarity_mat=torch.zeros(PAIRS, PAIRS)), "not made of its parts for any alpha"),
    ({"image": Harmful()}, "holds tensors and nothing else, but it cannot be read as such"),
]


@pytest.mark.parametrize(("content", "found"), REFUSED, ids=range(len(REFUSED)))
def test_another_file_is_one_sentence(content: Any, found: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    torch.save(content, file)
    with pytest.raises(ValueError, match=found) as caught:
        read_published_set(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert str(caught.value).count("\n") == 0
    assert list(file.parent.iterdir()) == [file], "no code of the file has run"


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not really", b"\x80\x04K\x01."])
def test_no_file_of_torch_is_one_sentence(data: bytes, file: Path) -> None:
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"expected a file of torch\.save|expected a dictionary"):
        read_published_set(file)


def test_an_absent_file(file: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_published_set(file)


# --- expert buffers


def snapshots(student: Any, modality: str, *, experts: int = 1, epochs: int = 3) -> list[list[list[Tensor]]]:
    """Return what published code saves for one modality: experts of snapshots of tensors without names."""
    tower = getattr(student, modality)
    return [
        [
            list(tower.init_params(named_generator(0, f"{modality}/{expert}/{epoch}")).values())
            for epoch in range(epochs)
        ]
        for expert in range(experts)
    ]


@pytest.fixture
def buffers(tmp_path: Path, paths: Paths) -> Path:
    folder, student = tmp_path / "buffers", tiny_student(paths)
    folder.mkdir()
    for number, experts in ((0, 1), (10, 2)):
        torch.save(snapshots(student, "image", experts=experts), folder / f"img_replay_buffer_{number}.pt")
        torch.save(snapshots(student, "text", experts=experts), folder / f"txt_replay_buffer_{number}.pt")
    return folder


@pytest.mark.parametrize("train", ["full", "frozen"])
def test_buffers_become_trajectories(train: str, buffers: Path, paths: Paths, tmp_path: Path) -> None:
    student = tiny_student(paths, train=train)
    for number, experts in ((0, 1), (10, 2)):
        torch.save(snapshots(student, "image", experts=experts), buffers / f"img_replay_buffer_{number}.pt")
    store = ExpertStore(tmp_path / "experts")
    assert import_buffers(buffers, student, store) == {0: 2, 1: 2, 2: 2}
    assert store.index() == dict.fromkeys(range(3), (0, 1, 2))
    names = student.init_params(named_generator(0, "names")).keys()
    for expert in range(3):
        store.check(expert)
        assert store.load(expert, 1).keys() == names
    wanted = student.image.init_params(named_generator(0, "image/0/1"))
    read = store.load(0, 1)
    assert all(torch.equal(read[name], value) for name, value in wanted.items())


def test_a_store_with_experts_is_left_alone(buffers: Path, paths: Paths, tmp_path: Path) -> None:
    store = ExpertStore(tmp_path / "experts")
    store.save(0, 0, {"a": torch.zeros(1)})
    with pytest.raises(ValueError, match="it holds experts already"):
        import_buffers(buffers, tiny_student(paths), store)
    assert store.index() == {0: (0,)}


def broken(folder: Path, kind: str, student: Any) -> None:
    """Spoil the second pair of files, so that the first one is whole."""
    path = folder / "txt_replay_buffer_10.pt"
    whole = snapshots(student, "text", experts=2)
    if kind == "absent":
        path.unlink()
    elif kind == "code":
        torch.save([[[Harmful()]]], path)
    elif kind == "shape":
        whole[1][2][0] = torch.zeros(2, 2)
        torch.save(whole, path)
    elif kind == "tensors":
        whole[1][2].pop()
        torch.save(whole, path)
    elif kind == "epochs":
        whole[1].pop()
        torch.save(whole, path)
    else:
        torch.save({"a": 3}, path)


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("absent", "txt_replay_buffer_10.pt is absent, expected both"),
        ("code", "holds tensors and nothing else"),
        ("shape", r"snapshot \[1\]\[2\] at text.head.project.weight has the shape \[2, 2\], expected"),
        ("tensors", r"snapshot \[1\]\[2\] has 5 tensors, expected the 6 of this space's student"),
        ("epochs", "its experts have other numbers of epochs than those of img_replay_buffer_10.pt"),
        ("other", "expected a list of experts, each a list of snapshots"),
    ],
)
def test_buffers_that_do_not_fit_leave_nothing(
    kind: str, found: str, buffers: Path, paths: Paths, tmp_path: Path
) -> None:
    student = tiny_student(paths)
    broken(buffers, kind, student)
    with pytest.raises((ValueError, FileNotFoundError), match=found) as caught:
        import_buffers(buffers, student, ExpertStore(tmp_path / "experts"))
    assert str(caught.value).count("\n") == 0
    assert not (tmp_path / "experts").exists()


def test_an_error_while_writing_leaves_nothing(
    buffers: Path, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = ExpertStore.save

    def full(self: ExpertStore, expert: int, epoch: int, params: Any) -> None:
        if (expert, epoch) == (1, 1):
            raise OSError(28, "no room")
        written(self, expert, epoch, params)

    monkeypatch.setattr(ExpertStore, "save", full)
    with pytest.raises(OSError, match="no room"):
        import_buffers(buffers, tiny_student(paths), ExpertStore(tmp_path / "experts"))
    assert not (tmp_path / "experts").exists()


def test_no_buffers_at_all(tmp_path: Path, paths: Paths) -> None:
    with pytest.raises(FileNotFoundError, match="expected img_replay_buffer"):
        import_buffers(tmp_path, tiny_student(paths), ExpertStore(tmp_path / "experts"))
