"""Texts of all the world, and what is kept of each; every entrance takes them."""

TEXTS = {
    "my\0 card": "my card",
    "👩\u200d💻 and 🏳️\u200d🌈": "👩\u200d💻 and 🏳️\u200d🌈",
    "我的卡丢了": "我的卡丢了",
    "بطاقتي\u200f مفقودة": "بطاقتي مفقودة",
    "می\u200cخواهم": "می\u200cخواهم",
    "क्\u200dष में": "क्\u200dष में",
    "cafe\u0301": "café",
    "\x1b[31mred\x1b[0m": "[31mred[0m",
    "a\ufffe\U0010ffff": "a\ufffe\U0010ffff",
    "'; DROP TABLE example; --": "'; DROP TABLE example; --",
    "%s {0} \\ \\x00 \\u0000": "%s {0} \\ \\x00 \\u0000",
    "x" * 99_999: "x" * 99_999,
    "mail jo@example.org, card 4111 1111 1111 1111": "mail [email], card [card]",
}
