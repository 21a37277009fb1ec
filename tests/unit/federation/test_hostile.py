"""What a site that lies, or somebody else who can write to the folder, does not get."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import DataError, Refused
from perennial.continual.federation.announcement import SiteList
from perennial.continual.federation.left_file import read_left
from perennial.continual.federation.masking import Keys
from perennial.continual.federation.round import Round
from perennial.continual.learning.sums import SumsFile
from tests.unit.federation.test_round import SITES, Site, exchanged, rows_at


def announced(folder: Path) -> dict[str, Site]:
    sites = {name: Site.of("ridge", name) for name in SITES}
    for site in sites.values():
        site.announce(folder)
    return sites


def listed(folder: Path, names: tuple[str, ...], *, is_open: bool) -> None:
    digests = {name: sha256((folder / f"{name}.site.json").read_bytes()).hexdigest() for name in names}
    (folder / "sites.json").write_text(SiteList(sites=digests, open=is_open).text())


def rewritten(path: Path, change: Callable[[np.ndarray], Any]) -> None:
    """The file of a site that sends other numbers than it should."""
    file = SumsFile.read(path)
    words = change(file.tensors["words"].copy())
    about = {**file.about, "sha256": sha256(words.tobytes()).hexdigest()}
    SumsFile(format=file.format, tensors={"words": words}, about=about).write(path)


@pytest.mark.parametrize(
    ("names", "is_open"), [((), True), (("east",), False), (("east", "north"), False), (SITES, True)]
)
def test_a_list_that_no_site_writes_lets_nothing_out(tmp_path: Path, names: tuple[str, ...], is_open: bool) -> None:
    """With a site alone, or two and no agreement, the sums would lie there as good as unmasked."""
    east = announced(tmp_path)["east"]
    listed(tmp_path, names, is_open=is_open)
    with pytest.raises(DataError, match="no site closes a round"):
        east.send(tmp_path, unmasked=True)
    assert not list(tmp_path.glob("*.sums.safetensors"))


def test_a_closed_list_has_as_many_sites_as_are_expected(tmp_path: Path) -> None:
    east = announced(tmp_path)["east"]
    listed(tmp_path, SITES, is_open=False)
    with pytest.raises(Refused, match=r"closed with 3 sites \(east, north, west\), not 4"):
        east.send(tmp_path, sites=4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("largest", float("nan")),
        ("largest", -1e9),
        ("largest", 1e300),
        ("rows", -1),
        ("rows", "3"),
        ("classes", "abc"),
        ("classes", [5]),
        ("classes", ["\x1b[2Jgone"]),
        ("public_key", "../../key"),
        ("seal", ""),
        ("features", []),
        ("spread", float("nan")),
        ("plain", 1),
        ("site", "../west"),
    ],
)
def test_an_announcement_that_cannot_be_is_named_and_not_used(tmp_path: Path, field: str, value: Any) -> None:
    announced(tmp_path)
    path = tmp_path / "west.site.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(DataError, match=r"west.site.json cannot be used"):
        _ = Round(tmp_path).announced


def test_a_file_is_read_through_no_link_and_without_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**33)
    for name in ("link", "pipe", "folder", "large"):
        with pytest.raises(DataError, match="plain file"):
            read_left(tmp_path / name)
    assert read_left(tmp_path / "secret") == b"secret"
    (tmp_path / "west.site.json").write_text("[" * 200_000)
    with pytest.raises(DataError, match="is no JSON of a round"):
        _ = Round(tmp_path).announced


def test_keys_are_taken_from_the_bytes_that_the_list_names(tmp_path: Path) -> None:
    """Whoever serves the folder could show the announced key first, and another one at a second look."""
    announced(tmp_path)
    there = Round(tmp_path)
    closed = there.close(3)
    path = tmp_path / "west.site.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "public_key": Keys.made().public}))
    with pytest.raises(DataError, match=r"west\.site\.json is not what it was when the round was closed"):
        there._listed(closed)


def test_a_list_with_another_key_in_the_name_of_this_site_is_refused(tmp_path: Path) -> None:
    east = announced(tmp_path)["east"]
    said = Round(tmp_path).mine(east.keys)

    class Shown(Round):
        def mine(self, keys: Keys) -> Any:
            return said

    Path(tmp_path / "east.site.json").write_text(replace(said, public_key=Keys.made().public).text())
    with pytest.raises(DataError, match="another announcement of east than its own"):
        Shown(tmp_path).send(east.sums, east.keys)


def test_sums_go_to_the_list_that_was_closed_although_another_one_lies_there(tmp_path: Path) -> None:
    """Whoever serves the folder could show the list that people compared, and another one at a second look."""
    east = announced(tmp_path)["east"]
    there = Round(tmp_path)
    closed = there.close(3)
    (tmp_path / "sites.json").unlink()
    listed(tmp_path, ("east", "north"), is_open=True)
    assert there.send(east.sums, east.keys, unmasked=True).round == closed.digest


def test_what_lies_there_in_the_name_of_a_site_is_replaced_by_its_sums(tmp_path: Path) -> None:
    sites = announced(tmp_path)
    (tmp_path / "east.sums.safetensors").write_bytes(b"of somebody else")
    for site in sites.values():
        site.send(tmp_path)
    assert sites["north"].take(tmp_path).shared.rows == 60


def test_other_sums_of_as_many_rows_are_not_sent(tmp_path: Path) -> None:
    """Under the masks of the same round the two files would show how they differ."""
    east = announced(tmp_path)["east"]
    east.send(tmp_path)
    row = rows_at("east").at([0])
    east.sums.remove(row)
    east.sums.add(replace(row, X=row.X[:, ::-1].copy()))
    with pytest.raises(DataError, match="are not those that were announced"):
        east.send(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda words: words.astype(np.float64), "no masked sums"),
        (lambda words: words[None], "no masked sums"),
        (lambda words: words[:-1], "numbers, and others"),
        (lambda words: np.concatenate([words, np.zeros(10_000, np.uint64)]), "has sent more numbers than others"),
    ],
    ids=["floats", "shape", "fewer", "more"],
)
def test_numbers_that_are_no_masked_sums_are_refused(tmp_path: Path, change: Any, told: str) -> None:
    sites = exchanged(tmp_path / "round", "ridge", *SITES)
    rewritten(tmp_path / "round" / "west.sums.safetensors", change)
    with pytest.raises(DataError, match=told):
        sites["east"].take(tmp_path / "round")


def test_sums_with_a_negative_variance_are_refused(tmp_path: Path) -> None:
    """No head of them could be solved: every version would fail until this site leaves."""
    sites = exchanged(tmp_path / "round", "ridge", *SITES)
    there = Round(tmp_path / "round")
    classes = {label for said in there.announced.values() for label in said.classes}
    less = np.int64(1000 * 2 ** there._point(there.announced).bits).view(np.uint64)

    def lie(words: np.ndarray) -> np.ndarray:
        words[len(classes)] -= less  # after the counts come the outer products
        return words

    rewritten(tmp_path / "round" / "west.sums.safetensors", lie)
    with pytest.raises(DataError, match="are no sums of rows"):
        sites["east"].take(tmp_path / "round")
