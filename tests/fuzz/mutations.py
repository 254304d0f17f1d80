"""Seeded damage to files: what disks, networks, editors and other programs do to them."""

import itertools

# Replacements for a piece of text: numbers at limits, other types, quotes, other encodings.
_PIECES = (
    *(b'0', b'-1', b'4294967296', b'9' * 30, b'1e999', b'NaN', b'Infinity', b'null', b'true'),
    *(
        b'""',
        b'"',
        b"'",
        b'[]',
        b'{}',
        b'[',
        b'{',
        b'}',
        b',',
        b':',
        b'\t',
        b'\n',
        b'\r\n',
        b'\x00',
    ),
    *(b'\xff\xfe', b'\xef\xbb\xbf', b'\xed\xa0\x80', b'..', b'/', b'%s', 'é'.encode()),
)


def mutate(content, rng):
    """Return `content` with one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(_CHANGES)(content, rng)
    return content


def _place(content, rng):
    # Most formats have their structure at the start or the end.
    low, high = rng.choice(((0, 64), (0, len(content)), (len(content) - 64, len(content))))
    return min(max(0, rng.randint(min(low, high), max(low, high))), max(0, len(content) - 1))


def _flip_bit(content, rng):
    i = _place(content, rng)
    return (
        content[:i] + bytes([content[i] ^ 1 << rng.randrange(8)]) + content[i + 1 :]
        if content
        else b'\x00'
    )


def _set_byte(content, rng):
    i = _place(content, rng)
    return content[:i] + bytes([rng.choice((0, 1, 127, 128, 255))]) + content[i + 1 :]


def _truncate(content, rng):
    return content[: rng.randint(0, len(content))]


def _extend(content, rng):
    return content + rng.randbytes(rng.choice((1, 16, 1000)))


def _delete(content, rng):
    i = _place(content, rng)
    return content[:i] + content[i + rng.choice((1, 4, 64)) :]


def _repeat(content, rng):
    i, length = _place(content, rng), rng.choice((1, 16, 256))
    return content[: i + length] + content[i:]


def _zeros(content, rng):
    i, length = _place(content, rng), rng.choice((4, 512))
    return content[:i] + bytes(len(content[i : i + length])) + content[i + length :]


def _random_bytes(content, rng):
    i, length = _place(content, rng), rng.choice((4, 64))
    return content[:i] + rng.randbytes(length) + content[i + length :]


def _insert_piece(content, rng):
    i = _place(content, rng)
    return content[:i] + rng.choice(_PIECES) + content[i:]


def _replace_token(content, rng):
    """Replace a number or a word, so that the syntax around it stays as it is."""
    starts = [i for i in range(len(content)) if content[i : i + 1].isalnum()]
    if not starts:
        return _insert_piece(content, rng)
    i = rng.choice(starts)
    length = len(list(itertools.takewhile(lambda b: bytes([b]).isalnum(), content[i : i + 100])))
    return content[:i] + rng.choice(_PIECES) + content[i + length :]


def _swap_lines(content, rng):
    lines = content.splitlines(keepends=True)
    if len(lines) < 2:
        return _repeat(content, rng)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b''.join(lines)


_CHANGES = (
    *(_flip_bit, _flip_bit, _set_byte, _truncate, _extend, _delete, _repeat, _zeros),
    *(_random_bytes, _insert_piece, _replace_token, _replace_token, _swap_lines),
)
