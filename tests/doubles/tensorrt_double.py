"""A strict double of the `tensorrt` module, made from the published listing of one version.

Nothing exists but what the listing names: an unknown attribute, enum member, argument name, count or type raises, and
so does a call in an order that the builder would refuse. A listed method that has no behaviour here raises too, so that
no call passes unlooked at. Plans are JSON with the ONNX inside and run on ONNX Runtime, so answers are real numbers.
"""

import sys
import types
from pathlib import Path
from typing import Any

from tests.doubles import tensorrt_behaviour as behaviour
from tests.doubles.tensorrt_listing import ENUM_VALUES, MAY_BE_NONE, RTX, listing, parse

__all__ = ["Misuse", "fill_module", "make_module", "module_name", "write_package"]

Misuse = behaviour.Misuse


def module_name(version: str) -> str:
    """The module that this version of either flavour is imported as."""
    return "tensorrt_rtx_bindings" if version == RTX else "tensorrt"


def make_module(version: str, **world: Any) -> types.ModuleType:
    """The double of that version; `world` are the behaviour's settings (see `tensorrt_behaviour.World`)."""
    module = types.ModuleType(module_name(version))
    fill_module(module, version, **world)
    return module


def write_package(folder: Path, version: str, **world: Any) -> None:
    """A package under `folder`, so that a child process with it on its path imports the double."""
    package = folder / module_name(version)
    package.mkdir(parents=True)
    settings = ", ".join(f"{key}={value!r}" for key, value in world.items())
    (package / "__init__.py").write_text(
        "import sys\n\nfrom tests.doubles.tensorrt_double import fill_module\n\n"
        f"fill_module(sys.modules[__name__], {version!r}, {settings})\n",
        encoding="utf-8",
    )


def fill_module(module: types.ModuleType, version: str, **world: Any) -> None:
    """Put the classes, enums and version of the listing into `module`."""
    api = listing(version)
    state = behaviour.World(module=module, version=version, **world)
    vars(module)["__version__"] = version
    for name, members in api["enums"].items():
        setattr(module, name, _make_enum(name, members, api.get("values", ENUM_VALUES).get(name)))
    for name in api["classes"]:
        _class_for(name, api, module, state)
    vars(module)["__getattr__"] = _refuse(version)


def _refuse(version: str) -> Any:
    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Misuse(f"tensorrt {version} has no {name!r}")

    return missing


class _EnumMeta(type):
    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Misuse(f"{cls.__name__} has no member {name!r}")

    def __setattr__(cls, name: str, value: object) -> None:
        raise Misuse(f"{cls.__name__}.{name} cannot be set")


def _make_enum(name: str, members: list[str], stated: dict[str, int] | None) -> type:
    numbers = {member: index for index, member in enumerate(members)} if stated is None else stated

    def make(self: Any, member: str) -> None:
        object.__setattr__(self, "name", member)
        object.__setattr__(self, "value", numbers[member])

    body = {
        "__slots__": ("name", "value"),
        "__init__": make,
        "__int__": lambda self: self.value,
        "__eq__": lambda self, other: self is other,
        "__hash__": lambda self: hash(self.name),
        "__repr__": lambda self: f"{name}.{self.name}",
        "__setattr__": _frozen,
    }
    made = _EnumMeta(name, (), body)
    for member in members:
        type.__setattr__(made, member, made(member))
    return made


def _frozen(self: Any, name: str, value: object) -> None:
    raise Misuse(f"{type(self).__name__}.{name} cannot be set")


def _class_for(name: str, api: dict[str, Any], module: types.ModuleType, world: "behaviour.World") -> type:
    if name in vars(module):
        made: type = vars(module)[name]
        return made
    described = api["classes"][name]
    bases = tuple(_class_for(base, api, module, world) for base in described["bases"] if base in api["classes"])
    body: dict[str, Any] = {"__setattr__": _make_setattr(name, described, bases), "__getattr__": _make_getattr(name)}
    for method, signatures in described["methods"].items():
        if method == "__init__":
            body["__init__"] = _make_method(name, method, signatures, module, world)
        elif signatures:
            body[method] = _make_method(name, method, signatures, module, world)
    if "__init__" not in body and not bases:
        body["__init__"] = _not_constructible(name)
    for attribute, access in described["properties"].items():
        body[attribute] = _make_property(name, attribute, access, world)
    if name == "IHostMemory":  # the buffer protocol has no method to list
        body["__bytes__"] = lambda self: behaviour.own(self)["content"]
    made = type(name, bases or (object,), body)
    made.__module__ = "tensorrt"
    setattr(module, name, made)
    return made


