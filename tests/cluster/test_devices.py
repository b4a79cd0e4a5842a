"""What nvidia-smi says is read, and what Ray says of this machine; no test here has a GPU."""

import psutil
import pytest

from engine.cluster.devices import gpu_bytes, read_nodes


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
def test_a_node_tells_its_memory() -> None:
    [node] = read_nodes()
    assert (node.cpus, node.gpus, node.gpu_bytes) == (2, 0, ())
    assert 0 < node.memory_bytes < psutil.virtual_memory().total
