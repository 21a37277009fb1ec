"""Text before it is learnt from: cleaned, compared, split, freed of personal data, read from files.

Standard library only, so that the server process can import it.
"""

from perennial.continual.preparation.csv_file import label_column, read_csv, read_labelled_csv, refuse_rows
from perennial.continual.preparation.entrance import (
    AdmittedText,
    admit_key,
    admit_label,
    admit_name,
    admit_note,
    admit_prediction_id,
    admit_text,
    admit_time,
    is_spelling_of,
    key_spellings,
    shown,
)
from perennial.continual.preparation.example import admit_example
from perennial.continual.preparation.labels import KnownLabels
from perennial.continual.preparation.personal import deidentify
from perennial.continual.preparation.text import (
    Contradiction,
    Deduplicated,
    clean,
    deduplicate,
    normalise,
    row_hash,
    split_of,
)

__all__ = [
    "AdmittedText",
    "Contradiction",
    "Deduplicated",
    "KnownLabels",
    "admit_example",
    "admit_key",
    "admit_label",
    "admit_name",
    "admit_note",
    "admit_prediction_id",
    "admit_text",
    "admit_time",
    "clean",
    "deduplicate",
    "deidentify",
    "is_spelling_of",
    "key_spellings",
    "label_column",
    "normalise",
    "read_csv",
    "read_labelled_csv",
    "refuse_rows",
    "row_hash",
    "shown",
    "split_of",
]
