"""Sound out of files that strangers send, within limits, as a recogniser hears it."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from perennial.continual.errors import DataError, DependencyUnreachable

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame

__all__ = ["ENDINGS", "MOST_BYTES", "MOST_S", "RATE", "Sound", "check_kind", "sound_of"]

RATE = 16_000  # samples a second
MOST_BYTES = 8 * 2**20
MOST_S, _LEAST_S = 60.0, 0.1
_RATES = (8_000, 48_000)
_MOST_CHANNELS = 2
_SILENT = 10 ** (-60 / 20)  # of the loudest sample: 60 dB below full scale
ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus")
_KINDS = "WAV, FLAC, MP3 or Ogg"
_ENDLESS = 0x7FFF_F000  # from here on a WAV file's size was not known when it was written; this one is SoX's
_CUT_OFF = 0.02  # of the length that a header tells, which may be missing
_NO_PICTURES = {"max_pixels": "1"}  # a cover would be unpacked to learn its size: gigabytes out of a megabyte

Sound = NDArray[np.float32]


def sound_of(sent: bytes, *, field: str = "audio") -> Sound:
    """The sound of a WAV, FLAC, MP3 or Ogg file: mono, 16,000 samples a second in [-1, 1].

    Two channels become their mean, other rates are resampled. No more than a minute is ever unpacked.

    Raises:
        DataError: it is empty, too large, too long or too short, of another kind, rate or number of channels, broken,
            cut off, or silent.
        DependencyUnreachable: PyAV is not installed.
    """
    kind = check_kind(sent, field=field)
    try:
        import av
    except ImportError as exc:
        raise DependencyUnreachable(f"speech needs PyAV ({exc}); pip install 'perennial-serving[speech]'") from exc
    try:
        # the kind is told: a guessed one may be a list of addresses, which would be opened
        file = io.BytesIO(sent)
        with av.open(file, mode="r", format=kind, options=_NO_PICTURES, metadata_errors="ignore") as container:
            stream = container.streams.audio[0]
            told_s = _told_s(sent, kind, stream)
            _check_stream(stream, told_s, field)
            samples = _samples(container.decode(stream), field)
    except DataError:
        raise
    except Exception as exc:  # what unpacks strangers' files raises whatever it comes upon
        raise DataError(f"{field} cannot be read as a {kind} file ({exc}); send the whole file") from exc
    return _checked(samples, told_s, field)


def check_kind(sent: bytes, *, field: str = "audio") -> str:
    """The kind of a file by its first bytes, as FFmpeg calls it; nothing is unpacked.

    Raises:
        DataError: it is empty, too large, or of another kind.

    >>> check_kind(b"fLaC" + bytes(40))
    'flac'
    """
    if not sent:
        raise DataError(f"{field} is empty; send the bytes of a {_KINDS} file")
    if len(sent) > MOST_BYTES:
        raise DataError(f"{field} has {len(sent):,} bytes (limit {MOST_BYTES:,}); send it shorter, or packed as FLAC")
    if sent.startswith(b"RIFF") and sent[8:12] == b"WAVE":
        return "wav"
    if sent.startswith(b"fLaC"):
        return "flac"
    if sent.startswith(b"OggS"):
        return "ogg"
    if sent.startswith(b"ID3") or (len(sent) > 1 and sent[0] == 0xFF and sent[1] & 0xE6 == 0xE2):  # layer 3
        return "mp3"
    raise DataError(
        f"{field} is no {_KINDS} file (it begins with {sent[:8].hex(' ')}); turn it into one, e.g. "
        "`ffmpeg -i FILE -ar 16000 -ac 1 speech.wav`"
    )


def _check_stream(stream: Any, told_s: float | None, field: str) -> None:
    """Refuse by the header, before anything is unpacked."""
    rate, channels = int(stream.rate or 0), int(stream.channels or 0)
    if not _RATES[0] <= rate <= _RATES[1]:
        raise DataError(f"{field} has {rate:,} samples a second (allowed {_RATES[0]:,} to {_RATES[1]:,}); resample it")
    if not 1 <= channels <= _MOST_CHANNELS:
        raise DataError(f"{field} has {channels} channels (allowed 1 or {_MOST_CHANNELS}); mix them down to one")
    if told_s is not None and told_s > MOST_S:
        raise _too_long(f"says that it lasts {told_s:,.0f} s", field)


def _told_s(sent: bytes, kind: str, stream: Any) -> float | None:
    """The length that the header tells; None where it tells none, or a guess."""
    if kind == "wav":
        return _wav_s(sent, stream)
    if kind == "flac" and stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None


def _wav_s(sent: bytes, stream: Any) -> float | None:
    """By the size that its part of sound claims; one that was written as it came claims none."""
    at, per_s = 12, (stream.bit_rate or 0) / 8
    while at + 8 <= len(sent) and per_s:
        name, size = sent[at : at + 4], int.from_bytes(sent[at + 4 : at + 8], "little")
        if name == b"data":
            return None if size == 0 or size >= _ENDLESS else size / per_s
        at += 8 + size + size % 2
    return None


def _samples(frames: "Iterator[AudioFrame]", field: str) -> Sound:
    """All samples, unpacked frame by frame, and no further than the longest that is heard."""
    from av.audio.resampler import AudioResampler

    turned = AudioResampler(format="fltp", rate=RATE)  # channels stay: FFmpeg adds them up where we want their mean
    parts: list[Sound] = []
    count = 0
    for frame in frames:
        frame.pts = None  # a gap that a header invents is not filled
        for part in turned.resample(frame):
            parts.append(part.to_ndarray().mean(axis=0))
            count += len(parts[-1])
        if count > MOST_S * RATE:
            raise _too_long(f"lasts more than {MOST_S:.0f} s", field)
    parts += [part.to_ndarray().mean(axis=0) for part in turned.resample(None)]
    whole: Sound = np.concatenate([np.zeros(0, np.float32), *parts]).astype(np.float32)
    return whole


def _checked(samples: Sound, told_s: float | None, field: str) -> Sound:
    seconds = len(samples) / RATE
    if told_s is not None and seconds < told_s * (1 - _CUT_OFF) - _LEAST_S:
        raise DataError(f"{field} ends after {seconds:.1f} of {told_s:.1f} s; send the whole file")
    if seconds < _LEAST_S:
        raise DataError(f"{field} lasts {seconds:.2f} s (least {_LEAST_S:g}); record more of it")
    if not np.isfinite(samples).all():
        raise DataError(f"{field} has samples that are no numbers; save it anew")
    if (loudest := float(np.abs(samples).max())) < _SILENT:
        decibels = f"{20 * np.log10(loudest):.0f} dB" if loudest else "nothing at all"
        raise DataError(f"{field} is silent: its loudest sample is {decibels} (least -60 dB); record it louder")
    heard: Sound = np.clip(samples, -1.0, 1.0)
    return heard


def _too_long(what: str, field: str) -> DataError:
    return DataError(f"{field} {what} (limit {MOST_S:.0f} s); send the part that matters, or several in turn")
