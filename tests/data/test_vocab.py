import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stg_jax.data.vocab import BOS, EOS, PAD, UNK, Vocabulary
from stg_jax.errors import UserError

CAPTIONS = ['a man runs', 'a dog runs', 'a dog barks']
VOCAB = Vocabulary.build(CAPTIONS, 1)


def test_special_ids_are_fixed_and_words_follow_by_frequency():
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert VOCAB.words == (
        '<pad>', '<bos>', '<eos>', '<unk>', 'a', 'dog', 'runs', 'barks', 'man',
    )  # fmt: skip
    assert Vocabulary.build(CAPTIONS, 2).words[4:] == ('a', 'dog', 'runs')


def test_does_not_depend_on_the_order_of_captions():
    for captions in itertools.permutations(CAPTIONS):
        assert Vocabulary.build(captions, 1) == VOCAB


@given(st.lists(st.integers(UNK, len(VOCAB) - 1), max_size=12))
def test_encode_inverts_decode(ids):
    tokens = [BOS, *ids, EOS]
    assert VOCAB.encode(VOCAB.decode(tokens), 12) == tokens
    assert VOCAB.decode([*tokens, PAD, PAD]) == VOCAB.decode(tokens)


def test_encodes_by_hand():
    assert VOCAB.encode('a zebra runs', 5) == [BOS, 4, UNK, 6, EOS]
    assert VOCAB.encode('a man runs', 2) == [BOS, 4, 8, EOS]
    assert VOCAB.encode('', 2) == [BOS, EOS]
    assert VOCAB.encode('<pad> <eos> <unk>', 5) == [BOS, UNK, UNK, UNK, EOS]
    assert VOCAB.decode([BOS, 4, 5, EOS, 6]) == 'a dog'


def test_saves_and_loads(tmp_path):
    VOCAB.save(tmp_path / 'vocab.txt')
    assert Vocabulary.load(tmp_path / 'vocab.txt') == VOCAB


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('a\nb\n', 'must begin with'),
        ('<pad>\n<bos>\n<eos>\n<unk>\na\n\nb\n', "line 6: '' is not one word"),
        ('<pad>\n<bos>\n<eos>\n<unk>\na\na b\n', "line 6: 'a b' is not one word"),
        ('<pad>\n<bos>\n<eos>\n<unk>\na\na\n', "'a' occurs 2 times"),
    ],
)
def test_refuses_a_broken_file(tmp_path, text, sentence):
    (tmp_path / 'vocab.txt').write_text(text)
    with pytest.raises(UserError, match=sentence):
        Vocabulary.load(tmp_path / 'vocab.txt')


def test_refuses_what_is_no_text_file_and_captions_without_words(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        Vocabulary.load(tmp_path / 'vocab.txt')
    (tmp_path / 'vocab.txt').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(UserError, match='not UTF-8'):
        Vocabulary.load(tmp_path / 'vocab.txt')
    with pytest.raises(UserError, match='min_count'):
        Vocabulary.build(CAPTIONS, 9)
