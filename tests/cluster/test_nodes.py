"""Nodes have to agree before work starts, and their memory is read; no test here has a GPU."""

from pathlib import Path

import psutil
import pytest

from engine.cluster import nodes
from engine.cluster.nodes import Answer, check_nodes, compare, gpu_bytes, versions


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ("24576\n", (24576 * 2**20,)),
        ("81559\n81559\n40960\n", (81559 * 2**20, 81559 * 2**20, 40960 * 2**20)),
        (" 16384 \r\n", (16384 * 2**20,)),
        ("[N/A]\n", ()),
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
