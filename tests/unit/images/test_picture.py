"""Files that clients send: what is read of them, and what is refused before it costs anything."""

import io
import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from perennial.continual.errors import DataError, DependencyUnreachable
from perennial.continual.images import ImageStore, Picture, image_name, is_image_name, read_image
from perennial.continual.images.picture import MOST_BYTES

_RED, _WHITE = (220, 30, 40), (255, 255, 255)


def _file(image: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **how)  # type: ignore[arg-type]
    return buffer.getvalue()


def _plain(size: tuple[int, int] = (40, 30), kind: str = "PNG", **how: object) -> bytes:
    return _file(Image.new("RGB", size, _RED), kind, **how)


def _near(pixels: np.ndarray, colour: tuple[int, ...]) -> bool:
    return bool(np.abs(pixels.astype(int) - np.array(colour)).max() <= 6)


def _headed(width: int, height: int) -> bytes:
    """A PNG file that says it is so large, and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(64))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_is_kept_is_a_picture_of_our_own(kind: str) -> None:
    picture = read_image(_plain(kind=kind))
    assert picture.content.startswith(b"\xff\xd8\xff")
    assert _near(picture.pixels, _RED)
    assert (picture.pixels.shape, picture.size) == ((30, 40, 3), (40, 30))
    assert read_image(_plain(kind=kind)).name == picture.name
    assert is_image_name(picture.name)


def test_a_large_image_is_made_small_and_its_size_is_known() -> None:
    picture = read_image(_plain((1200, 800), "JPEG"))
    assert (picture.pixels.shape, picture.size) == ((256, 384, 3), (1200, 800))
    assert _near(picture.pixels, _RED)
    assert read_image(_plain((300, 3000))).pixels.shape == (2560, 256, 3)
    assert picture.effort == pytest.approx(1200 * 800 / 40e6)
    assert read_image(_plain((300, 3000))).effort == pytest.approx(300 * 3000 / 16e6)
    assert read_image(_plain(kind="JPEG") + bytes(4 * 2**20)).effort == pytest.approx(0.5, abs=0.01)


def test_an_image_is_turned_as_its_camera_held_it_and_loses_what_came_with_it() -> None:
    image = Image.new("RGB", (60, 40), _RED)
    image.paste(_WHITE, (0, 0, 60, 10))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "taken at home by jo.doe@example.org"  # turned to the right; a description
    sent = _file(image, "JPEG", exif=exif, quality=95)
    assert b"jo.doe" in sent
    picture = read_image(sent)
    assert picture.pixels.shape == (60, 40, 3)
    assert _near(picture.pixels[:, -5:], _WHITE)
    assert _near(picture.pixels[:, :20], _RED)
    assert b"jo.doe" not in picture.content
    with Image.open(io.BytesIO(picture.content)) as kept:
        assert not kept.getexif()


@pytest.mark.parametrize(
    ("image", "colour"),
    [
        (Image.new("L", (20, 20), 90), (90, 90, 90)),
        (Image.new("1", (20, 20), 1), _WHITE),
        (Image.new("RGBA", (20, 20), (0, 0, 0, 0)), _WHITE),
        (Image.new("LA", (20, 20), (0, 128)), (127, 127, 127)),
        (Image.new("P", (20, 20), 0), (0, 0, 0)),
        (Image.fromarray(np.full((20, 20), 40_000, dtype=np.uint16)), (156, 156, 156)),
    ],
    ids=["grey", "black and white", "transparent", "half transparent", "palette", "16 bits"],
)
def test_every_mode_of_a_png_becomes_rgb(image: Image.Image, colour: tuple[int, int, int]) -> None:
    assert _near(read_image(_file(image)).pixels, colour)


def test_a_jpeg_in_cmyk_becomes_rgb() -> None:
    assert _near(
        read_image(_file(Image.new("CMYK", (20, 20), (0, 255, 255, 0)), "JPEG", quality=95)).pixels, (255, 0, 0)
    )


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "is empty"),
        (bytes(MOST_BYTES + 1), r"has 8,388,609 bytes \(limit 8,388,608\)"),
        (b"GIF89a" + bytes(40), "is no JPEG or PNG file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "is no JPEG or PNG file"),
        (_file(Image.new("RGB", (20, 20)), "GIF"), "is no JPEG or PNG file"),
        (_file(Image.new("RGB", (20, 20)), "TIFF"), "is no JPEG or PNG file"),
        (_headed(100_000, 100_000), "pixels"),
        (_headed(12_000, 9_000), "pixels"),
        (_headed(7_000, 7_000), r"7000 x 7000 pixels, 49,000,000 in all \(limit 16,000,000\)"),
        (_headed(2_000, 2_000), "cannot be read|broken|truncated"),
        (_plain((400, 300), "JPEG")[:900], "truncated"),
        (_plain((3, 30)), "each side needs at least 4"),
        (_plain((2000, 20)), "at most 20 times the other"),
    ],
    ids=[
        "nothing", "too many bytes", "wrong type", "svg", "gif", "tiff", "bomb", "large bomb", "many pixels",
        "empty inside", "truncated", "too small", "too narrow",
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_reason(sent: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as told:
        read_image(sent, field="IMAGE of row 3")
    assert str(told.value).startswith("IMAGE of row 3 ")


def test_a_moving_image_is_refused() -> None:
    frames = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in (0, 100, 200)]
    with pytest.raises(DataError, match="it has 3 frames"):
        read_image(_file(frames[0], save_all=True, append_images=frames[1:]))


def test_a_file_of_parts_without_end_is_refused() -> None:
    progressive, png = _plain((64, 64), "JPEG", progressive=True), _plain()
    assert read_image(progressive).size == (64, 64)
    last = progressive.rindex(b"\xff\xda")
    with pytest.raises(DataError, match="is a JPEG file of more than 256 parts; save it anew"):
        read_image(progressive[:-2] + 300 * progressive[last:-2] + progressive[-2:])
    assert read_image(progressive + 300 * progressive[last:-2]).size == (64, 64), "a film behind it is not looked at"
    with pytest.raises(DataError, match="is a PNG file of more than 20,000 parts"):
        read_image(png[:33] + 20_001 * bytes(12) + png[33:])


def test_a_jpeg_that_is_unpacked_whole_may_be_no_larger_than_a_png() -> None:
    sent = bytearray(_plain((64, 64), "JPEG", progressive=True))
    frame = sent.index(b"\xff\xc2")
    sent[frame + 5 : frame + 9] = struct.pack(">HH", 5000, 5000)
    with pytest.raises(DataError, match=r"5000 x 5000 pixels, 25,000,000 in all \(limit 16,000,000\)"):
        read_image(bytes(sent))


@pytest.mark.parametrize("raised", [struct.error("cut"), KeyError(274), ZeroDivisionError("0"), AssertionError("x")])
def test_notes_in_a_file_that_cannot_be_read_refuse_it(monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    def failing(image: Image.Image) -> Image.Image:
        raise raised

    monkeypatch.setattr(ImageOps, "exif_transpose", failing)
    with pytest.raises(DataError, match="cannot be read as a JPEG or PNG file"):
        read_image(_plain())


def _struck(sent: bytes, rng: np.random.Generator) -> bytes:
    content = bytearray(sent)
    for place in rng.integers(len(content), size=8):
        content[place] = rng.integers(256)
    return bytes(content)


@pytest.mark.parametrize("cut", [lambda sent, rng: sent[: rng.integers(1, len(sent))], _struck])
def test_damaged_files_are_read_or_refused_and_nothing_else(
    cut: Callable[[bytes, np.random.Generator], bytes],
) -> None:
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(256, size=(24, 24, 3), dtype=np.uint8))
    refused = 0
    for kind in ("PNG", "JPEG") * 60:
        try:
            assert read_image(cut(_file(noise, kind), rng)).pixels.shape[2] == 3
        except DataError:
            refused += 1
    assert 0 < refused <= 120


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = _plain()
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DependencyUnreachable, match=r"pip install 'perennial-serving\[images\]'"):
        read_image(sent)


def test_brightness_is_between_black_and_white() -> None:
    shades = [read_image(_file(Image.new("RGB", (8, 8), (shade,) * 3))).brightness for shade in (0, 128, 255)]
    assert shades == pytest.approx([0.0, 0.5, 1.0], abs=0.01)


def test_a_store_keeps_finds_and_forgets(tmp_path: Path) -> None:
    store, picture = ImageStore(tmp_path), read_image(_plain())
    assert store.get(picture.name) is None
    assert [store.put(picture), store.put(picture)] == [True, False]
    assert store.get(picture.name) == picture
    assert store.names() == {picture.name}
    (file,) = tmp_path.rglob("*.jpg")
    file.write_bytes(b"another file")
    assert store.get(picture.name) is None, "a file that is not what its name says is none"
    assert [store.forget([picture.name, "image:../../x"]), store.forget([picture.name])] == [1, 0]


def test_a_store_keeps_what_is_named_or_young(tmp_path: Path) -> None:
    store = ImageStore(tmp_path)
    names = [
        picture.name for picture in (Picture(content=bytes([number])) for number in range(3)) if store.put(picture)
    ]
    assert store.keep_only({names[0]}, older_than_s=60.0) == 0
    assert store.keep_only({names[0]}, older_than_s=-60.0) == 2
    assert store.names() == {names[0]}


def test_a_picture_that_comes_again_is_young_and_whole_again(tmp_path: Path) -> None:
    store, picture = ImageStore(tmp_path), read_image(_plain())
    store.put(picture)
    (file,) = tmp_path.rglob("*.jpg")
    os.utime(file, (0, 0))
    assert not store.put(picture)
    assert store.keep_only((), older_than_s=60.0) == 0, "the row that names it is on its way"
    file.write_bytes(b"")  # as a power cut leaves it
    assert not store.holds(picture.name)
    assert store.put(picture)
    assert store.get(picture.name) == picture
    assert store.holds(picture.name)


def test_what_killed_writers_left_goes_as_well(tmp_path: Path) -> None:
    store, picture = ImageStore(tmp_path), read_image(_plain())
    store.put(picture)
    (file,) = tmp_path.rglob("*.jpg")
    left, other = (file.with_name(f".{name}.tmp") for name in (file.name, "another.jpg"))
    for path in (left, other):
        path.write_bytes(picture.content)
    assert store.forget([picture.name]) == 1
    assert [left.exists(), other.exists()] == [False, True]
    assert [store.keep_only((), older_than_s=60.0), other.exists()] == [0, True]
    assert [store.keep_only((), older_than_s=-60.0), other.exists()] == [0, False]


@pytest.mark.parametrize(
    "name", ["", "image:", "image:" + "a" * 39, "image:" + "A" * 40, "image:" + "../" * 14 + "ab", "x"]
)
def test_no_other_text_is_a_name_or_a_path(tmp_path: Path, name: str) -> None:
    assert not is_image_name(name)
    with pytest.raises(DataError, match="is no name of an image"):
        ImageStore(tmp_path).get(name)
    assert is_image_name(image_name(name.encode()))
