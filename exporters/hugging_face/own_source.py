"""One file of source out of several modules of ours: what a module imports from them, and all that this needs."""

import ast
import importlib
from pathlib import Path
from types import ModuleType

from perennial.continual.errors import ExportFailed

__all__ = ["source_without_imports"]

_OURS = "perennial."


def source_without_imports(module: ModuleType) -> str:
    """The source of all that `module` imports from this product, with whatever that needs of it, as one module.

    Imports of other packages stay. A definition stands behind those that it names.

    Raises:
        ExportFailed: two modules call different things alike, or something is imported under another name.
    """
    found = _Found()
    for name, origin in _Names(module.__name__).ours.items():
        found.take(*origin, name)
    return found.text()


class _Names:
    """What stands at the top of a module: statements by the names they define, and imports by theirs."""

    def __init__(self, module: str) -> None:
        path = importlib.import_module(module).__file__
        if path is None:
            raise ExportFailed(f"{module} has no file; install the product from its wheel")
        self.source = Path(path).read_text(encoding="utf-8")
        self.defined: dict[str, ast.stmt] = {}
        self.ours: dict[str, tuple[str, str]] = {}  # module and name there
        self.foreign: dict[str, str] = {}  # the statement
        for node in ast.parse(self.source).body:
            self._read(module, node)

    def _read(self, module: str, node: ast.stmt) -> None:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if not (node.module or "").startswith(_OURS):
                    self.foreign[alias.asname or alias.name] = ast.unparse(
                        ast.ImportFrom(module=node.module, names=[alias], level=node.level)
                    )
                elif alias.asname:
                    raise ExportFailed(f"{module} imports {alias.name} as {alias.asname}; keep its name")
                else:
                    self.ours[alias.name] = (str(node.module), alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self.foreign[(alias.asname or alias.name).split(".")[0]] = ast.unparse(ast.Import(names=[alias]))
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            self.defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                self.defined |= {each.id: node for each in ast.walk(target) if isinstance(each, ast.Name)}


class _Found:
    """What has been taken so far, in an order in which it can be executed."""

    def __init__(self) -> None:
        self._modules: dict[str, _Names] = {}
        self._imports: dict[str, str] = {}
        self._whose: dict[str, tuple[str, int]] = {}
        self._statements: list[str] = []

    def take(self, module: str, original: str, name: str) -> None:
        """Take a name of a module with everything that it needs."""
        if module not in self._modules:
            self._modules[module] = _Names(module)
        names = self._modules[module]
        if original in names.ours:  # a package that hands it on
            self.take(*names.ours[original], name)
        elif original in names.foreign:
            self._import(name, names.foreign[original])
        elif original in names.defined:
            self._define(module, names, names.defined[original], name)

    def _import(self, name: str, statement: str) -> None:
        if self._imports.setdefault(name, statement) != statement or name in self._whose:
            raise ExportFailed(f"{name} is two things: {statement} and {self._imports[name]}; rename one")

    def _define(self, module: str, names: _Names, node: ast.stmt, name: str) -> None:
        place = (module, node.lineno)
        if name in self._whose or name in self._imports:
            if self._whose.get(name) != place:
                raise ExportFailed(f"{name} of {module} is another thing than the one of that name before; rename one")
            return
        is_taken = place in self._whose.values()  # one statement may define several names
        self._whose[name] = place
        if is_taken:
            return
        for needed in dict.fromkeys(each.id for each in ast.walk(node) if isinstance(each, ast.Name)):
            self.take(module, needed, needed)
        self._statements.append(_segment(names.source, node))

    def text(self) -> str:
        """The file."""
        head = '"""Taken out of the source of Perennial, so that this folder needs no other package of it."""'
        return "\n\n".join([head, "\n".join(sorted(self._imports.values())), *self._statements]) + "\n"


def _segment(source: str, node: ast.stmt) -> str:
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    return "\n".join(source.splitlines()[first - 1 : node.end_lineno])
