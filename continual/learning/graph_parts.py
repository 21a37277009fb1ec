"""An ONNX file whose weights lie in files beside it, as today's exporters write it: found, and made one file."""

import shutil
from pathlib import Path

from perennial.continual.errors import ConfigurationError

__all__ = ["check_outputs", "copy_graph", "graph_parts"]


def graph_parts(graph: Path) -> tuple[Path, ...]:
    """The files beside an ONNX file that hold weights of it.

    Raises:
        ConfigurationError: it is no ONNX file, or such a file is missing or lies elsewhere.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    try:
        proto = onnx.load(graph, load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ConfigurationError(f"{graph} is no ONNX file ({str(error)[:100]}); export it again") from error
    tensors = [tensor for tensor in proto.graph.initializer if uses_external_data(tensor)]
    names = sorted({str(ExternalDataInfo(tensor).location) for tensor in tensors})
    for name in names:
        if Path(name).name != name or not (graph.parent / name).is_file():
            raise ConfigurationError(
                f"{graph} has weights in {name!r}, which must be a file beside it; copy it there, or export the model "
                "with its weights inside"
            )
    return tuple(graph.parent / name for name in names)


def check_outputs(graph: Path, labels: int) -> None:
    """Return where the graph's answer may be a logit for each label; how wide it is need not be said in the file.

    Raises:
        ConfigurationError: it says otherwise.
    """
    import onnx

    outputs = onnx.load(graph, load_external_data=False).graph.output
    for output in outputs:
        dims = output.type.tensor_type.shape.dim
        alone = len(outputs) == 1 or output.name == "logits"
        if alone and len(dims) == 2 and dims[1].dim_value not in {0, labels}:
            raise ConfigurationError(
                f"{graph} gives {dims[1].dim_value} outputs ({output.name}), and config.json names {labels} labels; "
                "make id2label name each output once"
            )


def copy_graph(graph: Path, target: Path) -> None:
    """Write the graph with all of its weights inside.

    Raises:
        ConfigurationError: see `graph_parts`; or with its weights it is more than one ONNX file can hold.
    """
    import onnx

    parts = graph_parts(graph)
    if not parts:
        shutil.copyfile(graph, target)
        return
    copies = [target.parent / path.name for path in (graph, *parts)]  # links, as caches have them, would not be read
    try:
        for path, copy in zip((graph, *parts), copies, strict=True):
            shutil.copyfile(path, copy)
        proto = onnx.load(copies[0])
        for copy in copies:
            copy.unlink()
        onnx.save_model(proto, target)
    except (ValueError, onnx.checker.ValidationError) as error:
        raise ConfigurationError(
            f"{graph} cannot be made one file with its weights ({str(error)[:100]}); export it again, below 2 GB"
        ) from error
