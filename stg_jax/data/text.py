"""What a caption looks like: lower case words, single spaces, no punctuation."""

import unicodedata


def normalise(caption: str) -> str:
    """Return `caption` as lower case words separated by single spaces, without punctuation.

    Letters, digits and combining marks of any script stay (NFKC). A hyphen joins its neighbours
    ("make-up" -> "makeup") and every other sign separates them ("it's" -> "it s"), which is what
    the `sents_*_lc_nopunc.txt` files of MSVD do, so those captions are left as they are.
    Applying it twice changes nothing.
    """
    text = unicodedata.normalize('NFKC', caption).lower().replace('--', ' ')
    text = ''.join(map(_keep_words, text))
    # Signs that left may have kept a letter and its accent apart.
    return ' '.join(unicodedata.normalize('NFKC', text).split())


def _keep_words(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] in 'LMN':
        return character
    # Cf: zero-width signs and byte order marks, which sit inside words of the raw MSVD corpus.
    return '' if category in ('Pd', 'Cf') and character not in '–—' else ' '
