"""Recordings that tests make: tones in any kind of file, and a voice."""

import io
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np

from perennial.continual.speech.sound import RATE

__all__ = ["packed", "spoken", "tone"]


def tone(seconds: float = 0.5, *, rate: int = RATE, size: int = 2, channels: int = 1, loud: float = 0.5) -> bytes:
    """A WAV file of 440 Hz, whose samples have so many bytes."""
    times = np.arange(int(seconds * rate)) / rate
    heard = np.repeat(loud * np.sin(2 * np.pi * 440 * times)[:, None], channels, axis=1)
    if size == 1:
        content = (heard * 127 + 128).astype(np.uint8).tobytes()
    else:
        whole = (heard * (2.0 ** (8 * size - 1) - 1)).astype("<i4")
        content = whole.reshape(-1, 1).view(np.uint8).reshape(-1, 4)[:, :size].tobytes()
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(size)
        file.setframerate(rate)
        file.writeframes(content)
    return buffer.getvalue()


def packed(sent: bytes, kind: str, codec: str, rate: int = 48_000) -> bytes:
    """The sound of a file in another kind of file."""
    import av
    from av.audio.resampler import AudioResampler

    buffer = io.BytesIO()
    with av.open(io.BytesIO(sent)) as read, av.open(buffer, "w", format=kind) as written:
        stream = written.add_stream(codec, rate=rate)
        stream.layout = "mono"
        turned = AudioResampler(format=stream.format.name, layout="mono", rate=rate, frame_size=960)
        frames = [part for frame in read.decode(audio=0) for part in turned.resample(frame)]
        for frame in [*frames, *turned.resample(None), None]:
            for packet in stream.encode(frame):
                written.mux(packet)
    return buffer.getvalue()


def spoken(text: str, folder: Path) -> bytes:
    """A WAV file in which a voice of flite says it."""
    assert shutil.which("flite"), "flite is needed: apt-get install flite"
    path = folder / "said.wav"
    subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", str(path)], check=True, timeout=60)
    return path.read_bytes()
