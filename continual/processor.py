"""What the system says of the processor."""

from pathlib import Path

__all__ = ["processor_facts"]


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
