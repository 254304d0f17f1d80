from pathlib import Path

import pytest

from stg_jax.data.annotations import msvd
from stg_jax.errors import UserError

REAL = Path(__file__).parents[2] / 'shared' / 'real' / 'msvd' / 'annotations'
CORPUS = 'VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n'


def annotations(tmp_path, **texts):
    names = {
        'mapping': 'youtube_mapping.txt',
        'train': 'sents_train_lc_nopunc.txt',
        'test': 'sents_test_lc_nopunc.txt',
        'corpus': 'corpus.csv',
    }
    for kind, text in texts.items():
        (tmp_path / names[kind]).write_text(text, encoding='utf-8')
    return tmp_path


def test_reads_sentences_by_number(tmp_path):
    folder = annotations(
        tmp_path,
        mapping='b_1_2 vid7\na_1_2 vid1200\nc_0_9 vid1201\n',
        train='vid1200\ta man runs\nvid7\ta dog\nvid1200\ta man jogs\n',
        test='vid1201\tit s a cat\n',
    )
    assert msvd.read_splits(folder) == {
        'train': {'b_1_2': ['a dog'], 'a_1_2': ['a man runs', 'a man jogs']},
        'val': {'c_0_9': ['it s a cat']},
        'test': {},
    }


def test_reads_english_corpus_rows_of_clips_without_sentences(tmp_path):
    rows = (
        'a,1,2,9,clean,5,English,"A man, running."\n'
        'a,1,2,9,clean,5,German,Ein Mann.\n'
        'b,3,4,9,unverified,5,English,"It\'s a DOG"\n'
        'b,3,4,9,clean,5,English,\n'
    )
    folder = annotations(
        tmp_path,
        mapping='a_1_2 vid1\nb_3_4 vid1301\n',
        train='vid1\ta man runs\n',
        corpus='\ufeff' + CORPUS + rows,
    )
    splits = msvd.read_splits(folder)
    assert splits['train'] == {'a_1_2': ['a man runs']}
    assert splits['test'] == {'b_3_4': ['it s a dog']}


def test_numbers_a_complete_corpus_by_ascii_rank(tmp_path):
    clips = sorted(f'{letter}{i:03d}' for letter in '-_aB' for i in range(500))[: msvd.NUM_CLIPS]
    rows = ''.join(f'{clip},0,1,9,clean,5,English,a thing\n' for clip in reversed(clips))
    splits = msvd.read_splits(annotations(tmp_path, corpus=CORPUS + rows))
    assert {split: len(clips) for split, clips in splits.items()} == {
        'train': 1200, 'val': 100, 'test': 670,
    }  # fmt: skip
    assert list(splits['train']) == [f'{clip}_0_1' for clip in clips[:1200]]
    assert clips[0].startswith('-') and clips[500].startswith('B')


def test_refuses_a_complete_mapping_out_of_order(tmp_path):
    clips = [f'c{i:04d}_0_1' for i in range(msvd.NUM_CLIPS)]
    clips[4], clips[5] = clips[5], clips[4]
    mapping = ''.join(f'{clip} vid{i}\n' for i, clip in enumerate(clips, 1))
    with pytest.raises(UserError, match='maps c0005_0_1 to vid5, but its rank is 6'):
        msvd.read_splits(annotations(tmp_path, mapping=mapping))


@pytest.mark.parametrize(
    ('texts', 'sentence'),
    [
        ({}, 'youtube_mapping.txt is missing'),
        ({'mapping': 'a_1_2 vid1\n'}, 'holds no captions'),
        ({'mapping': 'a_1_2 1\n'}, "mapping.txt line 1: expected vid1 to vid1970, found '1'"),
        ({'mapping': 'a_1_2 vid1\n\nb vid1971\n'}, 'mapping.txt line 3: expected vid1'),
        ({'mapping': 'a_1_2 vid1\n', 'train': 'vid1 a man\n'}, 'train_lc_nopunc.txt line 1'),
        ({'mapping': 'a_1_2 vid1\n', 'train': 'vid2\ta man\n'}, 'names vid2, which'),
        ({'mapping': 'a_1_2 vid1\n', 'corpus': 'VideoID,Start\n'}, 'lacks the column End'),
        (
            {'mapping': 'a_1_2 vid1\n', 'corpus': CORPUS + 'b,1,2,9,x,5,English,a man\n'},
            'clip b_1_2 has captions, but',
        ),
    ],
)
def test_refuses_broken_annotations(tmp_path, texts, sentence):
    with pytest.raises(UserError, match=sentence):
        msvd.read_splits(annotations(tmp_path, **texts))


def test_refuses_other_encodings_and_missing_folders(tmp_path):
    folder = annotations(tmp_path, mapping='')
    (folder / 'sents_train_lc_nopunc.txt').write_bytes(b'vid1\t\xff\xfe\n')
    with pytest.raises(UserError, match='not UTF-8'):
        msvd.read_splits(folder)
    with pytest.raises(UserError, match='does not exist'):
        msvd.read_splits(tmp_path / 'nowhere')


def test_reads_the_real_annotations():
    if not REAL.is_dir():
        pytest.skip(f'{REAL} is absent')
    splits = msvd.read_splits(REAL)
    counts = {name: (len(clips), sum(map(len, clips.values()))) for name, clips in splits.items()}
    assert counts == {'train': (1200, 48774), 'val': (100, 4290), 'test': (71, 2935)}
    number = msvd.read_mapping(REAL / 'youtube_mapping.txt')
    assert len(number) == msvd.NUM_CLIPS
    assert number['-4wsuPCjDBc_5_15'] == 1


def test_the_real_corpus_agrees_with_the_sentences_about_clips():
    if not REAL.is_dir():
        pytest.skip(f'{REAL} is absent')
    corpus = msvd.read_corpus([REAL / 'corpus_val.csv'])
    sentences = msvd.read_splits(REAL)['val']
    assert set(corpus) == set(sentences)
    same = sum(
        text in sentences[clip_id] for clip_id, captions in corpus.items() for text in captions
    )
    # The sentences lost what follows a comma; nearly all others must come out equal.
    assert same / sum(map(len, corpus.values())) > 0.97
