"""A classifier's folder is served as version 1, and the next version is learnt from what its answers are labelled."""

from pathlib import Path
from typing import Any

import pytest

from tests.component.encoders.tiny import TEXTS, write_classifier
from tests.e2e.workspace import E2eWorkspace, ask, make_workspace, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

LABELS = ["card", "loan", "trip"]


def test_a_folder_is_served_by_one_command_and_learnt_on_from_feedback(tmp_path: Path) -> None:
    folder = write_classifier("roberta", tmp_path / "mine", LABELS)
    workspace = make_workspace(tmp_path / "workspace", Path("packaged:minilm"))
    planned = workspace.cli("init", "intent", "--model", str(folder), "--dry-run")
    assert (planned["labels"], planned["max_length"]) == (LABELS, 24)
    assert not (workspace.folder / "state" / "ledger.db").exists()
    version = workspace.cli("init", "intent", "--model", str(folder))
    assert (version["version"], version["labels"]) == (1, LABELS)
    texts = sorted({text.strip() for text in TEXTS})
    with workspace.serving(), workspace.client() as client:
        answers = ask(client, [*texts, " ".join(texts)])
        assert {answer.version for answer in answers} == {1}
        assert [answer.label for answer in answers] == users_labels(folder, [*texts, " ".join(texts)])
        right = [LABELS[len(text) % 3] for text in texts]  # learnable by nobody, so the gate has work to do
        workspace.feedback([(answer.prediction_id, label) for answer, label in zip(answers, right, strict=False)])
        workspace.cli("retrain")
        wait_for(lambda: len(versions(workspace)) > 1, 240, "a second version")
        second = versions(workspace)[1]
        assert second["parent"] == 1
        assert second["classes"] == len(LABELS)


def versions(workspace: E2eWorkspace) -> list[dict[str, Any]]:
    """The versions and their labels, as far as each has been made."""
    return [row for row in workspace.cli("model", "list", "--json") if row["classes"]]


def users_labels(folder: Path, texts: list[str]) -> list[str]:
    """What the user's own model says to each text alone."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(24)
    with torch.inference_mode():
        rows = [torch.tensor([tokenizer.encode(text).ids]) for text in texts]
        return [LABELS[int(model.eval()(input_ids=row).logits.argmax())] for row in rows]
