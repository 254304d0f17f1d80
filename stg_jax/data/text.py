"""Normalise captions: lower case words, single spaces, no punctuation."""

import re
import unicodedata

_DASHES = '–—'  # which separate words, as other signs do
# Hyphens, points and commas outside of words and numbers, which only then are punctuation.
_SIGNS = re.compile(r'(?<![^ .,-])-|-(?![^ .,-])|(?<!\d)[.,]|[.,](?!\d)')


def normalise(caption: str) -> str:
    """Convert a caption to lower case words separated by single spaces, without punctuation.

    Letters, digits and combining marks of any script stay (NFKC). As the PTB tokenizer of the
    standard evaluation does, a hyphen stays within a word ("t-shirt") and a point or comma within a
    number ("3.5"). Every other sign separates ("it's" -> "it s"), as in the
    `sents_*_lc_nopunc.txt` files of MSVD, so that those captions are left as they are. Applying it
    twice changes nothing.
    """
    # NFKC first: it turns full-width letters and ligatures into those that other captions use, so
    # that one word has one spelling in the vocabulary.
    text = ''.join(map(_keep_words, unicodedata.normalize('NFKC', caption).lower()))
    text = _SIGNS.sub(' ', text)
    # Again: signs that were removed may have separated a letter from its accent.
    return ' '.join(unicodedata.normalize('NFKC', text).split())


def _keep_words(character: str) -> str:
    """Keep a letter, digit, hyphen, point or comma; replace any other sign by a space."""
    category = unicodedata.category(character)
    if category[0] in 'LMN' or character in '.,':
        return character
    if category == 'Cf':  # zero-width signs, which sit inside words of the raw MSVD corpus
        return ''
    return '-' if category == 'Pd' and character not in _DASHES else ' '
