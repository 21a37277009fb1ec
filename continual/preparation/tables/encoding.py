"""Text out of bytes: by their mark, by what was stated, or by what they can only be."""

import codecs

from perennial.continual.errors import DataError
from perennial.continual.preparation.tables.table import quoted

__all__ = ["decoded"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NO_FILES = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "utf-7"})
_SAMPLE_BYTES = 1 << 16
_LINE_BYTES = 400
_BYTES_BEFORE = 15  # that are shown of a line before the byte in question
_USUAL = (
    "big5",
    "cp125",
    "cp437",
    "cp85",
    "cp866",
    "cp874",
    "cp932",
    "cp949",
    "euc_",
    "gb",
    "iso2022",
    "iso8859",
    "johab",
    "koi8",
    "latin",
    "mac_",
    "shift_jis",
    "tis_620",
)
_MANY_ZEROS = 0.2  # of all bytes, where UTF-16 holds mostly ASCII
_ONE_SIDE = 0.99  # of the zeros: all high bytes, or all low ones
_GB2312_SHARE = 0.9  # of the characters beyond ASCII; Latin-1 read as GB18030 hardly ever gives one
_COMMON_SHARE = 0.05  # other scripts read as GB18030 give no more by chance; two lines of Chinese give 0.24
_CHANCE = 0.65  # three standard deviations of such a share of one character
_KANA_SHARE = 0.05
_COMMON = frozenset(
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然"
    "家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把"
    "机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果"
    "加斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更"
    "别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马"
    "科司五基眼书非则听白却界达光放强即像难且权思王象完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确"
    "传师观清今切院让识候带导争运"
)


def decoded(data: bytes, source: str, stated: str | None) -> str:
    """The text of a file's bytes.

    Read are UTF-8, UTF-16 and UTF-32 with a byte order mark, what was stated, and without either UTF-8, UTF-16 and
    GB18030, which can be told from others by their bytes alone.

    Raises:
        DataError: the encoding is not known, does not fit, or cannot be told; the message names the line and the fix.
    """
    marked = next(((mark, name) for mark, name in _MARKS if data.startswith(mark)), None)
    if stated is not None:
        return _strictly(data, _codec(stated), source).removeprefix("\ufeff")
    if marked is not None:
        return _strictly(data[len(marked[0]) :], marked[1], source)
    wide = _utf_16(data)
    if wide is not None:
        return _strictly(data, wide, source)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        chinese = _chinese(data)
        if chinese is not None:
            return chinese
        raise DataError(
            f"{source} line {_line(data, error.start)}: byte {error.start} is not UTF-8 (0x{data[error.start]:02x}); "
            f"save the file as UTF-8, or state its encoding: --encoding {_guess(data, error.start)}"
        ) from error


def _codec(stated: str) -> str:
    try:
        codec = codecs.lookup(stated)
    except (LookupError, ValueError) as error:
        raise DataError(f"encoding {stated!r} is not known; state one such as utf-8, latin-1, gb18030") from error
    if codec.name in _NO_FILES or not getattr(codec, "_is_text_encoding", True):
        raise DataError(f"encoding {stated!r} is none of texts; state one such as utf-8, latin-1, gb18030")
    return codec.name


def _strictly(data: bytes, encoding: str, source: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source} line {_line(data, error.start)}: byte {error.start} is not {encoding}; state the encoding that "
            f"it was saved in with --encoding, or save it as UTF-8"
        ) from error
    except UnicodeError as error:  # of codecs that are no encodings of files, such as `undefined`
        raise DataError(f"{source} cannot be read as {encoding} ({error}); state another, such as utf-8") from error


def _line(data: bytes, place: int) -> int:
    """The line of a byte, whatever ends the lines: \\n, \\r\\n, or a lone \\r."""
    ending = b"\n" if b"\n" in data else b"\r"
    return data.count(ending, 0, place) + 1


def _utf_16(data: bytes) -> str | None:
    """UTF-16 without a mark: its zeros are all at even or all at odd places."""
    sample = data[:_SAMPLE_BYTES]
    zeros = sample.count(0)
    if zeros == 0 or len(data) % 2:
        return None
    high_first = sample[::2].count(0)
    side = high_first / zeros
    if not (side >= _ONE_SIDE or side <= 1 - _ONE_SIDE):
        return None
    name = "utf-16-be" if side >= _ONE_SIDE else "utf-16-le"
    if zeros >= _MANY_ZEROS * len(sample):
        return name
    try:  # few zeros: a stray one in UTF-8, or UTF-16 of a script whose characters hold none
        data.decode("utf-8")
    except UnicodeDecodeError:
        try:
            wide = data.decode(name)
        except UnicodeDecodeError:
            return None
        return name if "\n" in wide or "\r" in wide else None
    return None


def _chinese(data: bytes) -> str | None:
    """The text, where these bytes can only be Chinese in GB18030 or GBK."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return None
    beyond = [character for character in text[:_SAMPLE_BYTES] if character > "\x7f"]
    if not beyond:
        return None
    simple = sum(_in_gb2312(character) for character in beyond)
    common = sum(character in _COMMON for character in beyond)
    needed = _COMMON_SHARE * len(beyond) + _CHANCE * len(beyond) ** 0.5
    kana = sum("\u3040" <= character <= "\u30ff" for character in beyond)  # Japanese, whose kana lie at the same places
    if simple < _GB2312_SHARE * len(beyond) or common < needed or kana > _KANA_SHARE * len(beyond):
        return None
    return text


def _in_gb2312(character: str) -> bool:
    try:
        return len(character.encode("gb2312")) == 2
    except UnicodeEncodeError:
        return False


def _guess(data: bytes, place: int) -> str:
    """The most likely encoding, and what the line of a byte is in it, for the user to judge."""
    from charset_normalizer import from_bytes

    names = (str(guess.encoding) for guess in from_bytes(data[:_SAMPLE_BYTES]))
    name = next((name for name in names if name.startswith(_USUAL)), "latin-1")
    begin = max(data.rfind(b"\n", 0, place), data.rfind(b"\r", 0, place)) + 1
    begin = max(begin, place - _BYTES_BEFORE)
    line = data[begin : begin + _LINE_BYTES].splitlines()[0].decode(name, errors="replace")
    return f"{name.replace('_', '-')}, if this line is right then: {quoted(line)}"
