"""An importable TensorRT read into the form of the published listings: classes, overloads, properties, enums."""

import re
from types import ModuleType
from typing import Any

__all__ = ["read_module"]

_CALLED_BY_SYNTAX = {"__init__", "__len__", "__getitem__"}  # of the special methods, those that our code may reach


def read_module(module: ModuleType) -> dict[str, Any]:
    """What `module` exposes, its own name written as `tensorrt`; `values` are the numbers of its enums."""
    own = {name: value for name, value in sorted(vars(module).items()) if isinstance(value, type)}
    kinds = {name: kind for name, kind in own.items() if _is_ours(kind, module)}
    enums = {name: kind for name, kind in kinds.items() if hasattr(kind, "__members__")}
    return {
        "tensorrt": module.__version__,
        "enums": {name: sorted(kind.__members__) for name, kind in enums.items()},
        "values": {
            name: {member: int(number) for member, number in sorted(kind.__members__.items())}
            for name, kind in enums.items()
        },
        "classes": {name: _read_class(kind, module) for name, kind in kinds.items() if name not in enums},
    }


def _is_ours(kind: type, module: ModuleType) -> bool:
    return kind.__module__.split(".")[0] == module.__name__


def _read_class(kind: type, module: ModuleType) -> dict[str, Any]:
    methods, properties = {}, {}
    for name, value in sorted(vars(kind).items()):
        if name.startswith("__") and name not in _CALLED_BY_SYNTAX:
            continue
        if isinstance(value, property):
            properties[name] = "r" if value.fset is None else "rw"
        elif isinstance(value, type) and hasattr(value, "__members__"):
            methods[name] = []  # a nested enum
        elif callable(value) and (signatures := _signatures(name, value.__doc__ or "", module)):
            methods[name] = signatures
    bases = [base.__name__ for base in kind.__bases__ if _is_ours(base, module)]
    return {"bases": bases, "methods": methods, "properties": properties}


def _signatures(name: str, text: str, module: ModuleType) -> list[str]:
    """The lines of a binding's docstring that state its overloads."""
    stated = re.findall(rf"^(?:\d+\. )?({re.escape(name)}\(.*\) -> .*)$", text, re.MULTILINE)
    return [re.sub(rf"\b{module.__name__}(?:\.\w+_rtx)?\.", "tensorrt.", line) for line in stated]
