"""What the double does when it is called rightly: order is checked, plans are JSON, answers come from ONNX Runtime."""

import base64
import ctypes
import functools
import json
import os
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper


class Misuse(AssertionError):
    """A call that the real builder of this version would refuse."""


@dataclass(kw_only=True)
class World:
    """One imported double. The settings make it misbehave as the real one can:

    `rejects`: build, profile, context, cache, execute or serialise answers no. `dies`: the process ends there.
    `unset`: weights that the ONNX refitter leaves alone without telling. `missing`: those it leaves alone and reports.
    """

    module: types.ModuleType
    version: str
    rejects: tuple[str, ...] = ()
    dies: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    log: list[str] = field(default_factory=list)

    @property
    def major(self) -> int:
        return int(self.version.split(".", maxsplit=1)[0])

    def make(self, name: str, **state: Any) -> Any:
        kind = vars(self.module)[name]
        made = kind.__new__(kind)
        own(made).update(state)
        return made

    def enum(self, name: str, member: str) -> Any:
        return getattr(vars(self.module)[name], member)

    def call(self, owner: str, method: str, this: Any, given: dict[str, Any]) -> Any:
        behaviour = METHODS.get(f"{owner}.{method}")
        if behaviour is None:
            raise Misuse(f"{owner}.{method} is listed, but the double does not know what it does")
        self.log.append(f"{owner}.{method}")
        if f"{owner}.{method}" in self.dies:
            os._exit(11)
        return behaviour(self, this, **given)

    def read(self, owner: str, attribute: str, this: Any) -> Any:
        behaviour = PROPERTIES.get(f"{owner}.{attribute}")
        if behaviour is not None:
            return behaviour(self, this)
        if attribute in own(this):
            return own(this)[attribute]
        raise Misuse(f"{owner}.{attribute} is listed, but the double does not know its value")

    def write(self, owner: str, attribute: str, this: Any, value: object) -> None:
        if own(this).get("used"):
            raise Misuse(f"{owner}.{attribute} is set after the build that it should have shaped")
        wanted = SETTABLE.get(f"{owner}.{attribute}")
        if wanted is None:
            raise Misuse(f"{owner}.{attribute} is listed, but the double does not know what setting it does")
        kind = vars(self.module)[wanted] if wanted in vars(self.module) else {"int": int, "bool": bool}[wanted]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise Misuse(f"{owner}.{attribute} is {wanted}, not {type(value).__name__}")
        own(this)[attribute] = value


def own(this: Any) -> dict[str, Any]:
    """The double's own state of one object, out of the caller's sight."""
    state: dict[str, Any] = vars(this).setdefault("_double", {})
    return state


METHODS: dict[str, Callable[..., Any]] = {}
PROPERTIES: dict[str, Callable[..., Any]] = {
    "INetworkDefinition.num_inputs": lambda _world, this: len(_parsed(this).graph.input),
    "INetworkDefinition.num_outputs": lambda _world, this: len(_parsed(this).graph.output),
    "OnnxParser.num_errors": lambda _world, this: len(own(this)["errors"]),
    "OnnxParserRefitter.num_errors": lambda _world, this: len(own(this)["errors"]),
    "ICudaEngine.num_io_tensors": lambda _world, this: len(_io(this)),
    "ICudaEngine.num_optimization_profiles": lambda _world, this: len(own(this)["plan"]["profiles"]),
    "ICudaEngine.refittable": lambda _world, this: own(this)["plan"]["refittable"],
    "Weights.size": lambda _world, this: own(this)["count"],
}
SETTABLE = {
    "IBuilderConfig.builder_optimization_level": "int",
    "IBuilderConfig.hardware_compatibility_level": "HardwareCompatibilityLevel",
    "IBuilderConfig.num_compute_capabilities": "int",
    "IBuilderConfig.profiling_verbosity": "ProfilingVerbosity",
    "Runtime.engine_host_code_allowed": "bool",
}
_REMOVED_PRECISION = {"FP16", "BF16", "INT8", "FP8", "INT4", "FP4"}


