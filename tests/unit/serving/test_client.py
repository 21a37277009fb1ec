import pytest

from perennial.continual.errors import InputError
from perennial.ops.serving.client import PerennialClient


@pytest.mark.parametrize(("texts", "keys"), [(["fine", "caf\udcff"], None), (["fine", "too"], ["a", "b\ud800"])])
def test_half_a_surrogate_pair_is_the_callers_mistake_and_named_by_its_row(texts, keys):
    client = PerennialClient("127.0.0.1:1", "intent")  # nothing is asked of it
    with pytest.raises(InputError, match=r"of row 1: character \d is U\+D[CF8]"):
        client.predict(texts, keys)
