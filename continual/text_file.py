"""A text as an editor saved it: the mark at its beginning says in which Unicode encoding."""

import codecs
from dataclasses import dataclass

__all__ = ["SavedText"]

_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedText:
    """The text of a file's bytes; more of it is written in the same encoding.

    >>> SavedText.of(b"\\xff\\xfea\\x00").text, SavedText.of(b"\\xff\\xfea\\x00").more("b")
    ('a', b'b\\x00')
    """

    text: str
    encoding: str = "utf-8"
    mark: bytes = b""

    @classmethod
    def of(cls, data: bytes) -> "SavedText":
        """The text; without a mark it is UTF-8.

        Raises:
            UnicodeDecodeError: it is not.
        """
        mark, encoding = next((each for each in _MARKS if data.startswith(each[0])), (b"", "utf-8"))
        return cls(text=data[len(mark) :].decode(encoding), encoding=encoding, mark=mark)

    def more(self, text: str) -> bytes:
        """What is written behind the text."""
        return text.encode(self.encoding)

    def whole(self, text: str) -> bytes:
        """What is written in place of the text."""
        return self.mark + self.more(text)
