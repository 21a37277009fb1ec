"""Files of sound: what is heard of them, and what is refused."""

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from perennial.continual.errors import DataError
from perennial.continual.speech.sound import MOST_BYTES, RATE, sound_of
from tests.unit.speech.sounds import packed, tone


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1)])
def test_every_kind_of_plain_numbers_becomes_the_same_sound(size: int, rate: int, channels: int) -> None:
    sound = sound_of(tone(rate=rate, size=size, channels=channels))
    assert (sound.dtype, abs(len(sound) - RATE // 2) <= 32) == (np.float32, True)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(sound)) / RATE)
    middle = slice(400, -400)
    assert np.abs(sound[middle] - wanted[middle]).max() < 0.02


@pytest.mark.parametrize(("kind", "codec"), [("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus")])
def test_a_packed_file_becomes_about_the_same_sound(kind: str, codec: str) -> None:
    """Some kinds shift it by milliseconds, so what is compared is how loud which tone is."""
    sound = sound_of(packed(tone(1.0), kind, codec))
    assert abs(len(sound) - RATE) < RATE // 8
    spectrum = np.abs(np.fft.rfft(sound[: RATE * 7 // 8]))
    assert spectrum.argmax() * RATE / (RATE * 7 // 8) == pytest.approx(440, abs=3)
    assert np.abs(sound).max() == pytest.approx(0.5, abs=0.1)


def _claims(samples: int, rate: int = RATE) -> bytes:
    """A WAV file whose header says that it has so many samples."""
    sent = bytearray(tone(rate=rate))
    place = sent.index(b"data") + 4
    sent[place : place + 4] = struct.pack("<I", min(samples * 2, 2**32 - 2))
    return bytes(sent)


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("seconds", [0.5, 61.0])
def test_a_wav_that_was_written_as_it_came_is_heard_by_what_is_there(size: int, seconds: float) -> None:
    """FFmpeg, SoX and arecord do not know the size when they write it, and fill it with bits."""
    sent = bytearray(tone(seconds, rate=8_000))
    place = sent.index(b"data") + 4
    sent[place : place + 4] = struct.pack("<I", size)
    sent[4:8] = struct.pack("<I", min(size + 36, 0xFFFF_FFFF))
    if seconds > 60:
        with pytest.raises(DataError, match="lasts more than 60 s"):
            sound_of(bytes(sent))
        return
    assert len(sound_of(bytes(sent))) == pytest.approx(seconds * RATE, abs=32)


def _flac_claims(samples: int) -> bytes:
    """A FLAC file whose header says so."""
    sent = bytearray(packed(tone(1.0), "flac", "flac"))
    place = 8 + 13  # in STREAMINFO the last 36 bits of eight bytes are the samples
    head = sent[place] & 0xF0
    sent[place : place + 5] = (samples & (2**36 - 1)).to_bytes(5, "big")
    sent[place] = head | (sent[place] & 0x0F)
    return bytes(sent)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "is empty"),
        (b"RIFF\x00\x00\x00\x00AVI ", "is no WAV, FLAC, MP3 or Ogg file"),
        (b"\x1aE\xdf\xa3 a film", "is no WAV, FLAC, MP3 or Ogg file"),
        (b"#EXTM3U\nhttp://127.0.0.1/x.wav", "is no WAV, FLAC, MP3 or Ogg file"),
        (bytes(MOST_BYTES + 1), "has 8,388,609 bytes"),
        (tone(61.0, rate=8_000), r"says that it lasts 61 s \(limit 60 s\)"),
        (_claims(2**29), "says that it lasts"),
        (_claims(60_000), r"ends after 0\.5 of 3\.8 s"),
        (_flac_claims(48_000 * 3_600), "says that it lasts 3,600 s"),
        (_flac_claims(48_000 * 30), r"ends after 1\.0 of 30\.0 s"),
        (packed(tone(70.0, rate=8_000), "mp3", "libmp3lame", rate=24_000), "lasts more than 60 s"),
        (packed(tone(70.0, rate=8_000), "ogg", "libopus"), "lasts more than 60 s"),
        (tone(0.0), "lasts 0.00 s|cannot be read"),
        (tone(0.05), "lasts 0.05 s"),
        (tone(rate=96_000), "has 96,000 samples a second"),
        (tone(rate=4_000), "has 4,000 samples a second"),
        (tone(channels=4), "has 4 channels"),
        (tone()[:30], "cannot be read as a wav file"),
        (packed(tone(), "flac", "flac")[:60], "cannot be read as a flac file|ends after|lasts"),
        (packed(tone(), "ogg", "libopus")[:100], "cannot be read as a ogg file|lasts"),
        (b"ID3" + bytes(500), "cannot be read as a mp3 file|lasts"),
        (tone(loud=0.0), "is silent: its loudest sample is nothing at all"),
        (tone(loud=0.0005), "is silent: its loudest sample is -66 dB"),
    ],
    ids=[
        *("nothing", "film in riff", "film", "playlist", "large", "long", "bomb", "cut off", "flac bomb", "flac cut"),
        *("long mp3", "long opus", "no samples", "short", "fast", "slow", "channels", "header", "flac header"),
        *("ogg header", "tags alone", "zeros", "quiet"),
    ],
)
def test_what_cannot_be_heard_is_refused(sent: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        sound_of(sent, field="a.wav")


def _with_cover(sent: bytes, side: int) -> bytes:
    """An MP3 file with a picture, whose size only the picture itself tells."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "PNG")
    part = b"\0image/png\0\x03\0" + buffer.getvalue()
    tag = b"APIC" + struct.pack(">IH", len(part), 0) + part
    size = bytes(len(tag) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + tag + sent


def test_the_cover_of_a_recording_is_never_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    whole, found, real = packed(tone(1.0), "mp3", "libmp3lame"), list[int](), av.open

    def watched(*args: Any, **kwargs: Any) -> Any:
        container = real(*args, **kwargs)
        found.extend(stream.codec_context.width for stream in container.streams.video)
        return container

    monkeypatch.setattr(av, "open", watched)
    assert len(sound_of(_with_cover(whole, 2_000))) == len(sound_of(whole))
    assert found == [0], "its size is known once it is unpacked"


def test_random_changes_of_a_file_are_heard_or_refused() -> None:
    """Whatever stands in it, nothing but our own error comes out, and never more than a minute."""
    rng = np.random.default_rng(0)
    for kind, codec in (("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("ogg", "libopus")):
        whole = packed(tone(0.3), kind, codec)
        for _ in range(25):
            changed = np.frombuffer(whole, dtype=np.uint8).copy()
            places = rng.integers(4, min(len(changed), 400), size=rng.integers(1, 12))
            changed[places] = rng.integers(256, size=len(places))
            try:
                assert len(sound_of(changed.tobytes())) <= 61 * RATE
            except DataError:
                continue
