"""What a caption looks like: lower case words, single spaces, no punctuation."""

import re
import unicodedata

_DASHES = '–—'  # which separate words, as other signs do
# Hyphens, points and commas that stand in no word and no number.
_SIGNS = re.compile(r'(?<![^ .,-])-|-(?![^ .,-])|(?<!\d)[.,]|[.,](?!\d)')


def normalise(caption: str) -> str:
    """Return `caption` as lower case words separated by single spaces, without punctuation.

    Letters, digits and combining marks of any script stay (NFKC). As the PTB tokenizer of the
    standard evaluation does, a hyphen stays within a word ("t-shirt") and a point or comma within a
    number ("3.5"). Every other sign separates ("it's" -> "it s"), as in the
    `sents_*_lc_nopunc.txt` files of MSVD, so that those captions are left as they are. Applying it
    twice changes nothing.
    """
    text = ''.join(map(_keep_words, unicodedata.normalize('NFKC', caption).lower()))
    text = _SIGNS.sub(' ', text)
    # Signs that left may have kept a letter and its accent apart.
    return ' '.join(unicodedata.normalize('NFKC', text).split())


def _keep_words(character: str) -> str:
    """Return a letter, hyphen, point or comma, a space for any other sign."""
    category = unicodedata.category(character)
    if category[0] in 'LMN' or character in '.,':
        return character
    if category == 'Cf':  # zero-width signs, which sit inside words of the raw MSVD corpus
        return ''
    return '-' if category == 'Pd' and character not in _DASHES else ' '
