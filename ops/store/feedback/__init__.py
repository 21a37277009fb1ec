"""What people say of answers: brought under the rule of the entrance, kept, and joined to what had been asked."""

from perennial.ops.store.feedback.edits import GivenEdit, add_edits, admit_edit
from perennial.ops.store.feedback.joining import Joiner, LabelJoiner, joiner_of
from perennial.ops.store.feedback.labels import (
    GivenLabel,
    add_labelled,
    add_labels,
    admit_given,
    declared_attributes,
    known_labels,
)
from perennial.ops.store.feedback.signals import AdmittedSignal, GivenSignal, add_signals, admit_signal
from perennial.ops.store.feedback.verdicts import AdmittedVerdict, GivenVerdict, add_verdicts, admit_verdict
from perennial.ops.store.feedback.ways import check_takes

__all__ = [
    "AdmittedSignal",
    "AdmittedVerdict",
    "GivenEdit",
    "GivenLabel",
    "GivenSignal",
    "GivenVerdict",
    "Joiner",
    "LabelJoiner",
    "add_edits",
    "add_labelled",
    "add_labels",
    "add_signals",
    "add_verdicts",
    "admit_edit",
    "admit_given",
    "admit_signal",
    "admit_verdict",
    "check_takes",
    "declared_attributes",
    "joiner_of",
    "known_labels",
]
