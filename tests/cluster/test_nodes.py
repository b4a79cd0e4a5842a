"""Nodes have to agree before work starts, and their memory is read; no test here has a GPU."""

from pathlib import Path

import psutil
import pytest

from engine.cluster import nodes
from engine.cluster.nodes import Answer, check_nodes, compare, gpu_bytes, versions

CARD = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-8c7474bb-ad96-4287-66af-d6d5781b5dd0)\n"
OTHER = "GPU 1: NVIDIA A10 (UUID: GPU-1c7474bb-ad96-4287-66af-d6d5781b5dd0)\n"
PARTS = """\
  MIG 3g.40gb     Device  0: (UUID: MIG-2f9f5a1c-0d8d-5a0c-bf1c-6a1f8b3f3c11)
  MIG 1c.2g.20gb  Device  1: (UUID: MIG-77d0d7bd-bb0e-5b0d-8f1a-97e3b8f6a2c2)
  MIG 1g.10gb+me  Device  2: (UUID: MIG-aa91b2c1-6f0f-5c55-9a0d-0d2c5b7f7e33)
"""


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("24576\n", (24576 * 2**20,)),
        ("81559\n81559\n40960\n", (81559 * 2**20, 81559 * 2**20, 40960 * 2**20)),
        (" 16384 \r\n", (16384 * 2**20,)),
        ("[N/A]\n", ()),
        (f"81559\n{CARD}", (81559 * 2**20,)),
        (f"81559\n{CARD}{PARTS}", (40 * 10**9, 20 * 10**9, 10 * 10**9)),
        (f"81559\n24576\n{CARD}{PARTS}{OTHER}", (40 * 10**9, 20 * 10**9, 10 * 10**9, 24576 * 2**20)),
        (f"81559\n[N/A]\n{CARD}{PARTS}{OTHER}", (81559 * 2**20, 40 * 10**9, 20 * 10**9, 10 * 10**9)),
        ("", ()),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", ()),
    ],
)
def test_the_answer_of_nvidia_smi_is_read(answer: str, found: tuple[int, ...]) -> None:
    assert gpu_bytes(answer) == found


@pytest.mark.usefixtures("ray_local")
def test_the_memory_of_a_node_is_returned(tmp_path: Path) -> None:
    [node] = check_nodes(tmp_path)
    assert (node.cpus, node.gpus, node.gpu_bytes) == (2, 0, ())
    assert 0 < node.memory_bytes < psutil.virtual_memory().total
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("ray_local")
def test_one_task_a_node_answers_everything(tmp_path: Path) -> None:
    (tmp_path / "here.json").write_text("{}")
    here, absent = nodes._answers(tmp_path, nodes.ray.nodes()), nodes._answers(tmp_path / "no", nodes.ray.nodes())
    assert [(answer.versions, answer.error) for answer in here] == [(versions(), "")]
    assert [answer.error for answer in absent] == ["does not see it"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            Answer({**versions(), "torch": "1.0"}),
            r"^versions: the node far has torch 1\.0, expected .* as here\.$",
        ),
        (
            Answer({**versions(), "engine": "another"}),
            r"^versions: the node far has engine another, expected .* as here\.$",
        ),
        (
            Answer(versions(), "does not see it"),
            r"^storage: /runs has to be one folder for all nodes, but far does not see it\.$",
        ),
    ],
)
def test_nodes_have_to_agree(answer: Answer, sentence: str) -> None:
    compare(Path("/runs"), {"near": Answer(versions())})
    with pytest.raises(ValueError, match=sentence):
        compare(Path("/runs"), {"near": Answer(versions()), "far": answer})
