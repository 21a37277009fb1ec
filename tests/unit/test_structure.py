"""The shape of the code: imports point one way, and what a package or module offers stands sorted in `__all__`."""

import ast
import importlib
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("client", "continual", "exporters", "ops")  # each may import itself and what stands before it
FOLDERS = {layer: ROOT / layer for layer in LAYERS} | {"client": ROOT / "client" / "perennial_client"}
ALONE = {"continual": {"client"}}  # what a layer may not import although it stands before it
OF_THE_CLIENT = {"httpx", "numpy", "tritonclient"}  # its distribution installs nothing else
NOT_PRODUCT = {"benchmarks", "tests"}
NO_BUSINESS_OF_THE_CORE = {
    "aiohttp", "alembic", "fastapi", "flask", "grpc", "http", "httpx", "psycopg", "requests", "socket", "socketserver",
    "sqlalchemy", "sqlite3", "starlette", "tritonclient", "urllib", "urllib3", "uvicorn", "websockets",
}  # fmt: skip
HANDS_OVER_DESCRIPTORS = {  # by a pair of sockets between a process and its child, which nobody else can reach
    ("perennial.continual.jobs.warm", "socket"),
    ("perennial.continual.jobs.warm_process", "socket"),
}
FLOORS = (  # the rooms of ops, from the ground up: each may import itself and rooms of lower floors, none beside it
    {"safety", "prediction_ids"},
    {"settings", "recipes"},
    {"ledger", "traffic"},
    {"store", "scheduling"},
    {"serving"},
    {"parts"},
    {"making", "watching", "comparing", "feeds"},
    {"cycle"},
    {"views", "commands"},
    {"api", "console", "notify"},
    {"app"},
    {"demo"},
    {"cli"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
_TASKS = ("generation", "image_classification", "opinion", "ranking", "replies")
OF_ONE_TASK = (  # what is there for one kind of work alone
    *(
        f"perennial.continual.{name}"
        for name in ("events", "images", "learning.generation", "learning.ranking", "learning.replies")
    ),
    *(f"perennial.continual.tasks.{name}" for name in _TASKS),
    *(f"perennial.exporters.{name}" for name in _TASKS),
    *(f"perennial.ops.serving.tasks.{name}" for name in _TASKS),
    "perennial.ops.serving.streaming",
    *(f"perennial.ops.store.{name}" for name in ("alerts", "headlines", "pictures", "reply_store", "user_events")),
    *(f"perennial.ops.{name}" for name in ("feeds", "recipes")),
    *("perennial.continual.federation", "perennial.ops.store.federation"),  # of what has sums
)
OF_EVERY_TASK = (  # and what decides, remembers and compares, whatever the task
    *(f"perennial.continual.{name}" for name in ("cycle", "gate", "policy", "replay", "rollout", "route")),
    *(f"perennial.ops.{name}" for name in ("cycle", "comparing", "ledger", "scheduling")),
)
NAMED_WHEN_MIGRATED = {"perennial.ops.ledger.migrations.versions.v0005_counted_rows"}  # a step never changes
FILES = {
    ".".join(("perennial", layer, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for layer, folder in FOLDERS.items()
    for path in sorted(folder.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
PACKAGES = [name for name, path in FILES.items() if path.name == "__init__.py"]
BACKENDS = [name for name in FILES if name.startswith("perennial.ops.serving.backends.")]


def _layer(module: str) -> str:
    """The part of the product that a module belongs to, or the package of somebody else."""
    parts = module.split(".")
    return parts[1] if parts[0] == "perennial" and len(parts) > 1 else parts[0]


def _room(module: str) -> str:
    """The room of `ops` that a module lies in."""
    return ".".join(module.split(".")[2:3])


def _parent(module: str, level: int) -> str:
    base = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    return ".".join(base.split(".")[: len(base.split(".")) - level + 1])


def _named(module: str, node: ast.AST) -> list[str]:
    """The modules that one statement imports; `from x import y` names `x` and `x.y`."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = ".".join(part for part in (_parent(module, node.level) if node.level else "", node.module or "") if part)
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in {
        "importlib.import_module",
        "import_module",
        "__import__",
    }:
        first = node.args[0] if node.args else None
        return [first.value] if isinstance(first, ast.Constant) and isinstance(first.value, str) else []
    return []


def _imports(module: str) -> Iterator[tuple[str, int]]:
    """Every import of a module with its line, those inside functions and behind TYPE_CHECKING included."""
    for node in ast.walk(TREES[module]):
        for name in _named(module, node):
            yield name, getattr(node, "lineno", 0)


def _on_loading(module: str) -> set[str]:
    """What a module imports when it is loaded: no function bodies, nothing behind TYPE_CHECKING."""
    found: set[str] = set()
    waiting: list[ast.AST] = list(TREES[module].body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        found.update(_named(module, node))
        waiting += list(ast.iter_child_nodes(node))
    return found


def _is_within(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a module is one of some packages, or lies in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _loaded_with(module: str) -> dict[str, tuple[str, ...]]:
    """Everything that loading a module loads, each with the way there."""
    ways: dict[str, tuple[str, ...]] = {}
    waiting = [(module, (module,))]
    while waiting:
        name, way = waiting.pop()
        parts = name.split(".")
        for step in (
            ".".join(parts[:size]) for size in range(1, len(parts) + 1)
        ):  # a package is loaded before its module
            if step in ways:
                continue
            ways[step] = way
            if step in TREES:
                waiting += [(imported, (*way, imported)) for imported in sorted(_on_loading(step))]
    return ways


def test_there_is_something_to_walk() -> None:
    assert len(FILES) > 200
    assert len(BACKENDS) == 3
    assert "perennial.ops.serving.router.router" in _loaded_with("perennial.ops.serving.backends.perennial.model")


@pytest.mark.parametrize(
    ("source", "on_loading"),
    [
        ("import perennial.ops.api.app", True),
        ("from perennial.ops.api import app", True),
        ("if True:\n    import perennial.ops.api.app", True),
        ("class A:\n    from perennial.ops.api import app", True),
        ("def call():\n    from perennial.ops.api.app import app", False),
        ("if TYPE_CHECKING:\n    import perennial.ops.api.app", False),
        ("def call():\n    import importlib\n    importlib.import_module('perennial.ops.api.app')", False),
        ("from ..ops.api import app", True),
    ],
)
def test_the_walk_sees_an_import_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, source: str, on_loading: bool
) -> None:
    monkeypatch.setitem(TREES, "perennial.continual.planted", ast.parse(source))
    monkeypatch.setitem(FILES, "perennial.continual.planted", ROOT / "continual" / "planted.py")
    assert "perennial.ops.api.app" in {name for name, _ in _imports("perennial.continual.planted")}
    assert ("perennial.ops.api.app" in _on_loading("perennial.continual.planted")) is on_loading


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_point_from_ops_to_exporters_to_continual(layer: str) -> None:
    above = {*LAYERS[LAYERS.index(layer) + 1 :], *NOT_PRODUCT, *ALONE.get(layer, ())}
    wrong = [
        f"{module}:{line} imports {name}"
        for module in FILES
        if _layer(module) == layer
        for name, line in _imports(module)
        if _layer(name) in above
    ]
    assert not wrong


def test_the_client_stands_alone_wherever_it_is_installed() -> None:
    mine = [module for module in FILES if _layer(module) == "client"]
    stray = [
        f"{module}:{line} imports {name}"
        for module in mine
        for name, line in _imports(module)
        if not name.startswith("perennial.client")
        and name.split(".")[0] not in {*sys.stdlib_module_names, *OF_THE_CLIENT}
    ]
    absolute = [
        f"{module}:{node.lineno} names the package it is in"
        for module in mine
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("perennial")
    ]
    assert len(mine) > 10
    assert not stray + absolute


def test_every_room_of_ops_has_a_floor_and_three_modules_at_most_lie_loose() -> None:
    rooms = {_room(name) for name in FILES if _layer(name) == "ops"} - {""}
    assert rooms == set(FLOOR_OF)
    assert sum(FILES.get(f"perennial.ops.{room}", Path("x/__init__.py")).name != "__init__.py" for room in rooms) <= 3


def test_a_room_imports_from_lower_floors_only() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in FILES
        if _layer(module) == "ops" and _room(module)
        for name, line in _imports(module)
        if name.startswith("perennial.ops.") and (room := _room(name)) != _room(module)
        if FLOOR_OF[room] >= FLOOR_OF[_room(module)]
    ]
    assert not wrong


def test_no_two_modules_import_each_other_whatever_the_way_round() -> None:
    arrows = {
        module: {name for name, _ in _imports(module) if name in FILES and FILES[name].name != "__init__.py"}
        for module in FILES
    }
    with pytest.raises(CycleError):
        tuple(TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())
    tuple(TopologicalSorter({module: names - {module} for module, names in arrows.items()}).static_order())


def test_the_demo_is_known_to_the_command_line_alone() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in FILES
        if not module.startswith(("perennial.ops.demo", "perennial.ops.cli"))
        for name, line in _imports(module)
        if name == "perennial.ops.demo" or name.startswith("perennial.ops.demo.")
    ]
    assert not wrong


@pytest.mark.parametrize("room", OF_EVERY_TASK)
def test_what_serves_every_task_knows_none_of_the_three_systems(room: str) -> None:
    """Neither by an import nor by the name of a task; only the registry of tasks knows them by name."""
    modules = [module for module in FILES if module == room or module.startswith(f"{room}.")]
    assert modules
    wrong = [
        f"{module}:{line} imports {name}"
        for module in modules
        for name, line in _imports(module)
        if _is_within(name, OF_ONE_TASK)
    ]
    wrong += [
        f"{module}:{node.lineno} names {node.value!r}"
        for module in modules
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Constant) and node.value in {"generation", "ranking", "replies", "opinion"}
        if module not in NAMED_WHEN_MIGRATED
    ]
    assert not wrong


def test_the_three_systems_are_where_the_walk_looks_for_them() -> None:
    assert {name for name in OF_ONE_TASK if name not in FILES} == set()
    served = "perennial.ops.serving.tasks"
    for name in ("generation", "ranking", "replies", "opinion"):
        assert any(part == f"perennial.continual.tasks.{name}" for part in OF_ONE_TASK)
        assert any(_is_within(imported, OF_ONE_TASK) for imported, _ in _imports(f"{served}.{name}"))


def test_continual_knows_no_server_database_or_http() -> None:
    wrong = [
        f"{module}:{line} imports {name}"
        for module in FILES
        if _layer(module) == "continual"
        for name, line in _imports(module)
        if name.split(".")[0] in NO_BUSINESS_OF_THE_CORE and (module, name) not in HANDS_OVER_DESCRIPTORS
    ]
    assert not wrong


@pytest.mark.parametrize("module", [*BACKENDS, "perennial.ops.cli.main"])
def test_neither_a_stub_nor_the_command_line_loads_torch_by_being_imported(module: str) -> None:
    ways = _loaded_with(module)
    found = {name: ways[name] for name in ("torch", "transformers", "sentence_transformers") if name in ways}
    assert not found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_that_offers_something_declares_it(package: str) -> None:
    offers = [node for node in TREES[package].body if not isinstance(node, ast.Expr | ast.If)]  # a docstring, a guard
    assert not offers or _declared(package) is not None, f"{package} defines or imports names without an __all__"


def test_each_all_is_sorted_and_names_real_public_things() -> None:
    wrong = []
    for module in FILES:
        declared = _declared(module)
        if declared is None:
            continue
        if declared != sorted(set(declared), key=_rank):
            wrong.append(f"{module}: sort it and name each once: {sorted(set(declared), key=_rank)}")
        missing = set(declared) - _defined(TREES[module])
        if missing and not _is_lazy(module):
            wrong.append(f"{module}: nothing is called {sorted(missing)}")
        wrong += [f"{module}: {name} is private" for name in declared if name.startswith("_") and name != "__version__"]
    assert not wrong


def test_a_module_takes_no_private_name_from_another_package() -> None:
    wrong = [
        f"{module}:{node.lineno} takes {alias.name} from {node.module}"
        for module in FILES
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("perennial.")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    ]
    assert not wrong


def _declared(module: str) -> list[str] | None:
    for node in TREES[module].body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert node.value is not None  # type: ignore[attr-defined]
            return list(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    return None


def _defined(tree: ast.Module) -> set[str]:
    """The names at the top of a module, those inside its `if`, `try` and `with` included."""
    found: set[str] = set()
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
        else:
            found.update(
                child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
            )
    return found


def _is_lazy(module: str) -> bool:
    """Whether a module gives its names on demand, by a function `__getattr__`; then they are asked for."""
    if "__getattr__" not in _defined(TREES[module]):
        return False
    loaded = importlib.import_module(module)
    return all(hasattr(loaded, name) for name in _declared(module) or ())


def _rank(name: str) -> tuple[int, str]:
    """The order ruff keeps: constants, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)
