"""A rewrite is let through only where it says what the approved reply says: tried on a thousand of them."""

import random
import time
from collections import Counter

import pytest

from benchmarks.generation_data import ATTACKS, approved_replies, attacks, harmless
from perennial.continual.tasks.generation import check_rewrite
from perennial.continual.tasks.generation.meaning import Kind, meaning

REPLIES = approved_replies(1_000)


def test_no_changed_fact_is_let_through_in_a_thousand_replies() -> None:
    tried, through, dice = Counter[str](), list[tuple[str, str, str]](), random.Random(2)
    for reply in REPLIES:
        ways = list(attacks(reply))
        for what, changed in dice.sample(ways, min(8, len(ways))):
            tried[what] += 1
            if check_rewrite(reply, changed, name="Maria").let_through:
                through.append((what, reply, changed))
    assert through == []
    assert set(tried) == set(ATTACKS)
    assert min(tried.values()) > 20


def test_nearly_all_harmless_rewrites_are_let_through() -> None:
    dice = random.Random(1)
    verdicts = [check_rewrite(reply, harmless(reply, "Maria", dice), name="Maria") for reply in REPLIES]
    assert sum(verdict.let_through for verdict in verdicts) > 950


def test_a_reply_says_what_itself_says() -> None:
    assert all(check_rewrite(reply, reply).let_through for reply in REPLIES)


@pytest.mark.parametrize(
    ("approved", "rewritten"),
    [
        ("You cannot pay by card.", "You can't pay by card!"),
        ("It takes 5 days.", "It takes five days."),
        ("It takes 1,000 days.", "It takes 1000 days."),
        ("It costs 10%.", "It costs 10 percent."),
        ("The limit is 5GB.", "The limit is 5 GB."),
        ("Send the form to help@a.example.", "Could you please send the form to help@a.example?"),
        ("You need to sign it.", "You have to sign it."),
        ("退款需要三天。", "您好，退款需要3天哦。谢谢您！"),
        ("You can pay.", "Maria, you can pay."),
        ("It costs $5. A card is free.", "Hi Maria, It costs $5. A card is free."),
        ("Will it arrive? It may.", "Dear Maria, Will it arrive? It may."),
        ("折扣是百分之十。", "折扣是10%。"),
        ("Die Karte kostet nicht 5 €.", "Hello! Die Karte kostet nicht 5 €. 😊"),
        ("Ваша карта не готова.", "Ваша карта не готова! 🙏"),
        ("Open the app.", "Please open the app."),
        ("Your card is here: https://a.example.", "Hi Maria, your card is here: https://a.example. Have a nice day!"),
    ],
)
def test_a_rewrite_that_says_the_same_is_let_through(approved: str, rewritten: str) -> None:
    verdict = check_rewrite(approved, rewritten, name="Maria")
    assert verdict.let_through, verdict.why


