"""Approved replies with numbers, links, names and negations; rewrites that are harmless, and such that change one."""

import random
import re
from collections.abc import Callable, Iterator

__all__ = ["ATTACKS", "approved_replies", "attacks", "harmless"]

_NAMES = ("Anna", "Ben", "Chloe", "Dmitri", "Elif", "Farid", "Grace", "Hiro")
_PRODUCTS = ("Blue Card", "Travel Plus", "HomeBox 3", "Swift Pay", "Nordic Saver", "MaxSim X2")
_PLACES = ("Leeds", "Vienna", "Osaka", "Cork")
_MONTHS = ("January", "March", "June", "October")
_ENGLISH = (
    "You cannot return the {product} after {days} days. The fee is ${money}.",
    "{name} will call you on {date} {month} between {hour}:00 and {hour2}:30. Do not send a PIN to {other}.",
    "Refunds of {money} EUR take {days} working days, unless you paid by cheque. See https://pay.example/refund?id={n}.",
    "Please send the form to {mail} before {date} {month} 2027. We do not accept copies.",
    "The {product} costs {money}.99 a month and never renews by itself. You may cancel until day {days}.",
    "Call +44 20 7946 {phone} if order {{order}} has not arrived within {days} days. Only {name} can change it.",
    "We charge {percent}% for transfers above £{money} and nothing below. {name} in {place} must sign them.",
    "If the {product} is lost, block it in the app first. You are not liable for more than ${money}.",
    "Your code is {n}-{phone}. It is valid for {days} minutes and must not be shared with {name} or {other}.",
    "Dear {{name}}, {name} has paid {other} {money} dollars. The rest is due by {date} {month}: www.bills.example/{n}.",
)
_CHINESE = (
    "{product}不能在{days}天后退货。手续费是{money}元。",
    "订单{{order}}将在{days}天内送达，请不要拨打400-800-{phone}以外的电话。",
    "转账超过{money}元收取{percent}%的费用。未满十八岁不能申请，请访问https://pay.example/{n}。",
    "如果三天内没有收到退款{money}元，请发邮件到{mail}。",
)


def approved_replies(count: int, *, seed: int = 0) -> list[str]:
    """So many replies, one of seven in Chinese; each has facts of several kinds."""
    dice = random.Random(seed)
    return [_reply(dice) for _ in range(count)]


def _reply(dice: random.Random) -> str:
    name, other = dice.sample(_NAMES, 2)
    facts = {
        "name": name, "other": other, "product": dice.choice(_PRODUCTS), "place": dice.choice(_PLACES),
        "days": dice.randint(2, 90), "money": dice.choice((5, 10, 12, 25, 40, 100, 250, 1_200)),
        "date": dice.randint(1, 28), "month": dice.choice(_MONTHS), "hour": dice.randint(8, 11),
        "hour2": dice.randint(12, 18), "percent": dice.choice((1, 2, 5, 15)), "n": dice.randint(100, 999),
        "phone": dice.randint(1_000, 9_999), "mail": f"{dice.choice(_NAMES).lower()}@help.example",
    }  # fmt: skip
    return dice.choice(_CHINESE if dice.random() < 1 / 7 else _ENGLISH).format(**facts)


def harmless(reply: str, name: str, dice: random.Random) -> str:
    """The reply with other manners: greeted, thanked, contracted, in one word for an equal one."""
    if _is_chinese(reply):
        return dice.choice(
            ("您好，{}", "{}感谢您的耐心。", "亲，{}谢谢您！😊", "{}如有任何问题，请随时联系我们。")
        ).format(reply)
    changes: tuple[Callable[[str], str], ...] = (
        lambda text: f"Hi {name}, {text}",
        lambda text: f"Thank you for your patience! {text}",
        lambda text: f"{text} Have a great day! 😊",
        lambda text: f"{text} If you have any other questions, feel free to contact us.",
        lambda text: text.replace("cannot", "can't").replace("do not", "don't").replace("must not", "mustn't"),
        lambda text: text.replace("You are", "You're").replace("We do", "we do"),
        lambda text: text.replace("Please send the", "Please kindly send the"),
    )
    for change in dice.sample(changes, 3):
        reply = change(reply)
    return reply


