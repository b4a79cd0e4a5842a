"""Rules of the source itself, kept by reading it: who imports whom, where randomness comes from, what files hold."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path

import pytest

from engine.config import components

ROOT = Path(__file__).resolve().parents[1]

LAYERS: tuple[tuple[str, ...], ...] = (  # bottom first; a module imports its own layer and those before it
    (
        "engine.ranges",
        "engine.rng",
        "engine.tensors",
        "engine.resources",
        "engine.recipes",
        "engine.determinism",
        "engine.peak_memory",
    ),
    ("engine.io", "engine.provenance"),
    ("engine.data", "engine.shapes", "engine.models", "engine.losses"),
    ("engine.experts", "engine.synthetic"),
    ("engine.unroll",),
    ("engine.methods", "engine.coresets"),
    ("engine.distill", "engine.evaluation"),
    ("engine.results", "engine.tracking"),
    ("engine.config",),
    (
        *("engine.prepare", "engine.build", "engine.rewording", "engine.specification", "engine.initial_pairs"),
        *("engine.text_spaces", "engine.recorded"),
    ),
    ("engine.report",),
    ("engine.cluster",),
    ("engine.studies",),
    ("tasks",),
)
TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}
TORCH_DRAWS |= {"rand_like", "randn_like", "randint_like"}
IN_PLACE_DRAWS = {"normal_", "uniform_", "bernoulli_", "random_", "exponential_", "cauchy_", "geometric_"}
IN_PLACE_DRAWS |= {"log_normal_", "trunc_normal_", "orthogonal_", "xavier_uniform_", "xavier_normal_"}
IN_PLACE_DRAWS |= {"kaiming_uniform_", "kaiming_normal_"}
GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed", "torch.cuda.manual_seed_all"}
NUMPY_GENERATORS = {"default_rng", "Generator", "SeedSequence", "PCG64"}
PICKLES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
WORKERS = {
    *("engine.cluster.experts.actor.ExpertTrainer", "engine.cluster.experts.actor.train_into_store"),
    *(f"engine.cluster.scoring.{name}" for name in ("score_full_data", "score_coreset", "score_set", "score_classes")),
    *("engine.cluster.scoring.score_captions", "engine.cluster.prepare.Preparer"),
    *("engine.cluster.search.trial.DistillTrial", "engine.studies.preflight.costs.time_prepared"),
}
"""Classes and functions that run in processes of their own."""
POSITIONAL = {
    "build": ["paths"],
    "select": ["warmup", "num_pairs", "generator"],
}


def sources(*folders: str) -> list[Path]:
    """Return the Python files below folders of the project."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """Parse a file once."""
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the project."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_module(name: str) -> bool:
    """Say whether a dotted name is a file or a folder of the project."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imported(path: Path, module: ast.Module | None = None) -> Iterator[tuple[str, int]]:
    """Yield the full name and the line of every import, those inside functions too."""
    package = module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    for node in ast.walk(module or tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                if origin == "engine" and alias.name.startswith("__"):
                    continue  # what the package says of itself, like its version
                full = f"{origin}.{alias.name}"
                yield (full if is_module(full) or not is_module(origin) else origin), node.lineno


def layer(module: str) -> int | None:
    """Return the number of the layer that ``module`` belongs to."""
    for number, names in enumerate(LAYERS):
        if any(belongs(module, name) for name in names):
            return number
    return None


def belongs(module: str, package: str) -> bool:
    """Say whether ``module`` is ``package`` or lies inside it."""
    return module == package or module.startswith(f"{package}.")


def belongs_to_any(module: str, packages: set[str]) -> bool:
    """Say whether ``module`` lies inside one of ``packages``."""
    return any(belongs(module, package) for package in packages)


def dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` for such an expression, else an empty string."""
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return node.id if isinstance(node, ast.Name) else ""


def calls(path: Path, module: ast.Module | None = None) -> Iterator[ast.Call]:
    """Yield every call of a file."""
    return (node for node in ast.walk(module or tree(path)) if isinstance(node, ast.Call))


def upward_imports(path: Path, module: ast.Module | None = None) -> list[str]:
    """Return the imports of a file that reach a higher layer, or past the border."""
    name, found = module_name(path), []
    own = layer(name)
    for other, line in imported(path, module):
        if not belongs_to_any(other, {"engine", "tasks"}):
            continue
        theirs = layer(other)
        if theirs is None:
            found.append(f"{name}:{line} imports {other} instead of the module that holds the name")
        elif own is not None and theirs > own:
            found.append(f"{name}:{line} imports {other}, a layer above")
    return found


def global_draws(path: Path, module: ast.Module | None = None) -> list[str]:
    """Return the uses of global random state, except inside ``with forked(generator)``."""
    module = module or tree(path)
    exempt = {id(inner) for node in ast.walk(module) if is_forked(node) for inner in ast.walk(node)}
    found = [f"{line}: {other}" for other, line in imported(path, module) if draws_by_import(other)]
    for node in ast.walk(module):
        if id(node) in exempt:
            continue
        if isinstance(node, ast.Call) and draws_globally(node):
            found.append(f"{node.lineno}: {ast.unparse(node.func)}(...) without a generator")
        elif isinstance(node, ast.Attribute) and is_numpy_draw(dotted(node)):
            found.append(f"{node.lineno}: {dotted(node)}")
    return [f"{module_name(path)}:{item}" for item in found]


def is_forked(node: ast.AST) -> bool:
    """Say whether a node is a with-block of ``rng.forked``."""
    if not isinstance(node, ast.With):
        return False
    contexts = [item.context_expr for item in node.items]
    return any(isinstance(c, ast.Call) and dotted(c.func).split(".")[-1] == "forked" for c in contexts)


def draws_by_import(name: str) -> bool:
    """Say whether an import brings in a source of global randomness under its own name."""
    origin, _, last = name.rpartition(".")
    if origin == "torch" and last in TORCH_DRAWS | {"manual_seed"}:
        return True
    return belongs_to_any(name, {"random", "numpy.random", "torch.distributions"})


def draws_globally(call: ast.Call) -> bool:
    """Say whether a call draws from torch's global generator, or seeds it."""
    name = dotted(call.func)
    if name in GLOBAL_SEEDS or name.startswith("torch.distributions."):
        return True
    if name in {"np.random.default_rng", "numpy.random.default_rng"}:
        return not (call.args or call.keywords)
    attribute = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    of_torch = name.startswith("torch.") and name.count(".") == 1 and attribute in TORCH_DRAWS
    of_tensor = attribute in IN_PLACE_DRAWS or (attribute == "multinomial" and not of_torch)
    return (of_torch or of_tensor) and all(keyword.arg != "generator" for keyword in call.keywords)


def is_numpy_draw(name: str) -> bool:
    """Say whether a dotted name is one of numpy's global random functions."""
    parts = name.split(".")
    return len(parts) == 3 and parts[0] in {"np", "numpy"} and parts[1] == "random" and parts[2] not in NUMPY_GENERATORS


def test_there_is_something_to_check() -> None:
    assert len(sources("engine")) > 20
    assert sources("tasks")


@pytest.mark.parametrize(("package", "allowed"), [("ray", {"engine.cluster"}), ("mlflow", {"engine.tracking.mlflow"})])
def test_the_library_is_imported_in_one_place_only(package: str, allowed: set[str]) -> None:
    for path in sources("engine", "tasks"):
        if not belongs_to_any(module_name(path), allowed):
            found = [f"{path}:{line}" for name, line in imported(path) if belongs(name, package)]
            assert not found, f"{package} is imported outside {allowed}: {found}"


def test_every_module_is_in_a_layer() -> None:
    modules = {module_name(path) for path in sources("engine", "tasks")} - {"engine"}
    assert not {name for name in modules if layer(name) is None}


def test_no_module_imports_a_layer_above_it() -> None:
    found = [problem for path in sources("engine", "tasks") for problem in upward_imports(path)]
    assert not found, "\n".join(["", *found])


def test_every_module_of_the_cluster_imports_ray() -> None:
    files = [path for path in sources("engine/cluster") if path.name != "__init__.py"]
    without = [path for path in files if not any(belongs(name, "ray") for name, _ in imported(path))]
    assert not without, f"these files belong elsewhere: {without}"


def test_no_file_is_long_and_no_folder_heavy() -> None:
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in sources("engine", "tasks")}
    assert {path: count for path, count in lines.items() if count > 300} == {}
    folders: dict[str, int] = {}
    for path, count in lines.items():
        folder = "/".join(path.relative_to(ROOT).parent.parts[:2])  # engine itself, engine/data, tasks
        folders[folder] = folders.get(folder, 0) + count
    assert {name: count for name, count in folders.items() if count > 0.15 * sum(lines.values())} == {}


def test_functions_are_not_long() -> None:
    lengths = sorted(
        length_without_docstring(node)
        for path in sources("engine", "tasks")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 35


def length_without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of lines of a function without those of its docstring."""
    first, size = node.body[0], (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is None:
        return size
    return size - ((first.end_lineno or first.lineno) - first.lineno + 1)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("engine", {"ray", "mlflow", "torch"}),
        ("engine.studies.finished", {"ray", "mlflow", "sqlalchemy", "matplotlib", "polars", "transformers"}),
    ],
)
def test_what_answers_at_once_imports_no_heavy_library(module: str, heavy: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_only_the_border_prints() -> None:
    quiet = [p for p in sources("engine") if not belongs_to_any(module_name(p), {"engine.cluster", "tasks.cli"})]
    found = [f"{path}:{call.lineno}" for path in quiet for call in calls(path) if dotted(call.func) == "print"]
    assert not found, "\n".join(["", *found])


def test_randomness_comes_from_a_generator() -> None:
    found = [use for path in sources("engine") if path.name != "rng.py" for use in global_draws(path)]
    assert not found, "\n".join(["", *found])


def test_no_bare_except() -> None:
    handlers = [
        f"{path}:{node.lineno}"
        for path in sources("engine", "tasks", "tests")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not handlers, "\n".join(["", *handlers])


def test_no_file_is_named_after_nothing() -> None:
    vague = {"utils", "util", "helpers", "helper", "base", "manager", "managers", "misc", "common"}
    assert [path for path in sources("engine", "tasks", "tests") if vague & set(path.stem.split("_"))] == []


def test_nothing_is_pickled() -> None:
    found = [
        f"{path}:{line} {name}"
        for path in sources("engine")
        for name, line in imported(path)
        if belongs_to_any(name, PICKLES)
    ]
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("function", "keyword", "value", "required"),
    [("torch.load", "weights_only", True, True), ("np.load", "allow_pickle", False, False)],
)
def test_loading_never_unpickles(function: str, keyword: str, value: bool, required: bool) -> None:
    for path in sources("engine", "tasks"):
        for call in calls(path):
            if dotted(call.func) == function:
                given = [ast.literal_eval(k.value) for k in call.keywords if k.arg == keyword]
                assert given == [value] or not (given or required), f"{path}:{call.lineno}"


def test_a_cached_array_has_the_code_that_made_it_in_its_key() -> None:
    making = {path.name for path in sources("engine") if called(path) & {"cached_array", "ShardedArray"}}
    keyed = {path.name for path in sources("engine") if "source_digest" in called(path)}
    assert len(making) > 3
    assert making - keyed == {"cache.py", "listed.py"}, "a list of photos holds the key that images.py made"
    assert "images.py" in keyed


def called(path: Path) -> set[str]:
    """Return the names that a file calls."""
    return {dotted(call.func) for call in calls(path)}


def test_only_workers_build_data_and_students_on_a_gpu() -> None:
    """Where no device is named, a setup takes the GPU of its process; the driver would keep its memory for ever."""
    found = [use for path in sources("engine", "tasks") for use in setups_on_any_device(path)]
    assert {use.rpartition(":")[0] for use in found} == WORKERS, found


def setups_on_any_device(path: Path, module: ast.Module | None = None) -> list[str]:
    """Return the calls of ``setup`` and ``setups`` without the device CPU, by module and class or function."""
    return [
        f"{module_name(path)}.{getattr(top, 'name', '')}:{call.lineno}"
        for top in (module or tree(path)).body
        for call in ast.walk(top)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in ("setup", "setups")
        if [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == "device"] != ["'cpu'"]
    ]


def test_shapes_are_not_turned_into_strings() -> None:
    for path in sources("engine"):
        names = {name for name, _ in imported(path)}
        assert not ("__future__.annotations" in names and any(belongs(n, "jaxtyping") for n in names)), path


def test_protocols_can_be_checked_at_run_time() -> None:
    found = [
        f"{path}:{node.lineno} {node.name} lacks @runtime_checkable, which the shape checks of the tests need"
        for path in sources("engine")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and is_protocol(node)
        if "runtime_checkable" not in {dotted(item).split(".")[-1] for item in node.decorator_list}
    ]
    assert not found, "\n".join(["", *found])


def is_protocol(node: ast.ClassDef) -> bool:
    """Say whether a class is a typing.Protocol itself."""
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return any(dotted(base) in {"Protocol", "typing.Protocol"} for base in bases)


@pytest.mark.parametrize("family", sorted(components.FAMILIES))
def test_every_component_of_the_folder_has_its_entry(family: str) -> None:
    entry = components.FAMILIES[family].entry
    for name in components.names(family):
        found = components.find(family, name)
        assert found.__doc__, f"{family} {name}: {entry} has no docstring"
        if entry in POSITIONAL:
            check_parameters(found, POSITIONAL[entry])
        if entry == "DataSet":
            assert is_dataclass(found)
            check_parameters(found, [])
            for method in ("load", "sizes"):
                assert list(inspect.signature(getattr(found, method)).parameters) == ["self", "paths"]


def check_parameters(entry: Callable[..., object], positional: list[str]) -> None:
    """Assert that the engine's parameters come first and all others are keyword-only options."""
    parameters = list(inspect.signature(entry).parameters.values())
    assert [parameter.name for parameter in parameters[: len(positional)]] == positional
    options = parameters[len(positional) :]
    assert all(p.kind is p.KEYWORD_ONLY and p.annotation is not p.empty for p in options), entry.__module__


# The rules above are code too: each is shown something it must find.


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("engine/models/x.py", "from engine.methods import Method"),
        ("engine/models/x.py", "def f():\n    import engine.cluster.search.trial"),
        ("engine/models/image/x.py", "from ...coresets import random"),
        ("engine/tracking/x.py", "from engine import cluster"),
        ("engine/models/x.py", "from engine import TwoTower"),
        ("engine/methods/x.py", "from engine.config.load import Study"),
    ],
)
def test_an_upward_import_is_found(module: str, code: str) -> None:
    assert len(upward_imports(ROOT / module, ast.parse(code))) == 1


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("engine/methods/x.py", "from engine import rng"),
        ("engine/coresets/x.py", "from . import WarmupStatistics"),
        ("tasks/x.py", "from engine.config.load import Study"),
        ("engine/models/x.py", "import torch, tasksmith"),
    ],
)
def test_a_downward_import_is_not(module: str, code: str) -> None:
    assert upward_imports(ROOT / module, ast.parse(code)) == []


@pytest.mark.parametrize(
    ("code", "found"),
    [("job.setup()", 1), ("job.setups(None)", 1), ("job.setup(device=name)", 1), ("x(device='cpu')", 0)],
)
def test_a_setup_on_any_device_is_found(code: str, found: int) -> None:
    module = ast.parse(f"def run(job):\n    {code}\n    job.setup(device='cpu')")
    assert len(setups_on_any_device(ROOT / "engine/x.py", module)) == found


@pytest.mark.parametrize(
    "code",
    [
        "torch.randn(3)",
        "torch.randint(0, 3, (2,), device=device)",
        "torch.rand_like(x)",
        "x.normal_(0, 1)",
        "torch.nn.init.xavier_uniform_(w)",
        "weights.multinomial(3)",
        "torch.manual_seed(0)",
        "torch.distributions.Beta(1.0, 1.0).sample()",
        "np.random.rand(3)",
        "np.random.default_rng()",
        "import random",
        "from random import choice",
        "from torch import randn",
    ],
)
def test_a_global_draw_is_found(code: str) -> None:
    assert len(global_draws(ROOT / "engine/x.py", ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "torch.randn(3, generator=generator)",
        "x.uniform_(generator=generator)",
        "np.random.default_rng(seed)",
        "from engine.coresets import random",
        "with rng.forked(generator):\n    torch.nn.init.xavier_uniform_(w)",
    ],
)
def test_a_draw_from_a_generator_is_not(code: str) -> None:
    assert global_draws(ROOT / "engine/x.py", ast.parse(code)) == []
