"""The page about encoders names what is tested, and nothing else."""

from pathlib import Path

from tests.component.encoders.tiny import CLASSIFIERS, ENCODERS

PAGE = Path(__file__).parents[3] / "docs" / "encoders.md"


def test_its_table_is_what_is_tested() -> None:
    section = PAGE.read_text(encoding="utf-8").split("## What is tested\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if "|" in line]
    documented = {name: (pooling, adopted) for name, pooling, _, adopted in lines[2:]}
    tested = {name: (made.pooling, "yes" if name in CLASSIFIERS else "no") for name, made in ENCODERS.items()}
    assert documented == tested