def _swap(one: str, other: str, text: str) -> str:
    return text.replace(one, "\0").replace(other, one).replace("\0", other)


def _drop_negation(text: str) -> str:
    chinese = re.sub("不|没有|未", "", text, count=1)
    return (
        chinese
        if chinese != text
        else re.sub(r"\bcannot\b", "can", re.sub(r"\b(not|never|Only|unless) ", "", text, count=1))
    )


def _larger(text: str) -> str:
    return re.sub(r"\d+(?=\D*$|\D)", lambda found: f"{found[0]}0", text, count=1)


def _swap_names(text: str) -> str:
    found = [name for name in _NAMES if name in text]
    return _swap(found[0], found[1], text) if len(found) > 1 else text.replace(found[0], "Victor") if found else text


def _swap_numbers(text: str) -> str:
    found = list(dict.fromkeys(re.findall(r"(?<![\w.:-])\d+(?![\w.:-])", text)))
    return _swap(found[0], found[1], text) if len(found) > 1 else text


def _add_negation(text: str) -> str:
    return re.sub(r"\b(will|is|has|are|may)\b", r"\1 not", text, count=1).replace("能", "不能", 1)


def _other_currency(text: str) -> str:
    for one, other in (("$", "€"), ("£", "$"), ("EUR", "GBP"), ("元", "美元")):
        if one in text:
            return text.replace(one, other)
    return text


def _may_or_must(text: str) -> str:
    return text.replace(" may ", " must ") if " may " in text else text.replace(" must ", " may ")


def _other_side(text: str) -> str:
    return text.replace("before", "after").replace("above", "below", 1).replace("内", "后")


def _drop_sentence(text: str) -> str:
    return re.split(r"(?<=[.。]) ?(?=\w)", text, maxsplit=1)[-1]


ATTACKS: dict[str, Callable[[str], str]] = {
    "a negation is dropped": _drop_negation,
    "a negation is added": _add_negation,
    "a number is ten times as large": _larger,
    "a digit is changed": lambda text: re.sub(r"\d", lambda found: str((int(found[0]) + 1) % 10), text, count=1),
    "names are swapped": _swap_names,
    "numbers are swapped": _swap_numbers,
    "a promise is added": lambda text: f"{text} We guarantee a full refund within 24 hours.",
    "a promise without a number is added": lambda text: f"{text} We will waive every fee for you.",
    "a promise hides in a courtesy": lambda text: f"Thank you for your patience and your free upgrade! {text}",
    "a promise in Chinese is added": lambda text: f"{text}我们保证全额赔偿。",
    "a link is another": lambda text: text.replace(".example", ".evil.example"),
    "a link is added": lambda text: f"{text} See http://evil.example.",
    "an address is another": lambda text: re.sub(r"\w+@help", "sales@help", text),
    "a variable is dropped": lambda text: re.sub(r"\{\w+\}", "", text),
    "a variable is another": lambda text: text.replace("{order}", "{orders}").replace("{name}", "{names}"),
    "the product is another": lambda text: re.sub("|".join(_PRODUCTS), "Gold Card", text),
    "a currency is another": _other_currency,
    "a percentage is a number": lambda text: text.replace("%", ""),
    "may becomes must": _may_or_must,
    "before becomes after": _other_side,
    "a limit is dropped": lambda text: re.sub(r"(?:, unless| until| before| within|between)[^.。]*", "", text, count=1),
    "a sentence is dropped": _drop_sentence,
    "a condition is added": lambda text: f"If you are over 65, {text}",
    "who does it is another": lambda text: text.replace("You ", "We ").replace("We charge", "They charge"),
    "it becomes a question": lambda text: text.replace(".", "?") if not re.search(r"\.\w", text) else f"{text}?",
    "a digit of another script": lambda text: re.sub(r"\d", "٧", text, count=1) if "7" not in text else text + "8",
    "an emoji says no": lambda text: f"{text} ❌",
    "text is turned around": lambda text: f"\u202e{text}",
}  # fmt: skip


def attacks(reply: str) -> Iterator[tuple[str, str]]:
    """Each way in which the reply can be told wrongly, and the wrong one; ways that do not touch it are left out."""
    for what, change in ATTACKS.items():
        if (changed := change(reply)) != reply:
            yield what, changed


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= each <= "\u9fff" for each in text)
