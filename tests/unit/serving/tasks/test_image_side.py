"""Images at the router: how much of one request is unpacked while nobody else is answered."""

import pytest

from perennial.client.images import image_tensors
from perennial.continual.errors import DataError
from perennial.continual.images import Picture
from perennial.ops.serving.tasks import image_classification


def test_no_more_of_a_request_is_unpacked_than_some_of_the_largest_images(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def reading(sent: bytes, *, field: str) -> Picture:
        read.append(field)
        return Picture(content=sent, effort=1.0)

    monkeypatch.setattr(image_classification, "read_image", reading)
    side = image_classification.SIDE
    assert len(side.questions(image_tensors([b"a file"] * 12), max_characters=1)) == 12
    read.clear()
    with pytest.raises(DataError, match=r"before row 12 unpack to as much as 12\.0 of the largest ones \(limit 12\)"):
        side.questions(image_tensors([b"a file"] * 64), max_characters=1)
    assert len(read) == 12