def does(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what one listed method does."""

    def register(behaviour: Callable[..., Any]) -> Callable[..., Any]:
        METHODS[name] = behaviour
        return behaviour

    return register


@does("Logger.__init__")
def _logger(world: World, this: Any, min_severity: object) -> None:
    own(this)["min_severity"] = min_severity


@does("Dims.__init__")
def _dims(world: World, this: Any, shape: Any = ()) -> None:
    own(this)["shape"] = tuple(int(size) for size in shape)


@does("Dims.__len__")
def _dims_length(world: World, this: Any) -> int:
    return len(own(this)["shape"])


@does("Dims.__getitem__")
def _dims_item(world: World, this: Any, arg0: Any) -> Any:
    return own(this)["shape"][arg0]


# --- building


@does("Builder.__init__")
def _builder(world: World, this: Any, logger: Any) -> None:
    own(this)["logger"] = logger


@does("Builder.create_network")
def _create_network(world: World, this: Any, flags: int) -> Any:
    kind = vars(world.module)["NetworkDefinitionCreationFlag"]
    known = sum(1 << int(value) for value in vars(kind).values() if isinstance(value, kind))
    strong = 1 << int(kind.STRONGLY_TYPED)
    if flags & ~known:
        raise Misuse(f"create_network flags {flags} have bits that no flag of {world.version} has")
    if not flags & strong:
        raise Misuse(f"create_network flags {flags} are not strongly typed; shift: 1 << int(STRONGLY_TYPED)")
    return world.make("INetworkDefinition", builder=this, model=None)


@does("Builder.create_builder_config")
def _create_config(world: World, this: Any) -> Any:
    return world.make(
        "IBuilderConfig",
        builder=this,
        switched={"TF32"},
        profiles=[],
        pools={},
        targets={},
        cache=None,
        used=False,
    )


@does("Builder.create_optimization_profile")
def _create_profile(world: World, this: Any) -> Any:
    return world.make("IOptimizationProfile", shapes={}, added=False)


@does("IOptimizationProfile.set_shape")
def _set_shape(world: World, this: Any, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
    low, best, high = (own(dims)["shape"] for dims in (min, opt, max))
    if own(this)["added"]:
        raise Misuse("set_shape after the profile was added to the configuration")
    if not len(low) == len(best) == len(high) or any(not a <= b <= c for a, b, c in zip(low, best, high, strict=True)):
        raise Misuse(f"profile of {input}: {low}, {best}, {high} do not grow")
    own(this)["shapes"][input] = (low, best, high)


def _fresh(this: Any, what: str) -> dict[str, Any]:
    state = own(this)
    if state["used"]:
        raise Misuse(f"{what} after the build that it should have shaped")
    return state


@does("IBuilderConfig.add_optimization_profile")
def _add_profile(world: World, this: Any, profile: Any) -> int:
    state = _fresh(this, "add_optimization_profile")
    if not own(profile)["shapes"]:
        raise Misuse("add_optimization_profile before set_shape")
    if "profile" in world.rejects:
        return -1
    own(profile)["added"] = True
    state["profiles"].append({name: list(shapes) for name, shapes in own(profile)["shapes"].items()})
    return len(state["profiles"]) - 1


@does("IBuilderConfig.set_flag")
def _set_flag(world: World, this: Any, flag: Any) -> None:
    if flag.name in _REMOVED_PRECISION:
        raise Misuse(f"BuilderFlag.{flag.name} on a strongly typed network")
    _fresh(this, "set_flag")["switched"].add(flag.name)


@does("IBuilderConfig.clear_flag")
def _clear_flag(world: World, this: Any, flag: Any) -> None:
    _fresh(this, "clear_flag")["switched"].discard(flag.name)


@does("IBuilderConfig.set_memory_pool_limit")
def _set_pool(world: World, this: Any, pool: Any, pool_size: int) -> None:
    _fresh(this, "set_memory_pool_limit")["pools"][pool.name] = pool_size


@does("IBuilderConfig.set_compute_capability")
def _set_target(world: World, this: Any, compute_capability: Any, index: int) -> bool:
    state = _fresh(this, "set_compute_capability")
    if index >= state.get("num_compute_capabilities", 0):
        raise Misuse(
            f"set_compute_capability {index} of {state.get('num_compute_capabilities', 0)} that were announced"
        )
    state["targets"][index] = compute_capability.name
    return True


@does("IBuilderConfig.create_timing_cache")
def _create_cache(world: World, this: Any, serialized_timing_cache: bytes) -> Any:
    _fresh(this, "create_timing_cache")
    return world.make("ITimingCache", content=bytes(serialized_timing_cache))


@does("IBuilderConfig.set_timing_cache")
def _set_cache(world: World, this: Any, cache: Any, ignore_mismatch: bool) -> bool:
    state = _fresh(this, "set_timing_cache")
    if ignore_mismatch:
        raise Misuse("set_timing_cache with ignore_mismatch=True may build a wrong engine")
    content = own(cache)["content"]
    if content and (json.loads(content)["version"] != world.version or "cache" in world.rejects):
        return False
    state["cache"] = cache
    return True


@does("IBuilderConfig.get_timing_cache")
def _get_cache(world: World, this: Any) -> Any:
    if not own(this)["used"]:
        raise Misuse("get_timing_cache before the build has measured anything")
    if own(this)["cache"] is None:
        raise Misuse("get_timing_cache without set_timing_cache")
    return own(this)["cache"]


@does("ITimingCache.serialize")
def _serialise_cache(world: World, this: Any) -> Any:
    return world.make("IHostMemory", content=own(this)["content"])


@does("OnnxParser.__init__")
def _parser(world: World, this: Any, network: Any, logger: Any) -> None:
    own(this).update(network=network, errors=[])


@does("OnnxParser.parse_from_file")
def _parse(world: World, this: Any, model: str) -> bool:
    state = own(this)
    if own(state["network"])["model"] is not None:
        raise Misuse("the network has been parsed before")
    loaded, reason = _load(model)
    if loaded is None:
        state["errors"].append(world.make("ParserError", desc=reason, node=""))
        return False
    own(state["network"])["model"] = loaded
    return True


@does("OnnxParser.get_error")
@does("OnnxParserRefitter.get_error")
def _get_error(world: World, this: Any, index: int) -> Any:
    return own(this)["errors"][index]


@does("ParserError.desc")
def _error_text(world: World, this: Any) -> str:
    return str(own(this)["desc"])


@does("ParserError.node_name")
def _error_node(world: World, this: Any) -> str:
    return str(own(this)["node"])


def _load(path: str) -> tuple[Any, str]:
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as exc:  # a parser reports whatever went wrong
        return None, str(exc).splitlines()[0]
    return model, ""


def _parsed(network: Any) -> Any:
    if own(network)["model"] is None:
        raise Misuse("the network is empty: parse before you look at it or build it")
    return own(network)["model"]


@does("Builder.build_serialized_network")
def _build(world: World, this: Any, network: Any, config: Any, kernel_text: object = None) -> Any:
    model = _parsed(network)
    state = own(config)
    if state["used"]:
        raise Misuse("one configuration builds once")
    if own(network)["builder"] is not this or state["builder"] is not this:
        raise Misuse("network and configuration belong to another builder")
    _check_profiles(model, state["profiles"])
    state["used"] = True
    if "build" in world.rejects:
        return None
    if state["cache"] is not None:
        content = own(state["cache"])["content"]
        builds = json.loads(content)["builds"] if content else 0
        own(state["cache"])["content"] = json.dumps({"version": world.version, "builds": builds + 1}).encode()
    level = state.get("hardware_compatibility_level")
    plan = {
        "version": world.version,
        "flags": sorted(state["switched"]),
        "profiles": state["profiles"],
        "pools": state["pools"],
        "level": state.get("builder_optimization_level"),
        "hardware": None if level is None else level.name,
        "targets": [state["targets"][index] for index in sorted(state["targets"])],
        "detailed": state.get("profiling_verbosity") is world.enum("ProfilingVerbosity", "DETAILED"),
        "refittable": "REFIT" in state["switched"],
        "stripped": "STRIP_PLAN" in state["switched"],
    }
    return world.make("IHostMemory", content=_encode(plan, model))


def _check_profiles(model: Any, profiles: list[dict[str, Any]]) -> None:
    if not profiles:
        raise Misuse("a network with dynamic inputs is built without an optimisation profile")
    names = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.input}
    for index, profile in enumerate(profiles):
        if set(profile) != set(names):
            raise Misuse(f"profile {index} covers {sorted(profile)}, the inputs are {sorted(names)}")
        for name, shapes in profile.items():
            if any(len(shape) != names[name] for shape in shapes):
                raise Misuse(f"profile {index}: {name} has {names[name]} dimensions")


def _encode(plan: dict[str, Any], model: Any) -> bytes:
    return json.dumps({**plan, "model": base64.b64encode(model.SerializeToString()).decode()}).encode()


# --- deserialising and refitting


@does("Runtime.__init__")
def _runtime(world: World, this: Any, logger: Any) -> None:
    own(this).update(logger=logger, engine_host_code_allowed=False)


@does("Runtime.deserialize_cuda_engine")
def _deserialise(world: World, this: Any, serialized_engine: bytes) -> Any:
    try:
        plan = json.loads(bytes(serialized_engine))
    except ValueError:
        return None
    if "VERSION_COMPATIBLE" in plan["flags"]:
        if not own(this)["engine_host_code_allowed"]:
            return None
        if int(plan["version"].split(".")[0]) > world.major:
            return None
    elif plan["version"] != world.version:
        return None
    model = onnx.load_from_string(base64.b64decode(plan.pop("model")))
    return world.make("ICudaEngine", plan=plan, model=model)


def _io(engine: Any) -> list[Any]:
    graph = own(engine)["model"].graph
    return [*graph.input, *graph.output]


def _value(engine: Any, name: str) -> Any:
    found = [value for value in _io(engine) if value.name == name]
    if not found:
        raise Misuse(f"the engine has no tensor {name!r}")
    return found[0]


def _shape(engine: Any, name: str) -> tuple[int, ...]:
    dims = _value(engine, name).type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)


@does("ICudaEngine.get_tensor_name")
def _tensor_name(world: World, this: Any, index: int) -> str:
    return str(_io(this)[index].name)


@does("ICudaEngine.get_tensor_mode")
def _tensor_mode(world: World, this: Any, name: str) -> Any:
    given = {value.name for value in own(this)["model"].graph.input}
    _value(this, name)
    return world.enum("TensorIOMode", "INPUT" if name in given else "OUTPUT")


@does("ICudaEngine.get_tensor_dtype")
def _tensor_dtype(world: World, this: Any, name: str) -> Any:
    names = {1: "FLOAT", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF", 16: "BF16"}
    return world.enum("DataType", names[_value(this, name).type.tensor_type.elem_type])


@does("ICudaEngine.get_tensor_shape")
def _tensor_shape(world: World, this: Any, name: str) -> Any:
    return vars(world.module)["Dims"](_shape(this, name))


@does("Refitter.__init__")
def _refitter(world: World, this: Any, engine: Any, logger: Any) -> None:
    if not own(engine)["plan"]["refittable"]:
        raise Misuse("Refitter on an engine that was built without REFIT")
    own(this).update(engine=engine, supplied={}, offered=False)


@does("OnnxParserRefitter.__init__")
def _onnx_refitter(world: World, this: Any, refitter: Any, logger: Any) -> None:
    own(this).update(refitter=refitter, errors=[])


@does("OnnxParserRefitter.refit_from_file")
def _refit_from_file(world: World, this: Any, model: str) -> bool:
    state = own(own(this)["refitter"])
    loaded, reason = _load(model)
    state["offered"] = True
    if loaded is None:
        own(this)["errors"].append(world.make("ParserError", desc=reason, node=""))
        return False
    wanted = {tensor.name: tensor for tensor in own(state["engine"])["model"].graph.initializer}
    for tensor in loaded.graph.initializer:
        base = wanted.get(tensor.name)
        if base is None or list(base.dims) != list(tensor.dims) or base.data_type != tensor.data_type:
            text = f"weights {tensor.name} do not fit"
            own(this)["errors"].append(world.make("ParserError", desc=text, node=tensor.name))
            return False
        if tensor.name not in {*world.unset, *world.missing}:
            state["supplied"][tensor.name] = tensor
    return True


def _all_weights(refitter: Any) -> list[str]:
    return [tensor.name for tensor in own(own(refitter)["engine"])["model"].graph.initializer]


@does("Refitter.get_all_weights")
def _get_all(world: World, this: Any) -> list[str]:
    return _all_weights(this)


@does("Refitter.get_missing_weights")
def _get_missing(world: World, this: Any) -> list[str]:
    own(this)["looked_for_missing"] = True
    return [name for name in _all_weights(this) if name in world.missing]


@does("Refitter.get_named_weights")
def _get_named(world: World, this: Any, weights_name: str) -> Any:
    if weights_name not in _all_weights(this):
        raise Misuse(f"there are no weights {weights_name!r}")
    own(this).setdefault("read_back", set()).add(weights_name)
    tensor = own(this)["supplied"].get(weights_name)
    return world.make("Weights", count=0 if tensor is None else int(np.prod(tensor.dims)))


@does("Refitter.refit_cuda_engine")
def _refit(world: World, this: Any) -> bool:
    state = own(this)
    if not state["offered"]:
        raise Misuse("refit_cuda_engine before any weights were given")
    if not state.get("looked_for_missing") or state.get("read_back") != set(_all_weights(this)):
        raise Misuse("refit_cuda_engine before missing and unset weights were looked for")
    if "refit" in world.rejects or any(name in world.missing for name in _all_weights(this)):
        return False
    for tensor in own(state["engine"])["model"].graph.initializer:
        if tensor.name in state["supplied"]:
            tensor.CopyFrom(state["supplied"][tensor.name])
    own(state["engine"])["plan"]["stripped"] = False
    own(state["engine"])["refitted"] = True
    return True


@does("ICudaEngine.create_serialization_config")
def _serialisation(world: World, this: Any) -> Any:
    stripped = {"EXCLUDE_WEIGHTS"} if "STRIP_PLAN" in own(this)["plan"]["flags"] else set()
    return world.make("ISerializationConfig", switched=stripped)


@does("ISerializationConfig.set_flag")
def _serialisation_set(world: World, this: Any, flag: Any) -> bool:
    own(this)["switched"].add(flag.name)
    return "serialise" not in world.rejects


@does("ISerializationConfig.clear_flag")
def _serialisation_clear(world: World, this: Any, flag: Any) -> bool:
    own(this)["switched"].discard(flag.name)
    return True


@does("ICudaEngine.serialize_with_config")
def _serialise(world: World, this: Any, arg0: Any) -> Any:
    switched = own(arg0)["switched"]
    plan = dict(own(this)["plan"])
    plan["refittable"] = "INCLUDE_REFIT" in switched
    plan["stripped"] = "EXCLUDE_WEIGHTS" in switched
    return world.make("IHostMemory", content=_encode(plan, own(this)["model"]))


@does("ICudaEngine.create_engine_inspector")
def _inspector(world: World, this: Any) -> Any:
    return world.make("EngineInspector", engine=this)


@does("EngineInspector.get_engine_information")
def _information(world: World, this: Any, format: Any) -> str:  # noqa: A002
    engine = own(this)["engine"]
    if format is not world.enum("LayerInformationFormat", "JSON"):
        return "one line a layer"
    nodes = own(engine)["model"].graph.node
    detailed = own(engine)["plan"]["detailed"]
    layers = [{"Name": node.name, "LayerType": node.op_type} if detailed else node.name for node in nodes]
    ends = "Bindings" if world.major == 10 else "I/O Tensors"
    return json.dumps({"Layers": layers, ends: [value.name for value in _io(engine)]})


# --- running


@does("ICudaEngine.create_execution_context")
def _context(world: World, this: Any, **_strategy: Any) -> Any:
    if own(this)["plan"]["stripped"]:
        raise Misuse("an execution context of a plan without its weights")
    if "context" in world.rejects:
        return None
    return world.make("IExecutionContext", engine=this, profile=None, shapes={}, addresses={})


@does("IExecutionContext.set_optimization_profile_async")
def _use_profile(world: World, this: Any, profile_index: int, stream_handle: int) -> bool:
    if not 0 <= profile_index < len(own(own(this)["engine"])["plan"]["profiles"]):
        return False
    own(this).update(profile=profile_index, shapes={}, addresses={})
    return True


@does("IExecutionContext.set_input_shape")
def _input_shape(world: World, this: Any, name: str, shape: Any) -> bool:
    state = own(this)
    if state["profile"] is None:
        raise Misuse("set_input_shape before a profile was chosen")
    profile = own(state["engine"])["plan"]["profiles"][state["profile"]]
    if name not in profile:
        raise Misuse(f"{name!r} is no input")
    low, _, high = profile[name]
    if len(shape) != len(low) or any(not a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
        return False
    state["shapes"][name] = tuple(shape)
    state["addresses"].clear()
    return True


@does("IExecutionContext.infer_shapes")
def _infer_shapes(world: World, this: Any) -> list[str]:
    state = own(this)
    given = own(state["engine"])["model"].graph.input
    return [value.name for value in given if value.name not in state["shapes"]]


@does("IExecutionContext.get_tensor_shape")
def _context_shape(world: World, this: Any, name: str) -> Any:
    return vars(world.module)["Dims"](_bound(this, name))


def _bound(context: Any, name: str) -> tuple[int, ...]:
    state = own(context)
    if name in state["shapes"]:
        found: tuple[int, ...] = state["shapes"][name]
        return found
    if len(state["shapes"]) != len(own(state["engine"])["model"].graph.input):
        raise Misuse(f"the shape of {name} is unknown until every input has one")
    rows = next(iter(state["shapes"].values()))[0]
    return tuple(rows if size < 0 else size for size in _shape(state["engine"], name))


@does("IExecutionContext.set_tensor_address")
def _address(world: World, this: Any, name: str, memory: int) -> bool:
    _value(own(this)["engine"], name)
    if len(own(this)["shapes"]) != len(own(own(this)["engine"])["model"].graph.input):
        raise Misuse(f"the address of {name} before the shapes of this call's inputs")
    if not memory:
        return False
    own(this)["addresses"][name] = memory
    return True


@does("IExecutionContext.execute_async_v3")
def _execute(world: World, this: Any, stream_handle: int) -> bool:
    state = own(this)
    absent = [value.name for value in _io(state["engine"]) if value.name not in state["addresses"]]
    if absent:
        raise Misuse(f"execute_async_v3 without the addresses of {absent}")
    if "execute" in world.rejects:
        return False
    model = own(state["engine"])["model"]
    feed = {value.name: _view(this, value.name, np.int64) for value in model.graph.input}
    answers = _session(model.SerializeToString()).run([value.name for value in model.graph.output], feed)
    for value, answer in zip(model.graph.output, answers, strict=True):
        if answer.shape != _bound(this, value.name):
            raise Misuse(f"{value.name} is {answer.shape}, its buffer {_bound(this, value.name)}")
        _view(this, value.name, answer.dtype)[...] = answer
    state["shapes"], state["addresses"] = {}, {}  # the next call says where its own tensors are
    return True


def _view(context: Any, name: str, dtype: Any) -> Any:
    shape = _bound(context, name)
    kind = np.dtype(dtype)
    count = int(np.prod(shape))
    memory = (ctypes.c_char * (count * kind.itemsize)).from_address(own(context)["addresses"][name])
    return np.frombuffer(memory, dtype=kind).reshape(shape)


@functools.lru_cache(maxsize=8)
def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def weights_of(plan: Path) -> dict[str, Any]:
    """The weights in one of the double's plans, by name."""
    model = onnx.load_from_string(base64.b64decode(json.loads(plan.read_bytes())["model"]))
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def facts_of(plan: Path) -> dict[str, Any]:
    """What the double recorded of the build of one of its plans."""
    return {name: value for name, value in json.loads(plan.read_bytes()).items() if name != "model"}
