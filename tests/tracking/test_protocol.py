import subprocess
import sys


def test_importing_the_protocol_loads_no_heavy_library() -> None:
    code = "import sys, engine.tracking; print(sorted({'mlflow', 'torch', 'matplotlib'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"
