"""An image as it is kept: read within limits, turned upright, made small, and written anew without what came with it.

What a client sends is never kept and never shown. A model sees the picture made here and nothing else, in training as
in service, so that an answer can be given again from what is kept.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

from perennial.continual.errors import DataError, DependencyUnreachable

if TYPE_CHECKING:  # a command that prints help names tasks, and loads no numpy
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    Pixels = npt.NDArray[np.uint8]

__all__ = [
    "MOST_BYTES",
    "MOST_PIXELS",
    "Picture",
    "image_file",
    "image_name",
    "is_image_name",
    "name_of_file",
    "read_image",
]

MOST_BYTES = 8 * 2**20  # of a file as it is sent
MOST_PIXELS = {"JPEG": 40_000_000, "PNG": 16_000_000}  # once unpacked; a large JPEG is unpacked at a fraction of it
_MOST_PARTS = {"JPEG": 256, "PNG": 20_000}  # of a file: each pass over a JPEG's pixels is one, and so is each note
KEPT_SIDE = 256  # pixels of the shorter side; encoders look at 224 of them as a rule
_LEAST_SIDE, _LONGEST = 4, 20  # pixels, and times as long as wide
_QUALITY = 92
_SCHEME, _LETTERS, _ENDING = "image:", 40, ".jpg"
_NAME = re.compile(rf"{_SCHEME}[a-p]{{{_LETTERS}}}")
_WHITE = (255, 255, 255)
_STARTS = {"JPEG": b"\xff\xd8", "PNG": b"\x89PNG\r\n\x1a\n"}
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)  # of a JPEG's part; the others stand alone
_END = b"\xd9"


@dataclass(frozen=True)
class Picture:
    """A picture in its kept form, a JPEG file in RGB without metadata, under the name that its content gives it.

    >>> Picture(content=b"").name
    'image:odlameecjipmbmbejkplpemijjgpljcechkoeboe'
    """

    content: bytes
    sent: tuple[int, int] | None = field(default=None, compare=False)  # width and height before it was made small
    effort: float = field(default=0.0, compare=False)  # of unpacking what was sent, beside that of the largest one

    @cached_property
    def name(self) -> str:
        """What stands for it in rows and logs: letters alone, so that no rule for texts ever changes it."""
        return image_name(self.content)

    @cached_property
    def pixels(self) -> "Pixels":
        """RGB (height, width, 3)."""
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(self.content), formats=("JPEG",)) as image:
            return np.asarray(image.convert("RGB"))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as it was sent where that is known."""
        return self.sent or (self.pixels.shape[1], self.pixels.shape[0])

    @property
    def brightness(self) -> float:
        """The mean luminance in [0, 1]. Source: ITU-R BT.601."""
        red, green, blue = self.pixels.reshape(-1, 3).mean(axis=0)
        return float(0.299 * red + 0.587 * green + 0.114 * blue) / 255.0


def image_name(content: bytes) -> str:
    """The name of a picture by its kept content: 160 bits of its SHA-256, in letters."""
    digest = hashlib.sha256(content).hexdigest()[:_LETTERS]
    return _SCHEME + "".join(chr(ord("a") + int(digit, 16)) for digit in digest)


