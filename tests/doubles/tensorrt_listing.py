"""The published TensorRT listings, read: classes, overloads with their parameters, enums."""

import ast
import functools
import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSIONS = ("10.16.1.11", "11.4.0.106")  # of TensorRT
RTX = "1.7.1.116"  # TensorRT for RTX, whose listing is compared with the real library
EVERY = (*VERSIONS, RTX)
_FOLDER = Path(__file__).parent

# Real numbers matter only where callers shift by them; every other enum is numbered in the order of its listing.
ENUM_VALUES = {
    "NetworkDefinitionCreationFlag": {
        "EXPLICIT_BATCH": 0,
        "STRONGLY_TYPED": 1,
        "PREFER_JIT_PYTHON_PLUGINS": 2,
        "PREFER_AOT_PYTHON_PLUGINS": 3,
    }
}
# A binding that returns a null pointer gives None; its signature can't show that.
MAY_BE_NONE = {
    ("Builder", "build_serialized_network"),
    ("ICudaEngine", "create_execution_context"),
    ("ICudaEngine", "serialize_with_config"),
    ("Runtime", "deserialize_cuda_engine"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """One signature: `annotations` by parameter in order (without self), and what it returns."""

    signature: inspect.Signature
    annotations: dict[str, str]
    returns: str


@functools.cache
def listing(version: str) -> dict[str, Any]:
    """The listing of that version."""
    loaded: dict[str, Any] = json.loads((_FOLDER / f"tensorrt_api-{version}.json").read_text(encoding="utf-8"))
    return loaded


@functools.cache
def parse(text: str) -> Overload:
    """The overload that a pybind11 signature line states."""
    cleaned = re.sub(r"<[^<>]*>", "...", text)
    cleaned = re.sub(r"\bnvonnxparser::IParserError\b", "tensorrt.ParserError", cleaned)
    cleaned = re.sub(r"\b(?:nvonnxparser|nvinfer1)::(\w+)", r"tensorrt.\1", cleaned)
    cleaned = re.sub(r"\b\w+(?:::\w+)+\b(?:\([^)]*\))?", "object", cleaned)
    cleaned = re.sub(r"\bin: ", "in_: ", cleaned)  # a parameter that only C++ can call so
    try:
        function = ast.parse(f"def {cleaned}: ...").body[0]
    except SyntaxError:  # pybind11 lets a required argument follow an optional one; then all are required
        function = ast.parse(f"def {re.sub(r' = [^,)]+', '', cleaned)}: ...").body[0]
    assert isinstance(function, ast.FunctionDef), text
    arguments = function.args.args
    defaults = [inspect.Parameter.empty] * (len(arguments) - len(function.args.defaults)) + [
        ast.literal_eval(default) for default in function.args.defaults
    ]
    parameters, annotations = [], {}
    for argument, default in zip(arguments, defaults, strict=True):
        if argument.arg == "self":
            continue
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(inspect.Parameter(argument.arg, kind, default=default))
        annotations[argument.arg] = "object" if argument.annotation is None else ast.unparse(argument.annotation)
    returns = "None" if function.returns is None else ast.unparse(function.returns)
    return Overload(signature=inspect.Signature(parameters), annotations=annotations, returns=returns)
