"""A process keeps the data and the students that it built last, and knows them again in any order of keys."""

from pathlib import Path

from tests.tiny import tiny_job

CONVNET = "student.image={encoder: convnet, %s, train: full, head: mlp}"


def test_the_order_of_keys_builds_nothing_again(tmp_path: Path) -> None:
    orders = ("width: 8, depth: 2, grid: 1", "grid: 1, depth: 2, width: 8")
    one, other = (tiny_job(tmp_path, CONVNET % options).specification for options in orders)
    assert one.study.identity == other.study.identity
    assert one.setup() is other.setup()


def test_what_decides_them_builds_them_again(tmp_path: Path) -> None:
    plain = tiny_job(tmp_path).specification
    setup = plain.setup()
    assert tiny_job(tmp_path, "seed=1", "method.num_pairs=5").specification.setup() is setup
    for word in ("student.embed_dim=8", "data.seed=1", "precision=bf16"):
        assert tiny_job(tmp_path, word).specification.setup() is not plain.setup()
    assert plain.setup() is not setup, "only the last ones are kept"
