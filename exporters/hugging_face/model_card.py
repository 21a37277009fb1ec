"""The README of a folder for transformers: what it holds, how it is loaded, and what it leaves out."""

import json
from enum import StrEnum
from pathlib import Path

from perennial.continual.learning.card import ModelCard

__all__ = ["Layout", "model_card"]


class Layout(StrEnum):
    """What loads the folder."""

    PLAIN = "plain"  # transformers, without any code of the folder's
    CODE = "code"  # transformers, with the code in the folder
    ONNX = "onnx"  # ONNX Runtime


_LOADED = {
    Layout.PLAIN: """\
    from transformers import pipeline

    classify = pipeline("text-classification", model="FOLDER")
    print(classify("my card was stolen", truncation=True, max_length={max_length}))

It is the classifier that was taken over, as it came. Perennial cleans a text before (NFC, no hidden characters, single
spaces); do so too where your texts need it.""",
    Layout.CODE: """\
    from transformers import pipeline

    classify = pipeline("text-classification", model="FOLDER", trust_remote_code=True)
    print(classify("my card was stolen"))

transformers has no class for this head, so the folder brings one: read its three files of Python before you trust them.
They need numpy, torch and safetensors, and no package of Perennial. The pipeline cleans a text, cuts it at {max_length}
tokens{and_words}, and answers as the served version does.

    AutoModelForSequenceClassification.from_pretrained("FOLDER", trust_remote_code=True)

gives the network alone, token ids to logits{without_words}. It can be tuned further as any other.""",
    Layout.ONNX: """\
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession("FOLDER/model.onnx")
    ids = Tokenizer.from_file("FOLDER/tokenizer.json").encode("my card was stolen").ids

It is the ONNX file that was taken over, as it came; transformers has no class for it. Its inputs are `input_ids`,
`attention_mask` and perhaps `token_type_ids`. The places of its logits are those of `id2label` in `config.json`. Texts
are cut at {max_length} tokens.""",
}
_LEFT_OUT = """\
## What is left out
The folder answers with a label and its probability. These stay with Perennial: whether a text is of no class (`KNOWN`),
the sums that it is learnt from, and the rows. Numbers are those of FP32; the served engine may compute in a smaller
type, and was compared with these numbers before it was published."""


def model_card(card: ModelCard, *, name: str, layout: Layout, words: bool, max_length: int) -> str:
    """The text of `README.md`; `words` says whether words count beside the network."""
    loaded = _LOADED[layout].format(
        max_length=max_length,
        and_words=", adds what its words say" if words else "",
        without_words=", without what words add (`words.safetensors`)" if words else "",
    )
    facts = {
        "classes": len(card.labels),
        "learnt by": card.learner,
        "encoder": Path(card.encoder).name if Path(card.encoder).is_absolute() else card.encoder,
        "rows": card.data.get("rows", 0),
        **{name.replace("_", " "): round(value, 4) for name, value in sorted(card.metrics.items())},
    }
    table = "\n".join(["| what | |", "|---|---|", *(f"| {what} | {_cell(value)} |" for what, value in facts.items())])
    front = f"---\nlibrary_name: {'onnxruntime' if layout is Layout.ONNX else 'transformers'}\n"
    front += f"pipeline_tag: text-classification\nmodel_name: {json.dumps(name, ensure_ascii=False)}\n---\n"
    return f"{front}\n# {name}\n\nWritten by Perennial.\n\n{table}\n\n## Use\n{loaded}\n\n{_LEFT_OUT}\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
