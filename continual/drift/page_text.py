"""Texts of others inside pages that other people's programs make."""

__all__ = ["page_text"]

# Evidently writes labels into a script of its page as they are, and its plots read tags in them; so what begins a tag
# or an entity is shown by a character that looks like it and begins nothing.
_LOOK_ALIKES = str.maketrans({"<": "‹", ">": "›", "&": "＆"})


def page_text(text: str) -> str:
    """The text with nothing in it that a page could take for markup.

    >>> page_text("</script><b>R&D</b>")
    '‹/script›‹b›R＆D‹/b›'
    """
    return text.translate(_LOOK_ALIKES)
