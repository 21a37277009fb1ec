"""How a decoder is asked for a rewrite, and what its learner may be told."""

import pytest

from perennial.continual.errors import ConfigurationError
from perennial.continual.learning.generation import Prompt
from perennial.continual.learning.generation.training import RewriterSettings
from perennial.continual.tasks.generation import Rewrite

PLACE = "\u2983reply\u2984"


def test_no_text_stands_where_another_belongs() -> None:
    asked = Prompt.of(None, ends=(2,)).ask(Rewrite(approved="It costs $5.", tone=PLACE, name=PLACE))
    assert asked.count("It costs $5.") == 1
    assert asked.count(PLACE) == 2


@pytest.mark.parametrize(
    "params", [{"rank": "8"}, {"rank": True}, {"epochs": 1.5}, {"guided": "no"}, {"decoder": 5}, {"rate": None}]
)
def test_a_setting_of_the_wrong_kind_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(params))} is .*; it must be "):
        RewriterSettings.of(params)
