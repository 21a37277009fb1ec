"""Words by which a reply may change and say the same: courtesies, words that carry nothing, and equal pairs.

Whatever is not listed here carries meaning, in any language. So a gap in these tables refuses a good rewrite and lets
no bad one through.
"""

from collections.abc import Mapping

__all__ = [
    "CONTRACTIONS",
    "COURTESIES",
    "EQUAL_PHRASES",
    "EQUAL_WORDS",
    "FRIENDLY",
    "GREETINGS",
    "HAN_DIGITS",
    "HAN_EMPTY",
    "HAN_EQUAL",
    "HAN_TENS",
    "HAN_UNITS",
    "MODAL",
    "NEGATIVE",
    "NUMBER_WORDS",
    "POLITE",
    "SAYS_NOTHING",
]  # fmt: skip

SAYS_NOTHING = frozenset({
    "a", "an", "the", "and", "also", "so", "then", "well", "very", "really",
    "please", "kindly", "simply", "do", "does", "gladly", "happily",
})  # fmt: skip
EQUAL_WORDS: Mapping[str, str] = {
    "am": "be", "is": "be", "are": "be", "i": "we", "me": "us", "purchase": "buy", "receive": "get", "assist": "help",
    "inform": "tell", "choose": "select", "begin": "start", "till": "until", "might": "may",
    "percent": "%", "shortly": "soon", "however": "but", "telephone": "phone",
    "thanks": "thank",
}  # fmt: skip
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = (
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
NUMBER_WORDS: Mapping[str, str] = {
    **{word: str(value) for value, word in enumerate(_ONES)},
    **{word: str(10 * value) for value, word in enumerate(_TENS, start=2)},
}  # fmt: skip
NEGATIVE = frozenset({
    "not", "no", "never", "none", "nothing", "nobody", "neither", "nor", "without", "unless", "except", "only", "just",
    "refuse", "refused", "stop", "不", "没", "无", "未", "别", "勿", "非", "只", "仅", "除",
})  # fmt: skip
MODAL = frozenset({
    "can", "could", "may", "must", "should", "shall", "will", "would", "if", "until", "before", "after", "when",
    "while", "or", "but", "能", "可", "必", "须", "应", "会", "将", "若", "如", "或", "前", "后", "直",
})  # fmt: skip
CONTRACTIONS: tuple[tuple[str, str], ...] = (
    (r"\bcan(?:'t|not)\b", "can not"),
    (r"\bwon't\b", "will not"),
    (r"\bshan't\b", "will not"),
    (r"n't\b", " not"),
    (r"'ll\b", " will"),
    (r"'re\b", " are"),
    (r"'ve\b", " have"),
    (r"'m\b", " am"),
    (r"'d\b", " would"),
    (r"\blet's\b", "let us"),
    (r"\b(it|that|there|here|what|he|she|who|where)'s\b", r"\1 is"),
    (r"\bshall\b", "will"),
)
EQUAL_PHRASES: tuple[tuple[str, str], ...] = (
    (r"\b(?:have|has|need|needs) to\b", "must"),
    (r"\b(?:reach out to|get in touch with)\b", "contact"),
    (r"\be-mail\b", "email"),
    (r"\bper cent\b", "%"),
)
POLITE = r"\b(?:could|would|can|will) you (?:please|kindly)\b((?:(?![.!?。！？](?:\s|$)).){0,300})\?"
"""A question that asks somebody to do a thing is the thing's imperative."""

GREETINGS = ("hi", "hello", "hey", "dear", "good morning", "good afternoon", "good evening", "您好", "你好", "亲爱的")
COURTESIES: tuple[str, ...] = (
    *GREETINGS,
    *(f"{greeting} there" for greeting in ("hi", "hello", "hey")),
    "dear customer", "hi dear customer", "thank you", "thank you very much", "thank you so much", "many thanks",
    *(
        f"thank you {why}"
        for why in (
            "for contacting us", "for reaching out", "for reaching out to us", "for getting in touch",
            "for getting in touch with us", "for writing", "for writing to us", "for your message",
            "for your question", "for your inquiry", "for your email", "for your patience", "for your understanding",
            "for your patience and understanding", "for your interest", "for your time", "for letting us know",
        )
    ),
    "we appreciate your patience", "we appreciate your understanding", "we appreciate your message",
    *(
        f"we {are} {about}"
        for are in ("are sorry", "are so sorry", "are very sorry", "apologize", "apologise", "sincerely apologize")
        for about in (
            "for the inconvenience", "for any inconvenience", "for any inconvenience caused",
            "for the inconvenience caused", "for any inconvenience this may have caused",
            "for any inconvenience this may cause", "for the trouble", "for the confusion", "to hear that",
        )
    ),
    "we are happy to help", "we are glad to help", "we are here to help", "we are always happy to help",
    "we are happy to help you", "we are here to help you", "we are here for you",
    "we hope this helps", "hope this helps", "we understand", "we understand your concern",
    "we understand your frustration", "let us know if you have any questions",
    "let us know if you have any other questions", "let us know if you have any further questions",
    "let us know if you need any help", "let us know if you need anything else",
    "feel free to contact us if you have any questions", "feel free to contact us if you have any other questions",
    "do not hesitate to contact us if you have any questions",
    "do not hesitate to contact us if you have any other questions",
    "if you have any questions, let us know", "if you have any other questions, let us know",
    "if you have any questions, feel free to contact us", "if you have any other questions, feel free to contact us",
    "if you have any questions, do not hesitate to contact us",
    "have a great day", "have a nice day", "have a good day", "have a lovely day", "have a wonderful day",
    "is there anything else we can help you with", "is there anything else we can help with",
    "best regards", "kind regards", "warm regards", "sincerely", "yours sincerely", "best wishes", "cheers",
    "great question", "good question",
    "感谢您的耐心", "感谢您的理解", "感谢您的支持", "感谢您的咨询", "感谢您的来信", "感谢您的等待", "感谢您的反馈",
    "感谢您的联系", "谢谢", "谢谢您", "非常感谢", "非常抱歉", "很抱歉", "非常抱歉给您带来不便", "很抱歉给您带来不便",
    "给您带来不便, 非常抱歉", "祝您生活愉快", "祝您愉快", "祝您一切顺利", "如有任何问题, 请联系我们",
    "如有任何疑问, 请联系我们", "如有任何问题, 请随时联系我们", "如有任何疑问, 请随时联系我们",
    "如有其他问题, 请随时联系我们", "很高兴为您服务", "亲爱的客户", "尊敬的客户", "亲",
)  # fmt: skip
"""Whole sentences, or what stands before a sentence with a comma behind it. None names a fact or promises a thing."""

FRIENDLY = frozenset("😊🙂😀😃😄😁🙏👋🎉💙🤗✨🌟☺")
"""May come and go; every other emoji says something."""

HAN_EMPTY = frozenset("的请哦呢啦呀哈吧啊嘛")
HAN_EQUAL: Mapping[str, str] = {"您": "你"}
HAN_DIGITS: Mapping[str, int] = {
    **dict(zip("零一二三四五六七八九", range(10), strict=True)), "〇": 0, "两": 2, "壹": 1, "贰": 2, "叁": 3,
}  # fmt: skip
HAN_TENS: Mapping[str, int] = {"十": 10, "百": 100, "千": 1_000, "万": 10_000, "亿": 100_000_000}
HAN_UNITS = "天日个元块年月周时分秒次件折倍成小星位张份页号楼层岁人台项期欧美%"
