"""Small changes to a module's source, one at a time: each is a mistake that a test should notice."""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

__all__ = ["Mutant", "mutants", "source_of"]

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_PAIRS = (("max", "min"), ("maximum", "minimum"), ("argmax", "argmin"), ("any", "all"), ("floor", "ceil"))
_OPPOSITES = dict(_PAIRS) | {second: first for first, second in _PAIRS}
_SYMMETRIC = frozenset({"isinstance", "issubclass", "getattr", "hasattr", "zip", "print", "join", *_OPPOSITES})
_NOT_RUN = frozenset({"cast", "TypeVar", "NewType", "Literal"})
_LOGGERS = frozenset({"logging", "logger", "_logger", "log", "_log", "_LOGGER", "LOGGER"})
_TEXT_LIMIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change: where it is and how it reads. `key` names it without line numbers, so that reasons outlive edits."""

    module: str
    within: str  # the function or class, dotted; empty at module level
    before: str
    after: str
    occurrence: int  # among changes of this module that read the same
    index: int  # among all changes of this source
    line: int
    covers: tuple[int, int]  # first and last line of the statement (its head, if compound)
    at_import: bool  # the changed code runs when the module is imported, not when a test calls it

    @property
    def key(self) -> str:
        """The mutation as the file of reasons writes it."""
        again = f" #{self.occurrence + 1}" if self.occurrence else ""
        return f"{self.within or 'module'}: {self.before} => {self.after}{again}"


@dataclass(slots=True)
class _Change:
    parent: ast.AST
    field: str
    place: int | None
    old: ast.AST
    new: ast.AST
    within: str
    statement: ast.stmt
    at_import: bool

    def put(self, node: ast.AST) -> None:
        if self.place is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.place] = node

    def before_and_after(self) -> tuple[str, str]:
        if isinstance(self.new, ast.Pass):
            return _first_line(self.old), "(removed)"
        if not isinstance(self.old, ast.Constant):
            return _first_line(self.old), _first_line(self.new)
        if isinstance(self.parent, ast.arguments):
            name = _argument(self.parent, self.field, self.place or 0)
            return f"{name}={ast.unparse(self.old)}", f"{name}={ast.unparse(self.new)}"
        before = _first_line(self.parent)
        self.put(self.new)
        after = _first_line(self.parent)
        self.put(self.old)
        return before, after


def mutants(module: str, source: str) -> list[Mutant]:
    """Return every mutant of the source, in the order in which they stand in it.

    >>> [m.key for m in mutants("m", "def older(a, b):\\n    return a.age > b.age")][:2]
    ['older: return a.age > b.age => return None', 'older: a.age > b.age => a.age >= b.age']
    """
    seen: Counter[tuple[str, str, str]] = Counter()
    found = []
    for index, change in enumerate(_changes(ast.parse(source))):
        before, after = change.before_and_after()
        head = change.statement
        line = getattr(change.old, "lineno", head.lineno)
        mutant = Mutant(
            module=module,
            within=change.within,
            before=before,
            after=after,
            occurrence=0,
            index=index,
            line=line,
            covers=_head_lines(head),
            at_import=change.at_import,
        )
        same = (mutant.within, before, after)
        found.append(replace(mutant, occurrence=seen[same]))
        seen[same] += 1
    return found


def source_of(mutant: Mutant, source: str) -> ast.Module:
    """Return the tree of the source with this one change."""
    tree = ast.parse(source)
    change = _changes(tree)[mutant.index]
    change.put(ast.copy_location(change.new, change.old))
    return ast.fix_missing_locations(tree)


def _changes(tree: ast.Module) -> list[_Change]:
    walk = _Walk()
    walk.children(tree, "", None, at_import=True)
    return walk.found


class _Walk:
    """Goes over a tree in source order and notes the changes; leaves out what no test should pin."""

    def __init__(self) -> None:
        self.found: list[_Change] = []

    def children(self, node: ast.AST, within: str, statement: ast.stmt | None, *, at_import: bool) -> None:
        for field, value in ast.iter_fields(node):
            if field in {"annotation", "returns", "decorator_list", "type_params", "bases"}:
                continue
            places = enumerate(value) if isinstance(value, list) else [(None, value)]
            for place, child in places:
                if isinstance(child, ast.AST) and not _left_out(child, node):
                    here = at_import and not (isinstance(node, ast.FunctionDef) and field == "body")
                    self._visit(child, node, field, place, within, statement, at_import=here)

    def _visit(
        self,
        node: ast.AST,
        parent: ast.AST,
        field: str,
        place: int | None,
        within: str,
        statement: ast.stmt | None,
        *,
        at_import: bool,
    ) -> None:
        if isinstance(node, ast.stmt):
            statement = node
        if statement is not None:
            for new in _alternatives(node, parent):
                self.found.append(_Change(parent, field, place, node, new, within, statement, at_import))
        if isinstance(node, ast.Raise):  # what it says is a message
            return
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            within = f"{within}.{node.name}" if within else node.name
        self.children(node, within, statement, at_import=at_import)


def _left_out(node: ast.AST, parent: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return True
        case ast.Expr(value=ast.Constant()):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id=name)))) if name in _LOGGERS:
            return True
        case ast.Call(func=ast.Name(id=name)) if name in _NOT_RUN:
            return True
        case ast.ClassDef(bases=bases):
            return any(ast.unparse(base).split("[")[0] in {"Protocol", "typing.Protocol"} for base in bases)
        case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__")]):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.keyword(arg="strict" | "slots" | "ensure_ascii" | "indent" | "encoding" | "stacklevel"):
            return isinstance(parent, ast.Call)
    return False


def _alternatives(node: ast.AST, parent: ast.AST) -> Iterator[ast.AST]:
    for kind, make in _MAKERS:
        if isinstance(node, kind):
            yield from make(node, parent)


def _compare(node: ast.Compare, _: ast.AST) -> Iterator[ast.AST]:
    for place, op in enumerate(node.ops):
        for other in _COMPARISONS[type(op)]:
            ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
            yield ast.Compare(left=node.left, ops=ops, comparators=node.comparators)


def _binary(node: ast.BinOp, _: ast.AST) -> Iterator[ast.AST]:
    text = any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in (node.left, node.right)
    )
    if type(node.op) in _ARITHMETIC and not text:
        yield ast.BinOp(left=node.left, op=_ARITHMETIC[type(node.op)](), right=node.right)


def _augmented(node: ast.AugAssign, _: ast.AST) -> Iterator[ast.AST]:
    yield ast.Pass()
    if type(node.op) in _ARITHMETIC:
        yield ast.AugAssign(target=node.target, op=_ARITHMETIC[type(node.op)](), value=node.value)


def _boolean(node: ast.BoolOp, _: ast.AST) -> Iterator[ast.AST]:
    yield ast.BoolOp(op=ast.Or() if isinstance(node.op, ast.And) else ast.And(), values=node.values)


def _unary(node: ast.UnaryOp, _: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node.op, (ast.Not, ast.USub, ast.Invert)):
        yield node.operand


def _constant(node: ast.Constant, parent: ast.AST) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(value=not value)
    elif isinstance(value, int):
        yield ast.Constant(value=value + 1)
        if not isinstance(parent, ast.UnaryOp):
            yield ast.Constant(value=value - 1)
    elif isinstance(value, float):
        yield ast.Constant(value=value + 1.0)


def _return(node: ast.Return, _: ast.AST) -> Iterator[ast.AST]:
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield ast.Return(value=ast.Constant(value=None))


def _condition(node: ast.If | ast.IfExp | ast.While, _: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node.test, (ast.Compare, ast.BoolOp, ast.Constant)) and not _is_not(node.test):
        other = copy.copy(node)
        other.test = ast.copy_location(ast.UnaryOp(op=ast.Not(), operand=node.test), node.test)
        yield other


def _guard(node: ast.If, _: ast.AST) -> Iterator[ast.AST]:
    if not node.orelse and isinstance(node.body[-1], (ast.Raise, ast.Return, ast.Continue, ast.Break)):
        yield ast.Pass()


def _raise(_: ast.Raise, parent: ast.AST) -> Iterator[ast.AST]:
    alone = isinstance(parent, ast.If) and not parent.orelse and len(parent.body) == 1
    if not alone:  # the guard's removal says the same
        yield ast.Pass()


def _effect(node: ast.Expr, _: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node.value, ast.Call):
        yield ast.Pass()


def _stored(node: ast.Assign, _: ast.AST) -> Iterator[ast.AST]:
    if any(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
        yield ast.Pass()


def _removed(_: ast.AST, __: ast.AST) -> Iterator[ast.AST]:
    yield ast.Pass()


def _jump(node: ast.Break | ast.Continue, _: ast.AST) -> Iterator[ast.AST]:
    yield ast.Break() if isinstance(node, ast.Continue) else ast.Continue()


def _call(node: ast.Call, _: ast.AST) -> Iterator[ast.AST]:
    name = _called(node)
    if name in _OPPOSITES:
        other: ast.expr
        if isinstance(node.func, ast.Attribute):
            other = ast.Attribute(value=node.func.value, attr=_OPPOSITES[name], ctx=ast.Load())
        else:
            other = ast.Name(id=_OPPOSITES[name], ctx=ast.Load())
        yield ast.Call(func=other, args=node.args, keywords=node.keywords)
    plain = len(node.args) >= 2 and all(isinstance(one, (ast.Name, ast.Attribute)) for one in node.args[:2])
    if plain and name not in _SYMMETRIC and ast.unparse(node.args[0]) != ast.unparse(node.args[1]):
        args = [node.args[1], node.args[0], *node.args[2:]]
        yield ast.Call(func=node.func, args=args, keywords=node.keywords)


_MAKERS: tuple[tuple[type[ast.AST] | tuple[type[ast.AST], ...], Callable[..., Iterator[ast.AST]]], ...] = (
    (ast.Compare, _compare),
    (ast.BinOp, _binary),
    (ast.AugAssign, _augmented),
    (ast.BoolOp, _boolean),
    (ast.UnaryOp, _unary),
    (ast.Constant, _constant),
    (ast.Return, _return),
    ((ast.If, ast.IfExp, ast.While), _condition),
    (ast.If, _guard),
    (ast.Raise, _raise),
    (ast.Expr, _effect),
    (ast.Assign, _stored),
    (ast.Delete, _removed),
    ((ast.Break, ast.Continue), _jump),
    (ast.Call, _call),
)


def _is_not(node: ast.AST) -> bool:
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _first_line(node: ast.AST) -> str:
    text = ast.unparse(node)
    if isinstance(node, (ast.If, ast.While)):
        lines = [line.strip() for line in text.splitlines()]
        text = f"{lines[0]} {lines[1]}"
    return " ".join(text.split())[:_TEXT_LIMIT]


def _argument(arguments: ast.arguments, field: str, place: int) -> str:
    if field == "kw_defaults":
        return arguments.kwonlyargs[place].arg
    named = [*arguments.posonlyargs, *arguments.args]
    return named[len(named) - len(arguments.defaults) + place].arg


def _head_lines(statement: ast.stmt) -> tuple[int, int]:
    """The lines whose execution says that a test reaches the statement: all of a simple one, the head of others."""
    body = getattr(statement, "body", None)
    if isinstance(statement, ast.stmt) and isinstance(body, list) and body:
        return statement.lineno, max(statement.lineno, body[0].lineno - 1)
    return statement.lineno, statement.end_lineno or statement.lineno
