"""Sites that exchange sums: what they have together is what one that had all rows would have, and files are checked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perennial.continual.errors import DataError, NotFound, Refused
from perennial.continual.federation.announcement import announcement_of
from perennial.continual.federation.masking import FixedPoint, Keys, masked, unmasked
from perennial.continual.federation.others import Others, features_of
from perennial.continual.federation.round import Round
from perennial.continual.federation.vectors import from_vector, to_vector
from perennial.continual.learning.anchored_sums import AnchoredSums
from perennial.continual.learning.class_sums import ClassRows
from perennial.continual.learning.fourier import FourierFeatures
from perennial.continual.learning.kernel_lda import Discriminant, KernelLda
from perennial.continual.learning.lexical import LexicalFeatures
from perennial.continual.learning.normal_equations import Penalty
from perennial.continual.learning.ranking import ItemGram
from perennial.continual.learning.ridge import Ridge
from perennial.continual.learning.sums import SumsFile
from tests.contract.test_sums import histories

SITES = ("east", "north", "west")
ROWS, SHARE = 90, 30
FORMS: dict[str, tuple[Callable[[int], AnchoredSums], Any]] = {
    "kernel_lda": (lambda seed: KernelLda(_fourier(seed)), Discriminant(shrinkage=1e-2)),
    "ridge": (lambda seed: Ridge(_fourier(seed), LexicalFeatures.of_size(40)), Penalty()),
    "sketches": (lambda seed: Ridge(_fourier(seed), LexicalFeatures.of_size(40, 2)), Penalty()),
}


def _fourier(seed: int) -> FourierFeatures:
    return FourierFeatures.make(dimension=6, features=20, gamma=0.5, seed=seed)


def rows_at(site: str) -> ClassRows:
    """A third of ninety rows of five classes, of which one is at this site alone, and one is not."""
    number = SITES.index(site)
    rng = np.random.default_rng(number)
    X = rng.standard_normal((SHARE, 6))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    kinds = [f"only {site}" if row % 5 == 0 else f"class {(row + number) % 3}" for row in range(SHARE)]
    keys = [1000 * number + row for row in range(SHARE)]
    return ClassRows(X=X, labels=kinds, keys=keys, texts=[f"{kind} at {site}" for kind in kinds])


def learnt(form: str, *sites: str) -> AnchoredSums:
    sums = FORMS[form][0](0)
    for site in sites:
        sums.add(rows_at(site))
    return sums


@dataclass(frozen=True, kw_only=True)
class Site:
    """One that takes part in a round."""

    name: str
    sums: AnchoredSums
    keys: Keys

    @classmethod
    def of(cls, form: str, name: str) -> "Site":
        return cls(name=name, sums=learnt(form, name), keys=Keys.made())

    @property
    def features(self) -> dict[str, str]:
        return features_of(self.sums, encoder="sha256:0", max_length=128)

    def announce(self, folder: Path) -> None:
        Round(folder).announce(announcement_of(self.sums, self.name, self.keys, self.features))

    def send(self, folder: Path, **how: Any) -> Any:
        return Round(folder).send(self.sums, self.keys, **how)

    def take(self, folder: Path) -> Others:
        return Round(folder).take(self.sums, self.keys)

    def whole(self, folder: Path) -> AnchoredSums:
        return self.take(folder).joined(self.sums)


def exchanged(folder: Path, form: str, *names: str) -> dict[str, Site]:
    """A round in which all have sent."""
    folder.mkdir()
    sites = {name: Site.of(form, name) for name in names}
    for site in sites.values():
        site.announce(folder)
    for site in sites.values():
        site.send(folder, unmasked=len(names) < 3)
    return sites


def assert_alike(form: str, whole: AnchoredSums, central: AnchoredSums) -> None:
    """Counts alike; sums and scores nearer than 1e-9."""
    assert whole.counts == central.counts
    for name, array in whole.named.sorted().items():
        np.testing.assert_allclose(array, central.named.sorted()[name], rtol=0, atol=1e-9, err_msg=name)
    scores = [_scores(form, sums) for sums in (whole, central)]
    np.testing.assert_allclose(*scores, rtol=0, atol=1e-9)


def _scores(form: str, sums: AnchoredSums) -> np.ndarray:
    """In float64: what is solved, before a head is written in float32."""
    if isinstance(sums, Ridge):
        return np.concatenate([part.solved(FORMS[form][1]).weight for part in sums.equations()], axis=1)
    named = sums.named.sorted()
    means = named["sums"] / named["counts"][:, None]
    scatter = named["outer"] - (means * named["counts"][:, None]).T @ means
    scatter = scatter / sums.rows + 1e-2 * np.eye(len(scatter))
    found: np.ndarray = np.linalg.solve(scatter, means.T)
    return found


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("form", FORMS)
def test_sites_that_join_and_leave_in_any_order_have_what_one_with_all_rows_has(
    tmp_path: Path, form: str, order: int
) -> None:
    first, second, third = list(permutations(SITES))[order]
    sites = exchanged(tmp_path / "two", form, first, second)
    assert_alike(form, sites[first].whole(tmp_path / "two"), learnt(form, first, second))
    sites = exchanged(tmp_path / "three", form, first, second, third)
    for site in sites.values():
        assert_alike(form, site.whole(tmp_path / "three"), learnt(form, *SITES))
    sites = exchanged(tmp_path / "without", form, second, third)  # the first has left: the next round lacks it
    assert_alike(form, sites[third].whole(tmp_path / "without"), learnt(form, second, third))


def test_rows_come_and_go_at_a_site_beside_the_sums_of_others(tmp_path: Path) -> None:
    sites = exchanged(tmp_path / "round", "ridge", *SITES)
    own, others = sites["east"].sums, sites["east"].take(tmp_path / "round")
    own.remove(rows_at("east").at(range(10)))
    central = learnt("ridge", *SITES)
    central.remove(rows_at("east").at(range(10)))
    whole = others.joined(own)
    assert_alike("ridge", whole, central)
    assert whole.known_keys == own.known_keys


def test_a_class_that_only_others_have_is_answered_with(tmp_path: Path) -> None:
    sites = exchanged(tmp_path / "round", "kernel_lda", *SITES)
    head = sites["east"].whole(tmp_path / "round").solve(FORMS["kernel_lda"][1])
    assert {"only east", "only north", "only west"} <= set(head.labels)


def test_sums_of_others_come_back_from_their_file(tmp_path: Path) -> None:
    site = exchanged(tmp_path / "round", "sketches", *SITES)["north"]
    others = site.take(tmp_path / "round")
    others.write(tmp_path / "others.safetensors")
    again = Others.read(tmp_path / "others.safetensors")
    assert again.shared == others.shared
    assert again.shared.sites == ("east", "west")
    assert again.sums.known_keys == set()
    for name, array in again.sums.named.arrays.items():
        np.testing.assert_array_equal(array, others.sums.named.arrays[name])


def test_a_file_of_own_sums_is_no_file_of_others(tmp_path: Path) -> None:
    learnt("ridge", "east").save(tmp_path / "own.safetensors")
    with pytest.raises(DataError, match="holds no sums of other sites"):
        Others.read(tmp_path / "own.safetensors")


def test_sums_of_others_over_other_features_are_refused_by_name(tmp_path: Path) -> None:
    site = exchanged(tmp_path / "round", "ridge", *SITES)["north"]
    others = site.take(tmp_path / "round")
    others.check_fit(site.sums, encoder="sha256:0", max_length=128)
    with pytest.raises(DataError, match="encoder 'sha256:0' and here 'sha256:1'"):
        others.check_fit(site.sums, encoder="sha256:1", max_length=128)


def test_what_a_site_sends_says_nothing_without_the_keys(tmp_path: Path) -> None:
    """Every bit of a masked number is as often set as not, and its sums are nowhere in it."""
    sites = exchanged(tmp_path / "round", "ridge", *SITES)
    words = Round(tmp_path / "round")._words("east", Round(tmp_path / "round").closed)  # type: ignore[arg-type]
    bits = np.unpackbits(words.view(np.uint8))
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(bits))
    plain = FixedPoint(largest=3 * 64.0, sites=3).encoded(sites["east"].sums.named.arrays["outer"].ravel())
    assert not set(words.tolist()) & set(plain.tolist()) - {0}


def test_sending_is_repeated_without_a_change(tmp_path: Path) -> None:
    sites = exchanged(tmp_path / "round", "ridge", *SITES)
    before = {path.name: path.read_bytes() for path in (tmp_path / "round").iterdir()}
    sites["east"].announce(tmp_path / "round")
    sent = sites["east"].send(tmp_path / "round")
    assert (sent.sites, sent.masked) == (SITES, True)
    (tmp_path / "round" / "east.sums.safetensors").unlink()  # as if it had been interrupted
    sites["east"].send(tmp_path / "round")
    assert {path.name: path.read_bytes() for path in (tmp_path / "round").iterdir()} == before


def test_fewer_than_three_sites_agree_that_their_sums_are_read(tmp_path: Path) -> None:
    east, north = Site.of("ridge", "east"), Site.of("ridge", "north")
    east.announce(tmp_path)
    with pytest.raises(Refused, match="1 sites have announced"):
        east.send(tmp_path, unmasked=True)
    north.announce(tmp_path)
    with pytest.raises(Refused, match=r"fewer than 3 .* --open"):
        east.send(tmp_path)
    assert east.send(tmp_path, unmasked=True).masked is False
    with pytest.raises(Refused, match="agree to that by --open"):
        north.send(tmp_path)
    with pytest.raises(Refused, match="north have not sent"):
        east.take(tmp_path)


def test_sites_that_are_expected_are_waited_for(tmp_path: Path) -> None:
    for name in SITES[:2]:
        Site.of("ridge", name).announce(tmp_path)
    last = Site.of("ridge", SITES[2])
    with pytest.raises(NotFound, match="has not announced itself"):
        last.send(tmp_path)
    last.announce(tmp_path)
    with pytest.raises(Refused, match=r"3 sites have announced themselves .* not 4"):
        last.send(tmp_path, sites=4)
    last.send(tmp_path, sites=3)
    with pytest.raises(Refused, match="is closed with east, north, west"):
        Round(tmp_path).announce(replace(Round(tmp_path).announced["east"], site="south", public_key="0f" * 32))


def test_a_site_is_there_once(tmp_path: Path) -> None:
    Site.of("ridge", "east").announce(tmp_path)
    with pytest.raises(Refused, match="choose another name"):
        Site.of("ridge", "east").announce(tmp_path)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (Site(name="north", sums=FORMS["ridge"][0](1), keys=Keys.made()), "features of an embedding"),
        (Site(name="north", sums=FORMS["kernel_lda"][0](0), keys=Keys.made()), "closed form is 'ridge' at east"),
        (Site(name="north", sums=FORMS["sketches"][0](0), keys=Keys.made()), "columns of words"),
    ],
    ids=["seed", "form", "words"],
)
def test_sites_with_other_features_are_told_what_differs(tmp_path: Path, other: Site, told: str) -> None:
    Site.of("ridge", "east").announce(tmp_path)
    other.sums.add(rows_at("north"))
    with pytest.raises(DataError, match=told):
        other.announce(tmp_path)
    assert list(Round(tmp_path).announced) == ["east"]


def _torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def _bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _of_another_round(path: Path) -> None:
    other = path.parent.parent / "another"
    exchanged(other, "ridge", *SITES)
    path.write_bytes((other / path.name).read_bytes())


def _rows(path: Path) -> None:
    path.write_text(path.read_text().replace(f'"rows": {SHARE}', f'"rows": {SHARE + 1}'))


def _no_json(path: Path) -> None:
    path.write_text("{")


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("west.sums.safetensors", _torn, "cannot be read"),
        ("west.sums.safetensors", _bit, "is damaged"),
        ("west.sums.safetensors", _of_another_round, "is of another round"),
        ("west.site.json", _rows, "is not what it was when the round was closed"),
        ("west.site.json", _no_json, "cannot be used"),
        ("sites.json", _no_json, "begin a new round"),
    ],
)
def test_a_file_that_changed_is_found(tmp_path: Path, name: str, change: Callable[[Path], None], told: str) -> None:
    sites = exchanged(tmp_path / "round", "ridge", *SITES)
    change(tmp_path / "round" / name)
    with pytest.raises(DataError, match=told):
        sites["east"].take(tmp_path / "round")


def test_sums_that_are_not_those_announced_are_not_sent(tmp_path: Path) -> None:
    sites = [Site.of("ridge", name) for name in SITES]
    for site in sites:
        site.announce(tmp_path)
    sites[0].sums.remove(rows_at("east").at([0]))
    with pytest.raises(DataError, match="29 rows, and 30 were announced"):
        sites[0].send(tmp_path)


def test_masks_that_do_not_cancel_are_noticed(tmp_path: Path) -> None:
    """A site whose file was masked by a key that nobody was told of."""
    sites = exchanged(tmp_path / "round", "ridge", *SITES)
    file = SumsFile.read(path := tmp_path / "round" / "west.sums.safetensors")
    peers = {name: site.keys.public for name, site in sites.items() if name != "west"}
    words = masked(file.tensors["words"], "west", Keys.made(), peers, b"round")
    about = {**file.about, "sha256": sha256(words.tobytes()).hexdigest()}
    SumsFile(format=file.format, tensors={"words": words}, about=about).write(path)
    with pytest.raises(DataError, match="are no sums of rows"):
        sites["east"].take(tmp_path / "round")


def test_masks_of_three_cancel_and_one_taken_off_is_what_it_was() -> None:
    keys = {site: Keys.made() for site in SITES}
    words = {site: np.random.default_rng(place).integers(0, 2**64, 1000, np.uint64) for place, site in enumerate(SITES)}
    public = {site: own.public for site, own in keys.items()}
    hidden = {}
    for site in SITES:
        peers = {name: key for name, key in public.items() if name != site}
        hidden[site] = masked(words[site], site, keys[site], peers, b"round")
        assert (hidden[site] != words[site]).mean() > 0.99
        np.testing.assert_array_equal(unmasked(hidden[site], site, keys[site], peers, b"round"), words[site])
    np.testing.assert_array_equal(sum(hidden.values()), sum(words.values()))


def test_the_sums_of_a_ranking_are_a_vector_too() -> None:
    """Item-item sums of two shops, added as numbers, are those of one shop with all users."""
    shops = [ItemGram(nearness=0.5) for _ in range(2)]
    shops[0].add(histories(range(30)))
    shops[1].add(histories(range(30, 60)))
    whole = ItemGram(nearness=0.5)
    whole.add(histories(range(60)))
    layout = whole.named.layout
    entries: Mapping[str, list[str]] = {
        axis: sorted({*shops[0].named.entries(axis), *shops[1].named.entries(axis)})
        for axis in {axis for axes in layout.values() for axis in axes if isinstance(axis, str)}
    }
    point = FixedPoint(largest=100.0, sites=2)
    total = sum(point.encoded(to_vector(shop.named, entries)) for shop in shops)
    together = from_vector(point.decoded(total), layout, entries)  # type: ignore[arg-type]
    for name, array in whole.named.sorted().items():
        np.testing.assert_allclose(together.sorted()[name], array, rtol=0, atol=1e-9)


def test_a_damaged_announcement_names_its_file(tmp_path: Path) -> None:
    Site.of("ridge", "east").announce(tmp_path)
    path = tmp_path / "east.site.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "site": "west"}))
    with pytest.raises(DataError, match="names the site 'west'"):
        _ = Round(tmp_path).announced
