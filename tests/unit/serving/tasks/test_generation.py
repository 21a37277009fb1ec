"""What the log keeps of a rewrite, and of whom it does not speak."""

from perennial.continual.tasks.generation import Generation, Rewrite
from perennial.ops.serving.tasks.generation import SIDE, told


def test_no_reason_in_the_log_names_who_was_to_be_greeted() -> None:
    asked = Rewrite(approved="We meet Anna.", name="Maria Ruiz")
    answer = told(asked, "We meet MARIA.", 5)
    assert "'maria' is new" in answer.why
    (kept,) = SIDE.columns([asked], [answer])["why"]
    assert "maria" not in kept
    assert "'{name}' is new" in kept


def test_a_reply_with_the_name_filled_in_is_kept_without_it() -> None:
    asked = Rewrite(approved="Dear Jo, your card is ready.", name="Jo")
    kept = SIDE.columns([asked], [told(asked, asked.approved, 5)])
    assert kept["approved"] == kept["prediction"] == ["Dear {name}, your card is ready."]
    assert Generation().redact(asked)[0].approved == "Dear {name}, your card is ready."
