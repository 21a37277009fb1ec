"""Image classification at the router: files of images in, labels with their probabilities out."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from perennial.client.images import image_tensors
from perennial.client.texts import Prediction, predictions_in
from perennial.continual.errors import DataError
from perennial.continual.images import ImageStore, Picture, Preprocessing, is_image_name, read_image
from perennial.exporters.image_classification.answering import prepared_pixels
from perennial.exporters.image_classification.signature import IMAGE, IMAGE_ENGINE, IMAGE_ROUTER
from perennial.exporters.signature import Array, EngineSignature, RouterSignature
from perennial.ops.serving.file_memory import FileMemory
from perennial.ops.serving.port import FurtherProof, Given, Mindless
from perennial.ops.serving.tasks.text_classification import SIDE as OF_TEXTS
from perennial.ops.serving.tasks.text_classification import Classified, LabelsVersion, logged_answers

__all__ = ["SIDE", "Asked", "ImageVersion"]

_GREY = 128
_PROBED = 8  # pixels of a side of what a probe asks about
_MOST_EFFORT = 12  # of the largest images in one request: other images wait while they are unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A picture and its name. `picture` is None where a row names one that is not kept any more.

    `sent` is a file that it was made of, for whoever sends it again.
    """

    name: str
    picture: Picture | None
    sent: bytes = field(default=b"", compare=False)


class ImageVersion(LabelsVersion):
    """A version's preparation and labels."""

    def _read_inputs(self, folder: Path) -> None:
        self._prepared = Preprocessing.read(folder)

    @property
    def signature(self) -> EngineSignature:
        """With the number of labels and the size of a picture."""
        height, width = self._prepared.size
        return IMAGE_ENGINE.bound(classes=len(self.labels), height=height, width=width)

    def encode(self, inputs: Sequence[Asked]) -> Mapping[str, Array]:
        """The pixels of each picture; grey where it is gone."""
        return prepared_pixels(self._prepared, [asked.picture or _grey() for asked in inputs])

    def answers(
        self,
        task_inputs: Sequence[Asked],
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        *,
        within: frozenset[str] | None = None,
    ) -> list[Classified]:
        """See `classified`; a picture has no tokens."""
        del inputs
        names = [asked.name for asked in task_inputs]
        return self.classified(names, np.zeros(len(names), dtype=np.int64), outputs, within)


class _Kept(FileMemory):
    """The pictures that were answered, by name. See `perennial.ops.serving.port.Memory`."""

    def __init__(self, folder: Path) -> None:
        super().__init__("images.not_kept")
        self._store = ImageStore(folder)

    def recalled(self, inputs: Sequence[Asked | str]) -> Sequence[Asked]:
        """The pictures themselves, also of rows that name them."""
        return _recalled(inputs, self._found)

    def noted(self, given: Sequence[Given]) -> list[Classified]:
        """Keep the pictures, before their names are logged."""
        try:
            for one in given:
                if one.input.picture is not None:
                    self._store.put(one.input.picture)
            self.worked()
        except Exception as exc:
            self.failed(len(given), exc)
        return [one.answer for one in given]

    def _found(self, name: str) -> Asked:
        try:
            picture = self._store.get(name)
        except DataError:
            picture = None
        if picture is None:
            self.failed(1, FileNotFoundError(f"{name} is not kept"))
        return Asked(name=name, picture=picture)


class _Unkept(Mindless):
    """Without a folder a row's name stands for nothing."""

    def recalled(self, inputs: Sequence[Asked | str]) -> Sequence[Asked]:
        return _recalled(inputs, lambda name: Asked(name=name, picture=None))


def _recalled(inputs: Sequence[Asked | str], found: Callable[[str], Asked]) -> Sequence[Asked]:
    """The inputs, with what is found for the names among them."""
    asked = [each if isinstance(each, Asked) else found(each) for each in inputs]
    return inputs if all(map(operator.is_, asked, inputs)) else asked  # type: ignore[return-value]


