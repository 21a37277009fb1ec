"""What people's labelling tools do with our files: read, checked and labelled by the tools' own packages.

It runs in an environment that has `label-studio-sdk` and `argilla`, and nothing of this repository.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def label_studio(folder: Path, given: list[str]) -> None:
    """Check tasks and interface by the SDK, and write them as an export in which each has a label."""
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface((folder / "interface.xml").read_text(encoding="utf-8"))
    interface.validate()
    tasks: list[dict[str, Any]] = json.loads((folder / "label-studio.json").read_text(encoding="utf-8"))
    for number, (task, label) in enumerate(zip(tasks, given, strict=True)):
        for prediction in task["predictions"]:
            wrong = interface.validate_prediction(prediction, return_errors=True)
            assert wrong == [], wrong
        region = interface.get_control("label").label(label)._dict()
        annotation = {"id": number, "was_cancelled": False, "result": [region]}
        assert interface.validate_annotation(annotation), region
        task |= {"id": number, "annotations": [{**annotation, "created_at": "2026-03-01T12:00:00.000000Z"}]}
    (folder / "label-studio-done.json").write_text(json.dumps(tasks), encoding="utf-8")


def argilla(folder: Path, given: list[str]) -> None:
    """Read the records by the package, answer them, and write them as it writes them."""
    import argilla as rg

    records = [rg.Record.from_dict(row) for row in json.loads((folder / "argilla.json").read_text(encoding="utf-8"))]
    done = []
    for record, label in zip(records, given, strict=True):
        answer = {"label": [{"value": label, "user_id": "00000000-0000-0000-0000-000000000001"}]}
        done.append(rg.Record.from_dict({**record.to_dict(), "responses": answer}).to_dict())
    (folder / "argilla-done.json").write_text(json.dumps(done, default=str), encoding="utf-8")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    labels = json.loads((place / "given.json").read_text(encoding="utf-8"))
    label_studio(place, labels)
    argilla(place, labels)
    sys.stdout.write(json.dumps({name: version(name) for name in ("label-studio-sdk", "argilla")}))
