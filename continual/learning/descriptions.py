"""A class that begins as a name and a sentence, until labelled rows come."""

from collections.abc import Mapping

from perennial.continual.errors import ConfigurationError
from perennial.continual.preparation import clean, fold_width

__all__ = ["anchor_texts"]


def anchor_texts(descriptions: Mapping[str, str]) -> dict[str, list[str]]:
    """Stand-in texts for each class: its name as words, its description, and both together.

    Their embeddings become the class's anchors in `KernelLda.anchor`: they weigh `anchor_rows` rows while there is no
    real one, one less with each that comes, and nothing after that. A class whose wording resembles its description
    is therefore answered at once, by similarity in the encoder's space.

    Raises:
        ConfigurationError: a class has an empty name or description, or spaces around its name.

    >>> anchor_texts({"lost_card": "The customer cannot find the card."})["lost_card"][0]
    'lost card'
    """
    variants: dict[str, list[str]] = {}
    for label, description in descriptions.items():
        name, sentence = (clean(fold_width(said)) for said in (label.replace("_", " ").replace("-", " "), description))
        if not name or not sentence:
            raise ConfigurationError(f"class {label!r} is described by {description!r}; give a name and a sentence")
        if label != label.strip():
            raise ConfigurationError(f"class {label!r} has spaces around its name; labels have none, so leave them out")
        variants[label] = list(dict.fromkeys([name, sentence, f"{name}: {sentence}"]))
    return variants