def is_image_name(text: str) -> bool:
    """Whether a text is the name of a picture.

    >>> is_image_name(image_name(b"")), is_image_name("image:../../secret")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def image_file(name: str) -> str:
    """What the file of a picture is called.

    >>> name_of_file(image_file(image_name(b""))) == image_name(b"")
    True
    """
    return name.removeprefix(_SCHEME) + _ENDING


def name_of_file(file: str) -> str:
    """The name of the picture in a file that is called so; of any other file a text that is no such name."""
    return _SCHEME + file.removesuffix(_ENDING) if file.endswith(_ENDING) else ""


def read_image(sent: bytes, *, field: str = "image") -> Picture:
    """The picture that a JPEG or PNG file holds.

    It is turned as its camera held it, laid on white where it is transparent, and shrunk to a shorter side of 256.
    Of a PNG with 16 bits the upper eight are kept.

    Raises:
        DataError: it is too large, unpacks to too many pixels, has too many parts, moves, is no JPEG or PNG, is
            broken, or much too narrow.
        DependencyUnreachable: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError as exc:
        raise DependencyUnreachable(f"images need Pillow ({exc}); pip install 'perennial-serving[images]'") from exc

    if not sent:
        raise DataError(f"{field} is empty; send the bytes of a JPEG or PNG file")
    if len(sent) > MOST_BYTES:
        raise DataError(f"{field} has {len(sent):,} bytes (limit {MOST_BYTES:,}); send it smaller")
    _check_parts(sent, field)
    try:
        with Image.open(io.BytesIO(sent), formats=tuple(MOST_PIXELS)) as opened:
            _check_sizes(opened, field)
            sent_size, pixels = opened.size, opened.width * opened.height
            effort = max(pixels / _most_pixels(opened), len(sent) / MOST_BYTES)
            opened.draft("RGB", (2 * KEPT_SIDE, 2 * KEPT_SIDE))  # a large JPEG is unpacked at a fraction of its size
            image = _in_colours(ImageOps.exif_transpose(opened))
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        most = max(MOST_PIXELS.values())
        raise DataError(f"{field} unpacks to too many pixels (limit {most:,}); send it smaller") from exc
    except UnidentifiedImageError as exc:
        raise DataError(
            f"{field} is no JPEG or PNG file (it begins with {sent[:8].hex(' ')}); send one of these"
        ) from exc
    except Exception as exc:  # what reads the notes in a file raises whatever it comes upon
        raise DataError(f"{field} cannot be read as a JPEG or PNG file ({exc}); send the whole file") from exc
    buffer = io.BytesIO()
    _smaller(image).save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    return Picture(content=buffer.getvalue(), sent=sent_size, effort=effort)


def _check_parts(sent: bytes, field: str) -> None:
    """Refuse a small file that would take long: one of passes over its pixels without end, or of notes."""
    for kind, parts in (("JPEG", _parts_of_jpeg), ("PNG", _parts_of_png)):
        most = _MOST_PARTS[kind]
        if sent.startswith(_STARTS[kind]) and sum(1 for _ in islice(parts(sent), most + 1)) > most:
            raise DataError(f"{field} is a {kind} file of more than {most:,} parts; save it anew")


def _parts_of_jpeg(sent: bytes) -> Iterator[None]:
    """One for each part up to the end of the image; what lies behind, such as a film, is not looked at."""
    at = len(_STARTS["JPEG"])
    while (marker := _MARKER.search(sent, at)) is not None and marker[1] != _END:
        yield
        at = marker.end() + int.from_bytes(sent[marker.end() : marker.end() + 2], "big")


def _parts_of_png(sent: bytes) -> Iterator[None]:
    at = len(_STARTS["PNG"])
    while at < len(sent):
        yield
        at += 12 + int.from_bytes(sent[at : at + 4], "big")  # its length and kind are before it, a sum behind it


def _most_pixels(image: "Image") -> int:
    """A PNG and a progressive JPEG are unpacked whole; a JPEG with previews behind it is called MPO."""
    whole = image.format == "PNG" or "progressive" in image.info
    return MOST_PIXELS["PNG" if whole else "JPEG"]


def _check_sizes(image: "Image", field: str) -> None:
    """Refuse by the header alone, before anything is unpacked."""
    width, height = image.size
    most = _most_pixels(image)
    if width * height > most:
        raise DataError(
            f"{field} is {width} x {height} pixels, {width * height:,} in all (limit {most:,}); send it smaller"
        )
    shorter, longer = sorted((width, height))
    if shorter < _LEAST_SIDE or longer > _LONGEST * shorter:
        raise DataError(
            f"{field} is {width} x {height} pixels; each side needs at least {_LEAST_SIDE}, and one at most {_LONGEST} "
            "times the other: cut it to what matters"
        )
    frames = getattr(image, "n_frames", 1)
    if image.format == "PNG" and frames > 1:  # of a JPEG the others are previews
        raise DataError(f"{field} moves: it has {frames} frames; send one of them as a picture of its own")


def _in_colours(image: "Image") -> "Image":
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits: a conversion of Pillow's would cut all above 255 off
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        laid = image.convert("RGBA")
        ground = Image.new("RGBA", laid.size, (*_WHITE, 255))
        return Image.alpha_composite(ground, laid).convert("RGB")
    return image.convert("RGB")


def _smaller(image: "Image") -> "Image":
    from PIL import Image

    shorter = min(image.size)
    if shorter <= KEPT_SIDE:
        return image
    width, height = (max(1, round(side * KEPT_SIDE / shorter)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
