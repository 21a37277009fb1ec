"""A solved head on what its engine gave for texts before: a judgement asks each text of an encoder once."""

import json
from collections.abc import Sequence
from pathlib import Path

from perennial.continual.learning.trained import read_head
from perennial.exporters.bundle import read_manifest
from perennial.exporters.engine import Engine
from perennial.exporters.text_classification.answering import TextAnswerer
from perennial.exporters.text_classification.head_arithmetic import HeadOnEngine
from perennial.exporters.text_classification.known_embeddings import KnownEmbeddings
from perennial.exporters.text_classification.part import TOKENIZER_FILE, TextPart
from perennial.exporters.text_classification.tokens import TextTokenizer
from perennial.exporters.timing import processor_name

__all__ = ["head_on_given"]

_GIVEN = "given"  # a folder of embeddings
_RUNTIMES = ("onnxruntime", "openvino", "tokenizers")


def head_on_given(engine: Engine, bundle: Path, folder: Path, texts: Sequence[str]) -> Engine:
    """An engine that answers these texts by the bundle's head in numpy, on the embeddings that `engine` gives for them.

    Those that are known below `folder` are not worked out again: an engine of the same kind, graph, precision, options
    and release gave them for the same encoder on this kind of processor. The others become known.

    Raises:
        DataError: the bundle has no solved head.
    """
    manifest, head = read_manifest(bundle), read_head(bundle)
    part = TextPart.read(manifest.part)
    releases = {name: manifest.toolchain.get(name) for name in _RUNTIMES}
    built = (manifest.engine, manifest.precision, manifest.graph_fingerprint, dict(manifest.options))
    way = (manifest.encoder_fingerprint, built, releases, processor_name())
    known = KnownEmbeddings(
        folder / _GIVEN, encoder=json.dumps(way, sort_keys=True), max_length=part.max_length, dimension=part.dimension
    )
    by = TextAnswerer(engine=engine, tokenizer=TextTokenizer(bundle / TOKENIZER_FILE), labels=head.labels)
    known.learn(texts, by)
    tensors = {"omega": head.omega, "phase": head.phase, "weight": head.weight, "bias": head.bias}
    return HeadOnEngine(known.instead_of(engine, by, texts), tensors)
