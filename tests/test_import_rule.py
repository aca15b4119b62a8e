"""A lower layer never imports a higher one, and no module imports itself by a detour."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "headstart"

LAYERS = (
    {"names", "text"},
    {"errors", "inputs", "progress"},
    {"methods"},
    {"recipes"},
    {"backbones"},
    {"data"},
    {"evaluation"},
    {"features", "artifacts"},
    {"diagnose"},
    {"training"},
    {"search", "inference", "certificate"},
    {"ablation", "webpage"},
    {"report", "export", "serving"},
    {"api"},
    {"integrations"},
    {"cli"},
    {"__main__"},
)
LEVEL = {part: level for level, layer in enumerate(LAYERS) for part in layer}


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in SOURCE.rglob("*.py") if module_name(path)}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports anywhere, in functions and for types too."""
    names = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    ours = {name.removeprefix("headstart.") for name in names if name.startswith("headstart.")}
    return {name for name in ours if name in MODULES}


def imported_at_once(path: Path) -> tuple[set[str], set[str]]:
    """Modules of ours and packages of others that a file imports when it is imported itself."""
    names = set()
    waiting: list[ast.stmt] = list(tree_of(path).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            waiting += node.body
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test):
            waiting += [*node.body, *node.orelse]
    ours = {name.removeprefix("headstart.") for name in names if name.startswith("headstart.")}
    others = {name.partition(".")[0] for name in names if not name.startswith("headstart")}
    return ours & set(MODULES), others


def reached(name: str) -> dict[str, set[str]]:
    """Packages of others by module, for all modules that the import of one reaches."""
    found: dict[str, set[str]] = {}
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            ours, found[module] = imported_at_once(MODULES[module])
            waiting += ours
    return found


@pytest.mark.parametrize(
    "name",
    [
        "cli.main", "cli.runs", "cli.predict", "inference.predict", "inference.run",
        "artifacts.embeddings", "inference.image_inputs", "artifacts.files", "api.show_similar",
        "api.embed", "api.similar", "api.predict",
        "serving.app", "serving.server", "cli.serving", "api.serve",
        "cli.explore", "cli.fit", "recipes.reference",
        "api.leaderboard", "api.diff", "api.report", "api.check",
        "api.label_next", "serving.labelling", "cli.labelling",
    ],
)  # fmt: skip
def test_what_trains_nothing_does_not_reach_pytorch(name: str) -> None:
    heavy = {"torch", "torchvision", "timm"}
    assert not {module: found & heavy for module, found in reached(name).items() if found & heavy}
    assert heavy <= set().union(*reached("inference.pytorch").values())


def test_every_module_has_a_layer() -> None:
    assert {name.partition(".")[0] for name in MODULES} == set(LEVEL)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_go_down(name: str) -> None:
    level = LEVEL[name.partition(".")[0]]
    higher = [other for other in imported(MODULES[name]) if LEVEL[other.partition(".")[0]] > level]
    assert not higher, f"{name} imports {higher} from a higher layer"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_rooms_of_a_layer_do_not_know_each_other(name: str) -> None:
    room = name.partition(".")[0]
    beside = [
        other
        for other in imported(MODULES[name])
        if other.partition(".")[0] != room and LEVEL[other.partition(".")[0]] == LEVEL[room]
    ]
    assert not beside, f"{name} imports {beside} of its own layer"


def test_the_top_of_the_package_holds_rooms() -> None:
    beside = [path for path in SOURCE.iterdir() if path.is_file()]
    assert len(beside) <= 7, sorted(path.name for path in beside)
    assert not [path.name for path in beside if path.stem.endswith("ing")]


def test_no_circle() -> None:
    graph = {name: imported(path) - {name} for name, path in MODULES.items()}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize(
    ("package", "home"),
    [("typer", "cli"), ("fastapi", "serving"), ("optuna", "search"), ("ray", "search")],
)
def test_frameworks_stay_in_their_place(package: str, home: str) -> None:
    for name, path in MODULES.items():
        tree = tree_of(path)
        found = {
            alias.name.partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {
            (node.module or "").partition(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
        }
        assert package not in found or name.partition(".")[0] == home, name


@pytest.mark.parametrize(
    "code",
    [
        "import headstart",
        "import headstart.cli.main",
        "import headstart.data.decode_worker",
        "import headstart.data.sources",
    ],
)
def test_heavy_packages_are_imported_late(code: str) -> None:
    heavy = "{'torch', 'torchvision', 'timm', 'pandas', 'matplotlib', 'sklearn', 'onnxruntime'}"
    check = f"{code}; import sys; found = {heavy} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", check], check=True)