class _ImageClassification:
    """See `perennial.ops.serving.port.ServingSide`."""

    name: ClassVar[str] = "image_classification"
    signature: ClassVar[RouterSignature] = IMAGE_ROUTER
    engine: ClassVar[EngineSignature] = IMAGE_ENGINE
    remembers: ClassVar[bool] = True
    reads_slowly: ClassVar[bool] = True
    input_columns: ClassVar[tuple[str, ...]] = ("text",)

    @property
    def probe(self) -> Asked:
        return replace(_asked(_grey()), sent=_grey_file())

    def request(self, inputs: Sequence[Asked | bytes]) -> Mapping[str, Array]:
        return image_tensors([_content(asked) for asked in inputs])

    def received(self, outputs: Mapping[str, Array]) -> list[Prediction]:
        return predictions_in(outputs)

    def sizes(self, tensors: Mapping[str, Array]) -> list[int]:
        if IMAGE not in tensors:
            raise DataError(f"the input {IMAGE} is missing; send one file a row as BYTES of shape [rows, 1]")
        images = tensors[IMAGE]
        if not len(images):
            raise DataError(f"the input {IMAGE} has no rows; send at least one")
        return [len(image) for image in images.reshape(-1).tolist()]

    def questions(self, tensors: Mapping[str, Array], *, max_characters: int) -> list[Asked]:
        """The pictures that the files hold; no more of them are unpacked than there is time for."""
        del max_characters
        asked, effort = list[Asked](), 0.0
        for row, raw in enumerate(tensors[IMAGE].reshape(-1).tolist()):
            if effort >= _MOST_EFFORT:
                raise DataError(
                    f"the images before row {row} unpack to as much as {effort:.1f} of the largest ones (limit "
                    f"{_MOST_EFFORT}); send fewer at once"
                )
            picture = read_image(raw, field=f"{IMAGE} of row {row}")
            effort += picture.effort
            asked.append(_asked(picture))
        return asked

    def caller(self, task_input: Asked) -> str:
        return ""

    def memory(self, path: Path | None) -> _Kept | _Unkept:
        return _Unkept() if path is None else _Kept(path)

    def further_proofs(self, path: Path | None) -> Sequence[FurtherProof]:
        del path
        return ()

    def open(self, bundle: Path, *, proved: bool = False) -> ImageVersion:
        return ImageVersion(bundle, proved=proved)

    def outcomes(self, bundle: Path) -> None:
        return

    def tensors(self, answers: Sequence[Classified], wanted: frozenset[str]) -> Mapping[str, Array]:
        return OF_TEXTS.tensors(answers, wanted)

    def logged_input(self, logged: Mapping[str, Any]) -> str | None:
        name: str = logged["text"]
        return name if is_image_name(name) else None

    def columns(self, inputs: Sequence[Asked], answers: Sequence[Classified]) -> Mapping[str, Sequence[Any]]:
        pictures = [asked.picture or _grey() for asked in inputs]
        return {
            "text": [asked.name for asked in inputs],
            "redacted": [False] * len(inputs),
            **logged_answers(answers),
            "brightness": [picture.brightness for picture in pictures],
            "width": [picture.size[0] for picture in pictures],
            "height": [picture.size[1] for picture in pictures],
        }


def _asked(picture: Picture) -> Asked:
    return Asked(name=picture.name, picture=picture)


def _content(asked: Asked | bytes) -> bytes:
    if isinstance(asked, bytes):
        return asked
    return asked.sent or (asked.picture or _grey()).content


@cache
def _grey() -> Picture:
    """A picture of nothing, which is nobody's; made when it is first needed, so that importing loads no Pillow."""
    return read_image(_grey_file())


@cache
def _grey_file() -> bytes:
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.new("RGB", (_PROBED, _PROBED), (_GREY,) * 3).save(buffer, format="PNG")
    return buffer.getvalue()


SIDE = _ImageClassification()
