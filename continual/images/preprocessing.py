"""What an image encoder's folder says of its inputs, done with Pillow and numpy: no torch in a server's process."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perennial.continual.errors import ConfigurationError

__all__ = ["PREPROCESSING_FILE", "Preprocessing", "is_image_encoder"]

PREPROCESSING_FILE = "preprocessor_config.json"
_LARGEST = 1_024  # pixels of a side that a model looks at
_BILINEAR = 2  # as Pillow numbers it
_CROPPED_BELOW = 384  # pixels: ConvNext squeezes what is larger, and cuts nothing off
_UNDONE = (
    "do_flip_channel_order",
    "do_pad",
    "do_reduce_labels",
    "do_thumbnail",
    "do_align_long_axis",
    "rescale_offset",
)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]


def is_image_encoder(folder: Path) -> bool:
    """Whether a folder holds an encoder of images: it says how they are prepared, and has no words."""
    return (folder / PREPROCESSING_FILE).is_file() and not (folder / "tokenizer.json").is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes what a network reads. Scaling and normalising are the network's first layer here.

    `resize` is the height and width that a picture is brought to, or one number for its shorter side; None leaves it.
    `crop` is cut out of the middle afterwards. `mean` and `std` are those of each colour once it is scaled by `scale`.
    """

    resize: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        height, width = self.size
        if not (1 <= height <= _LARGEST and 1 <= width <= _LARGEST):
            raise ConfigurationError(
                f"an image encoder reads {height} x {width} pixels; each must be in [1, {_LARGEST}]"
            )
        if not all(value > 0 for value in (*self.std, self.scale)):
            raise ConfigurationError(f"image_std {list(self.std)} and rescale_factor {self.scale} must be above 0")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what a network reads."""
        if self.crop is not None:
            return self.crop
        if isinstance(self.resize, tuple):
            return self.resize
        raise ConfigurationError(
            f"{PREPROCESSING_FILE} fixes neither height and width nor a crop; give an encoder that reads one size"
        )

    @classmethod
    def read(cls, folder: Path) -> "Preprocessing":
        """What `preprocessor_config.json` says, as transformers' image processors write it.

        Raises:
            ConfigurationError: it is missing, cannot be read, or asks for what is not done here.
        """
        path = folder / PREPROCESSING_FILE
        try:
            told = json.loads(path.read_bytes())
            if unknown := [name for name in _UNDONE if told.get(name)]:
                raise ConfigurationError(f"{path} asks for {', '.join(unknown)}, which is not done here")
            return cls(
                resize=_resize(told),
                crop=_crop(told),
                resample=int(told.get("resample", _BILINEAR)),
                scale=float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 1.0,
                mean=_three(told, "image_mean", _MEAN, nothing=0.0),
                std=_three(told, "image_std", _STD, nothing=1.0),
            )
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"{path} does not say how images are prepared ({error}); save the encoder with its image processor"
            ) from error

    def write(self, folder: Path) -> None:
        """Write what `read` reads, and no more."""
        resize = self.resize
        size = {"height": resize[0], "width": resize[1]} if isinstance(resize, tuple) else {"shortest_edge": resize}
        told: dict[str, Any] = {
            "do_resize": resize is not None,
            **({} if resize is None else {"size": size}),
            "do_center_crop": self.crop is not None,
            **({} if self.crop is None else {"crop_size": {"height": self.crop[0], "width": self.crop[1]}}),
            "resample": self.resample,
            "do_rescale": True,
            "rescale_factor": self.scale,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }
        (folder / PREPROCESSING_FILE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def pixels(self, picture: "Pixels") -> "Pixels":
        """A picture (height, width, 3) as the network reads it: resized and cut, (*size, 3)."""
        import numpy as np
        from PIL import Image

        image = Image.fromarray(picture)
        if self.resize is not None:
            height, width = self.resize if isinstance(self.resize, tuple) else _shorter_side(image.size, self.resize)
            if (width, height) != image.size:
                image = image.resize((width, height), Image.Resampling(self.resample))
        return np.asarray(image) if self.crop is None else _middle(np.asarray(image), self.crop)


def _resize(told: dict[str, Any]) -> tuple[int, int] | int | None:
    if not told.get("do_resize", True):
        return None
    size = told["size"]
    if isinstance(size, int):
        return size, size
    if "shortest_edge" not in size:
        return int(size["height"]), int(size["width"])
    shortest, share = int(size["shortest_edge"]), told.get("crop_pct")  # ConvNext's: what is left of the resized side
    if share is None:
        return shortest
    return int(shortest / share) if shortest < _CROPPED_BELOW else (shortest, shortest)


def _crop(told: dict[str, Any]) -> tuple[int, int] | None:
    if told.get("crop_pct") is not None:
        side = int(told["size"]["shortest_edge"])
        return (side, side) if side < _CROPPED_BELOW else None
    if not told.get("do_center_crop", False):
        return None
    size = told["crop_size"]
    return (int(size), int(size)) if isinstance(size, int) else (int(size["height"]), int(size["width"]))


def _three(
    told: dict[str, Any], name: str, usual: tuple[float, float, float], *, nothing: float
) -> tuple[float, float, float]:
    if not told.get("do_normalize", True):
        return nothing, nothing, nothing
    red, green, blue = map(float, told.get(name, usual))
    return red, green, blue


def _shorter_side(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Height and width with this shorter side; the longer one is cut to a whole number."""
    width, height = size
    if width <= height:
        return int(shorter * height / width), shorter
    return shorter, int(shorter * width / height)


def _middle(picture: "Pixels", crop: tuple[int, int]) -> "Pixels":
    """The middle of a picture; where it is smaller than the crop, black is around it."""
    height, width = crop
    short = [max(0, wanted - held) for wanted, held in zip(crop, picture.shape[:2], strict=True)]
    if any(short):
        import numpy as np

        around = [((missing + 1) // 2, missing // 2) for missing in short]
        picture = np.pad(picture, [*around, (0, 0)])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]