@pytest.mark.parametrize(
    ("approved", "rewritten", "why"),
    [
        ("You can pay.", "You can not pay.", "negation 'not' is new"),
        ("We do not charge fees and refund orders.", "We charge fees and do not refund orders.", "another place"),
        ("Anna sends it to Ben.", "Ben sends it to Anna.", "another place"),
        ("Anna paid Ben.", "Anna was paid by Ben.", "word 'was' is new"),
        ("We send your money to our bank.", "We send our money to your bank.", "another place"),
        ("Pay $10 in 20 days.", "Pay $20 in 10 days.", "another place"),
        ("Delivery is free and returns cost $5.", "Returns are free and delivery costs $5.", "is missing"),
        ("It works in May.", "It may work.", "is missing"),
        ("It works in the US.", "It works with us.", "is missing"),
        ("Ask Will.", "Will asks.", "is missing"),
        ("Choose Plan A.", "Choose Plan.", "name 'A' is missing"),
        ("We accept just cash.", "We accept cash.", "negation 'just' is missing"),
        ("Turn it on.", "Turn it off.", "'on' is missing"),
        ("You have paid.", "You are paid.", "'have' is missing"),
        ("Die Karte kostet nicht 5 €.", "Die Karte kostet 5 €.", "word 'nicht' is missing"),
        ("Ваша карта не готова.", "Ваша карта готова.", "word 'не' is missing"),
        ("订单不收费。", "订单收费。", "negation '不' is missing"),
        ("两天内退款。", "十二天内退款。", "number '2' is missing"),
        ("It is valid.", "It is not\u200bvalid.", "invisible"),
        ("Press 1️⃣ for help.", "Press 2️⃣ for help.", "number '1' is missing"),
        ("It costs ½ pound.", "It costs 2 pounds.", "is missing"),
        ("See v2.1.", "See v2.10.", "is missing"),
        ("We meet Anna.", "Hi Maria. We meet Maria.", "'anna' is missing"),
        ("We are open.", "We are open. Maria is happy.", "'maria' is new"),
        ("Who pays?", "Who pays? Maria.", "'maria' is new"),
        ("You can pay.", "You cаn pay.", "is missing"),  # a Cyrillic letter
        ("Send it to the account.", "Send it to your account.", "'your' is new"),
        ("We have just paid.", "We have only paid.", "'just' is missing"),
        ("Hello Kitty costs $5.", "Hi Kitty costs $5.", "'hello' is missing"),
        ("It is –5 °C.", "It is 5 °C.", "'-5' is missing"),
        ("It takes ~5 days.", "It takes 5 days.", "'~' is missing"),
        ("You cannot return it.", "Of course! You cannot return it.", "'course' is new"),
        ("No refunds are possible.", "No, refunds are possible.", "break ',' is new"),
        ("Do not return it. After 5 days we pay.", "Do not return it after 5 days. We pay.", "another place"),
        ("We are open Monday – Friday.", "We are open Monday, Friday.", "break '-' is missing"),
        ("We are open Monday-Friday.", "We are open Monday Friday.", "break '-' is missing"),
        ("Your balance is -$5.", "Your balance is $5.", "'minus' is missing"),
        ("It is -5C.", "It is 5C.", "'-5' is missing"),
        ("The fee is .5%.", "The fee is 5%.", "'.5' is missing"),
        ("It costs one hundred dollars.", "It costs 1 100 dollars.", "'hundred' is missing"),
        ("It holds 10² parts.", "It holds 102 parts.", "'102' is new"),
        ("It takes 1½ hours.", "It takes 11⁄2 hours.", "'11' is new"),
        ("It uses 5 mW.", "It uses 5 MW.", "'MW' is new"),
        ("It costs 5M.", "It costs 5m.", "'M' is missing"),
        ("The cable is 5' long.", 'The cable is 5" long.', "is missing"),
        ("If it is too large, return it.", "If it is large, return it.", "'too' is missing"),
        ("Trinken Sie in Maßen.", "Trinken Sie in Massen.", "'maßen' is missing"),
        ("三五天内退款。", "35天内退款。", "number '35' is new"),
        ("手续费一二百元。", "手续费200元。", "number '200' is new"),
        ("手续费一百二元。", "手续费102元。", "number '102' is new"),
        ("亲友可以使用。", "友可以使用。", "'亲' is missing"),
        ("送您两块电池。", "送您两元电池。", "is missing"),
        ("You can pay.", "", "it is empty"),
        ("You can pay.", "You can pay. " + "Thank you! " * 200, "characters where the approved reply has 12"),
    ],
)
def test_a_rewrite_that_says_something_else_is_refused(approved: str, rewritten: str, why: str) -> None:
    verdict = check_rewrite(approved, rewritten, name="Maria")
    assert not verdict.let_through
    assert why in verdict.why


@pytest.mark.parametrize("name", ["Your refund is approved", "not", "50 dollars", "a.example/x", "您的退款已经批准了"])
def test_nobody_is_greeted_by_a_name_that_says_something(name: str) -> None:
    assert not check_rewrite("You can pay.", f"Hi {name}, you can pay.", name=name).let_through


@pytest.mark.parametrize("name", ["Jo", "Will", "Ana María Ruiz", "李雷", "O'Neil", "{name}"])
def test_whoever_has_a_name_is_greeted(name: str) -> None:
    assert check_rewrite("You can pay.", f"Hi {name}, you can pay.", name=name).let_through


@pytest.mark.parametrize(("begins", "piece"), [("", "a+"), ("", "_"), ("", "can you please "), ("百分之", "一")])
def test_a_hostile_text_is_read_in_a_moment(begins: str, piece: str) -> None:
    text, started = begins + piece * (20_000 // len(piece)), time.process_time()
    assert check_rewrite(text, text).let_through
    assert time.process_time() - started < 5


def test_every_kind_of_fact_is_told_by_its_name() -> None:
    said = meaning("Do not pay Anna {sum} at https://a.example or a@b.example until 5 € is there.")
    kinds = {one.kind for one in said}
    assert kinds == set(Kind) - {Kind.BREAK}


@pytest.mark.parametrize("emoji", ["👨‍👩‍👧", "🏳️‍🌈", "❌", "🆓", "💯", "1️⃣"])
def test_an_emoji_that_says_something_is_a_fact(emoji: str) -> None:
    assert check_rewrite(f"Fine {emoji}.", f"Fine {emoji}!").let_through
    assert not check_rewrite(f"Fine {emoji}.", "Fine.").let_through
    assert not check_rewrite("Fine.", f"Fine {emoji}.").let_through
