"""Type stubs of `tensorrt`, written from the listing of one version, so that mypy judges our calls against it."""

from pathlib import Path
from typing import Any

from tests.doubles.tensorrt_listing import MAY_BE_NONE, Overload, listing, parse

_HEADER = """# mypy: disable-error-code="overload-cannot-match, override, type-arg"
import collections.abc
import typing
import typing_extensions
import numpy

__version__: str
"""
_ENUM = """class {name}:
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> int: ...
    def __int__(self) -> int: ...
"""


def write_stubs(folder: Path, version: str) -> Path:
    """Write `tensorrt/__init__.pyi` under `folder` and return it."""
    api = listing(version)
    parts = [_HEADER]
    for name, members in sorted(api["enums"].items()):
        parts.append(_ENUM.format(name=name) + "".join(f"    {member}: {name}\n" for member in members))
    parts.extend(_class(name, described, api) for name, described in sorted(api["classes"].items()))
    path = folder / "tensorrt" / "__init__.pyi"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(parts).replace("tensorrt.", ""), encoding="utf-8")
    return path


def _class(name: str, described: dict[str, Any], api: dict[str, Any]) -> str:
    bases = [base for base in described["bases"] if base in api["classes"]]
    lines = [f"class {name}({', '.join(bases)}):" if bases else f"class {name}:"]
    for method, signatures in described["methods"].items():
        if not signatures:  # a nested enum, whose members the listing leaves out
            lines.append(f"    class {method}:\n        @property\n        def name(self) -> str: ...")
            continue
        overloads = [parse(text) for text in signatures]
        lines.extend(_method(name, method, overload, many=len(overloads) > 1) for overload in overloads)
    lines.extend(_property(attribute, access) for attribute, access in described["properties"].items())
    if name == "IHostMemory":
        lines.append("    def __buffer__(self, flags: int, /) -> memoryview: ...")
    if len(lines) == 1:
        lines.append("    ...")
    return "\n".join(lines) + "\n"


def _method(owner: str, method: str, overload: Overload, *, many: bool) -> str:
    parameters = ["self"]
    for name, parameter in overload.signature.parameters.items():
        annotation = overload.annotations[name]
        annotation += " | None" if parameter.default is None else ""
        annotation = "object" if "..." in annotation else annotation
        optional = parameter.default is not parameter.empty
        parameters.append(f"{name}: {annotation}" + (" = ..." if optional else ""))
    returns = overload.returns + (" | None" if (owner, method) in MAY_BE_NONE else "")
    mark = "    @typing.overload\n" if many else ""
    return f"{mark}    def {method}({', '.join(parameters)}) -> {returns}: ..."


# Types of the properties that the listing names without a type, for those our code touches.
_PROPERTY_TYPES = {
    "builder_optimization_level": "int",
    "engine_host_code_allowed": "bool",
    "hardware_compatibility_level": "HardwareCompatibilityLevel",
    "num_errors": "int",
    "num_io_tensors": "int",
    "num_optimization_profiles": "int",
    "profiling_verbosity": "ProfilingVerbosity",
    "refittable": "bool",
    "size": "int",
}


def _property(attribute: str, access: str) -> str:
    kind = _PROPERTY_TYPES.get(attribute, "object")
    text = f"    @property\n    def {attribute}(self) -> {kind}: ..."
    if access == "rw":
        text += f"\n    @{attribute}.setter\n    def {attribute}(self, value: {kind}) -> None: ..."
    return text
