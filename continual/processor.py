"""What the system says of the processor."""

from pathlib import Path

__all__ = ["has_fast_bf16", "processor_facts"]


def processor_facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """What Linux says of the first processor, `model name` and `flags` among it; nothing where it cannot be read.

    >>> processor_facts(Path("/nowhere"))
    {}
    """
    try:
        first = cpuinfo.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}


def has_fast_bf16() -> bool:
    """Whether this processor multiplies bfloat16 natively (AMX or AVX-512 BF16); elsewhere it only costs time."""
    flags = processor_facts().get("flags", "").split()
    return "amx_bf16" in flags or "avx512_bf16" in flags
