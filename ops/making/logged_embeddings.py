"""Embeddings that answered requests, handed to the training that learns from the same texts."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from perennial.continual.task import AnyRow
from perennial.ops.ledger import Ledger
from perennial.ops.store.traffic_of import traffic_of
from perennial.ops.store.workspace import Workspace

__all__ = ["reuse_logged_embeddings"]


def reuse_logged_embeddings(
    ledger: Ledger, workspace: Workspace, model: str, encoder_name: str, examples: Sequence[AnyRow]
) -> None:
    """Hand the embeddings that answered these texts to the training, so that it need not make them again.

    Taken are those of versions with the learner's own encoder, and only where the logged text is the text that was
    embedded: nothing was taken out of it. An encoder whose converted folder is gone is made again by the training's own
    process, which then embeds all texts: it takes more memory than a process that serves may.
    """
    from perennial.continual.learning.embedding_cache import EmbeddingCache
    from perennial.continual.learning.encoder import fingerprint, hidden_size, resolve_encoder, usable_length
    from perennial.continual.learning.packaged import at_hand

    if not at_hand(encoder_name):
        return
    folder = resolve_encoder(encoder_name)
    encoder = fingerprint(folder)
    same = [v.version for v in ledger.versions(model) if v.encoder_fingerprint == encoder]
    texts = {e.prediction_id: e.input for e in examples if e.prediction_id is not None and not e.redacted}
    columns = ["prediction_id", "version", "embedding"]
    table = traffic_of(workspace, model).lookup(list(texts), columns=columns)
    table = table.filter(pc.is_in(table["version"], value_set=pa.array(same, pa.int64())))
    table = table.filter(pc.is_valid(table["embedding"]))
    dimension = hidden_size(folder)
    if not table.num_rows or getattr(table["embedding"].type, "list_size", None) != dimension:
        return
    embeddings = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
    cache = EmbeddingCache(
        workspace.embeddings,
        encoder=encoder,
        max_length=usable_length(folder, workspace.model(model).learning.max_length),
        dimension=dimension,
    )
    cache.remember([texts[name] for name in table["prediction_id"].to_pylist()], embeddings)
