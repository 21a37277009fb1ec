"""Labels that come are noticed at once, and those that keep coming are not looked at all the time."""

from dataclasses import dataclass

import pytest

from perennial.ops.watching.new_labels import NewLabels


@dataclass
class World:
    """A ledger that counts labels, and a clock."""

    labels: int = 100
    now: float = 0.0
    asked: int = 0

    def labels_in(self, model: str) -> int:
        assert model == "intent"
        self.asked += 1
        return self.labels

    def new_labels(self) -> NewLabels:
        return NewLabels(self, "intent", every_s=0.2, clock=lambda: self.now)

    def later(self, seconds: float, *, labels: int = 0) -> None:
        self.now += seconds
        self.labels += labels


def test_labels_are_news_until_they_were_looked_at() -> None:
    world = World()
    news = world.new_labels()
    assert not news.came(), "what was there before is left to the clock"
    world.later(1, labels=1)
    assert news.came()
    with news.looked_at():
        world.later(0.01)
    world.later(1)
    assert not news.came()
    world.later(1, labels=1)
    assert news.came()


def test_a_label_that_comes_during_a_look_is_news_and_one_that_is_given_up_is_none() -> None:
    world = World()
    news = world.new_labels()
    with news.looked_at():
        world.later(0.01, labels=1)
    world.later(1)
    assert news.came()
    with news.looked_at():
        world.later(0.01, labels=-5)
    world.later(1)
    assert not news.came()
    world.later(1, labels=1)
    assert news.came(), "although there are fewer than before"


def test_the_count_is_read_no_oftener_than_said() -> None:
    world = World()
    news = world.new_labels()
    for _ in range(10):
        news.came()
        world.later(0.1)
    assert world.asked == 5


def test_labels_that_this_process_has_kept_are_counted_at_once() -> None:
    world = World()
    news = world.new_labels()
    assert not news.came()
    world.later(0.01, labels=1)
    assert not news.came(), "the count is as old as that"
    assert news.delivered()
    assert not news.delivered(), "it is told already, and one look counts both"
    assert news.came()
    assert news.delivered()


def test_labels_that_keep_coming_disturb_no_rest() -> None:
    world = World()
    news = world.new_labels()
    with news.looked_at():
        world.later(1.0)
    world.later(0.1, labels=1)
    assert not news.delivered()
    assert not news.came()
    world.later(9.0)
    assert news.delivered()
    assert news.came()


@pytest.mark.parametrize(("took_s", "rests_s"), [(0.01, 0.5), (1.0, 9.0)])
def test_looks_take_a_tenth_of_the_time_at_most_while_labels_keep_coming(took_s: float, rests_s: float) -> None:
    world = World()
    news = world.new_labels()
    news.came()
    with news.looked_at():
        world.later(took_s, labels=1)
    world.later(rests_s - 0.01, labels=1)
    assert not news.came()
    world.later(0.02)
    assert news.came()


def test_a_look_that_fails_is_repeated_after_its_rest() -> None:
    world = World()
    news = world.new_labels()
    news.came()
    world.later(1, labels=1)

    def look() -> None:
        with news.looked_at():
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    world.later(9)
    assert not news.came(), "its message would fill the log"
    world.later(2)
    assert news.came()