def _not_constructible(name: str) -> Any:
    def refuse(self: Any, *_args: object, **_kwargs: object) -> None:
        raise Misuse(f"{name} cannot be made by calling it")

    return refuse


def _make_setattr(name: str, described: dict[str, Any], bases: tuple[type, ...]) -> Any:
    writable = {attribute for attribute, access in described["properties"].items() if access == "rw"}
    inherited = {attribute for base in bases for attribute in dir(base)}

    def set_attribute(self: Any, attribute: str, value: object) -> None:
        if attribute not in writable | inherited:
            raise Misuse(f"{name}.{attribute} cannot be set")
        object.__setattr__(self, attribute, value)

    return set_attribute


def _make_getattr(name: str) -> Any:
    def missing(self: Any, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        raise Misuse(f"{name} has no attribute {attribute!r}")

    return missing


def _make_property(owner: str, attribute: str, access: str, world: "behaviour.World") -> property:
    def get(self: Any) -> Any:
        return world.read(owner, attribute, self)

    def put(self: Any, value: object) -> None:
        world.write(owner, attribute, self, value)

    return property(get, put if access == "rw" else None)


def _make_method(
    owner: str, method: str, signatures: list[str], module: types.ModuleType, world: "behaviour.World"
) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        reasons = []
        for overload in map(parse, signatures):
            try:
                bound = overload.signature.bind(*args, **kwargs)
                for name, value in bound.arguments.items():
                    _check(module, overload.annotations[name], value, f"{owner}.{method}({name})")
            except (TypeError, Misuse) as exc:
                reasons.append(str(exc))
                continue
            bound.apply_defaults()
            result = world.call(owner, method, self, dict(bound.arguments))
            if result is None and (owner, method) in MAY_BE_NONE:
                return None
            _check(module, overload.returns, result, f"the double's own {owner}.{method}")
            return result
        raise Misuse(f"{owner}.{method}: {'; '.join(reasons)}")

    return call


_PLAIN: dict[str, Any] = {
    "str": str,
    "bool": bool,
    "int": int,
    "tuple": tuple,
    "list": list,
    "object": object,
    "None": type(None),
    "typing_extensions.Buffer": (bytes, bytearray, memoryview),
}


def _check(module: types.ModuleType, annotation: str, value: object, where: str) -> None:
    if not _fits(module, annotation, value):
        raise Misuse(f"{where}: {type(value).__name__} is not {annotation}")


def _fits(module: types.ModuleType, annotation: str, value: object) -> bool:
    if annotation in _PLAIN:
        if annotation == "int" and isinstance(value, bool):
            return False
        return isinstance(value, _PLAIN[annotation])
    if annotation == "typing.SupportsInt":
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation.startswith("tensorrt."):
        found: Any = module
        for part in annotation.split(".")[1:]:
            if part == "Severity":
                return True
            found = vars(found)[part]
        return isinstance(value, found)
    if annotation.startswith(("collections.abc.Sequence[", "list[")):
        inner = annotation[annotation.index("[") + 1 : -1]
        kinds = list if annotation.startswith("list[") else (list, tuple)
        return isinstance(value, kinds) and all(_fits(module, inner, item) for item in value)
    raise Misuse(f"the double cannot judge {annotation}")


def install(patch: Any, version: str, **world: Any) -> None:
    """Make the double the imported TensorRT of this process, for as long as the MonkeyPatch `patch` lasts."""
    module = make_module(version, **world)
    for name in {"tensorrt", module_name(version)}:
        patch.setitem(sys.modules, name, module)
