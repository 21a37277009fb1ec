"""Pages that lead through the code: the files that they name are there, and the picture is the one that is tested."""

import re
import tomllib
from pathlib import Path

import pytest

from perennial.ops.ledger.schema import REVISION
from tests.unit.test_structure import FLOORS

ROOT = Path(__file__).resolve().parents[2]
HISTORY = {"CHANGELOG.md"}  # tells what was, by the names of then
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "model_repository" / "README.md"]
    if page.name not in HISTORY
)
_FILE = re.compile(r"`((?:continual|exporters|ops|perennial|tests|benchmarks|docs)/[\w/.-]+)`")
_LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")
_MODULE = re.compile(r"`(perennial(?:\.[a-z_]\w*)+)`(?<!\.toml`)")


def _made(name: str) -> bool:
    """Whether a benchmark writes the file: it is not part of the repository."""
    return name.startswith("benchmarks/out/")


def _is_importable(name: str) -> bool:
    """Whether the name is a module, or its last part is defined in one."""
    path, _, last = name.replace(".", "/").rpartition("/")
    if (ROOT / path / last).is_dir() or (ROOT / path / f"{last}.py").is_file():
        return True
    files = [ROOT / f"{path}.py", ROOT / path / "__init__.py"]
    return any(re.search(rf"\b{last}\b", file.read_text(encoding="utf-8")) for file in files if file.is_file())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_and_link_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [name for name in _FILE.findall(text) if not _made(name) and not (ROOT / name).exists()]
    missing += [link for link, _ in _LINK.findall(text) if not (page.parent / link).exists()]
    missing += [name for name in _MODULE.findall(text) if not _is_importable(name)]
    assert not missing


def test_the_picture_of_the_rooms_is_the_one_that_is_tested() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^(?: ops)? +(\d+)  ((?:[a-z_]+ {1,2})+) ", page, flags=re.MULTILINE)
    assert [(int(floor), set(rooms.split())) for floor, rooms in reversed(drawn)] == list(enumerate(FLOORS))


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_each_extra_for_users_is_in_the_table_of_extras(page: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert project["optional-dependencies"].keys() - {"benchmarks", "dev"} <= listed


def test_the_page_of_upgrades_names_the_schema_of_this_release() -> None:
    assert f"| the ledger's schema | {REVISION} |" in (ROOT / "docs" / "upgrade.md").read_text(encoding="utf-8")


def _code(page: str) -> list[str]:
    """The blocks of code of a page, and nothing of its prose."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"(?:^    .*\n)+", text, flags=re.MULTILINE)


def test_the_chinese_page_has_the_code_the_figures_and_the_links_of_the_english_one() -> None:
    english, chinese = (ROOT / name for name in ("README.md", "README.zh.md"))
    assert _code("README.md") == _code("README.zh.md") != []
    pages = [re.sub(r"(?<=\S)\n(?=\S)", " ", page.read_text(encoding="utf-8")) for page in (english, chinese)]
    for what in (r"`[^`]+`", r"\d[\d,.]*\d", r"\]\(([^)]+\.(?:md|svg|png)[^)]*)\)", r"^#+ "):
        of_english, of_chinese = (sorted(re.findall(what, page, flags=re.MULTILINE)) for page in pages)
        of_chinese = ["README.zh.md" if one == "README.md" else one for one in of_chinese]
        assert sorted(of_chinese) == of_english, f"the two pages differ in {what}"


def test_the_first_page_fits_two_hundred_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_map_leads_to_every_page() -> None:
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").glob("**/*.md")}
    led = {link for link, _ in _LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))}
    assert pages - {"index.md"} - led - {page for page in pages if page.startswith("decisions/0")} == set()
