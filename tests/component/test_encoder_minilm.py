"""The packaged MiniLM knows which sentences mean the same."""

import pytest

from perennial.continual.learning.encoder import PACKAGED_MINILM, Encoder

pytestmark = pytest.mark.component


def test_minilm_puts_paraphrases_next_to_each_other() -> None:
    encoder = Encoder.load(PACKAGED_MINILM, max_length=32)
    X = encoder.embed(["I lost my card", "My bank card is missing", "What is the exchange rate?"])
    assert X.shape == (3, 384)
    near, far = float(X[0] @ X[1]), float(X[0] @ X[2])
    assert near > 0.6
    assert far < near - 0.3
