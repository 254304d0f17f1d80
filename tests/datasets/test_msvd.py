import pytest

from stg_jax.datasets import msvd
from stg_jax.errors import UserError
from tests.fakes.real_data import real_data

CORPUS = 'VideoID,Start,End,WorkerID,Source,AnnotationTime,Language,Description\n'


def annotations(tmp_path, **texts):
    names = {
        'mapping': 'youtube_mapping.txt',
        'train': 'sents_train_lc_nopunc.txt',
        'test': 'sents_test_lc_nopunc.txt',
        'corpus': 'corpus.csv',
        'descriptions': 'AllVideoDescriptions.txt',
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
    assert msvd.read(folder).splits == {
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
    splits = msvd.read(folder).splits
    assert splits['train'] == {'a_1_2': ['a man runs']}
    assert splits['test'] == {'b_3_4': ['it s a dog']}


def test_reads_descriptions_under_their_heading(tmp_path):
    text = (
        '#Author: x\n#Date: 2011\n\n'
        "-a_b_1_2 A man is running.\n_c_3_44\tIt's a CAT\n-a_b_1_2 ...\n"
        '-a_b_1_2 a man jogs\u2028on\n'
    )
    folder = annotations(
        tmp_path,
        mapping='-a_b_1_2 vid1\n_c_3_44 vid1970\n',
        descriptions=text,
        corpus=CORPUS + '-a_b,1,2,9,clean,5,English,Other words.\n',
    )
    found = msvd.read(folder)
    assert found.splits == {
        'train': {'-a_b_1_2': ['a man is running', 'a man jogs on']},
        'val': {},
        'test': {'_c_3_44': ['it s a cat']},
    }
    assert found.source == {'-a_b_1_2': '-a_b', '_c_3_44': '_c'}
    assert found.number == {'-a_b_1_2': 0, '_c_3_44': 1969}
    assert found.notes[-1] == '1 captions without any word are left out'
    assert msvd.read(folder / 'corpus.csv').splits['train'] == {'-a_b_1_2': ['other words']}


@pytest.mark.parametrize('kind', ['descriptions', 'corpus'])
def test_keeps_the_letters_of_files_in_two_encodings(tmp_path, kind):
    start = b'a_1_2 ' if kind == 'descriptions' else b'a,1,2,9,clean,5,English,'
    lines = [
        start + 'Her café, "zażółć"'.replace('"', '').encode(),
        start + 'A señor'.encode('latin-1'),
    ]
    head = CORPUS.encode() if kind == 'corpus' else b''
    folder = annotations(tmp_path, mapping='a_1_2 vid1\n', **{kind: ''})
    path = next(file for file in folder.iterdir() if file.name != msvd.MAPPING)
    path.write_bytes(head + b'\n'.join(lines))
    texts = msvd.read(folder).splits['train']['a_1_2']
    assert texts[1] == 'a señor'
    assert texts[0].split()[:2] == ['her', 'café']


def corpus_of(tmp_path, *rows, head=CORPUS):
    """Read a corpus file of the clip a_1_2."""
    return msvd.read_corpus([annotations(tmp_path, corpus=head + ''.join(rows)) / 'corpus.csv'])


@pytest.mark.parametrize(
    ('text', 'caption'),
    [
        ('a tall man, with a hat, runs', 'a tall man with a hat runs'),
        ('"a tall man, with a hat", runs', 'a tall man with a hat runs'),
        ('a 5" nail, bent', 'a 5 nail bent'),
        ('"a man\nruns, and jumps"', 'a man runs and jumps'),
        (
            'one, two, three, four, five, six, seven, eight',
            'one two three four five six seven eight',
        ),
    ],
)
def test_a_corpus_caption_with_commas_without_quotes_stays_whole(tmp_path, text, caption):
    rows = f'a,1,2,9,clean,5,English,{text}\na,1,2,9,clean,5,English,a dog\n'
    assert corpus_of(tmp_path, rows) == {'a_1_2': [caption, 'a dog']}


def test_a_comma_is_refused_where_the_captions_are_not_the_last_column(tmp_path):
    head = 'VideoID,Start,End,Language,Description,Source\n'
    rows = 'a,1,2,English,a dog,clean\n', 'a,1,2,English,a man, running,clean\n'
    with pytest.raises(UserError, match=r'corpus.csv line 3 has 7 fields, but the first line 6'):
        corpus_of(tmp_path, *rows, head=head)
    assert corpus_of(tmp_path, rows[0], head=head) == {'a_1_2': ['a dog']}


@pytest.mark.parametrize('quoted', ['a cat', '"a cat, asleep"'])
def test_a_stray_quote_that_would_swallow_captions_is_refused(tmp_path, quoted):
    rows = [
        'a,1,2,9,clean,5,English,a dog\n',
        'a,1,2,9,clean,5,English,"a man\n',
        f'a,1,2,9,clean,5,English,{quoted}\n',
    ]
    with pytest.raises(UserError, match=r'corpus.csv line 3: a double quote opens a caption'):
        corpus_of(tmp_path, *rows)


@pytest.mark.parametrize(
    'language', ['english', 'ENGLISH ', 'en', 'eng', 'en-US', 'En_gb', 'English (UK)', 'US English']
)
def test_english_has_many_spellings(tmp_path, language):
    rows = f'a,1,2,9,clean,5,{language},a man\na,1,2,9,clean,5,Greek,x\n'
    assert corpus_of(tmp_path, rows) == {'a_1_2': ['a man']}


def test_a_corpus_without_english_or_with_two_columns_of_a_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="no row whose Language is English, only 'Greek', 'enkel'"):
        corpus_of(tmp_path, 'a,1,2,9,clean,5,Greek,x\n' * 2, 'a,1,2,9,clean,5,enkel,x\n')
    with pytest.raises(UserError, match='two columns called Description'):
        corpus_of(tmp_path, head=CORPUS.strip() + ',Description\n')
    # Columns that are not used may have any name, or none.
    head = f',{CORPUS.strip()},\n'
    assert corpus_of(tmp_path, '7,a,1,2,9,clean,5,English,a man,\n', head=head) == {
        'a_1_2': ['a man']
    }


def test_blanks_and_tabs_separate_the_names_of_a_mapping(tmp_path):
    folder = annotations(
        tmp_path,
        mapping='a_1_2\tvid1\n  b_1_2   vid2 \nc_1_2 \t vid1201\r\n',
        train='vid1 \ta man\nvid2\ta dog\nvid1201\ta cat\n',
        corpus=CORPUS + ' c , 1,2 ,9,clean,5,English,other words\n',
    )
    (folder / '._corpus.csv').write_bytes(b'\x00\x05\x16\x07')
    splits = msvd.read(folder).splits
    assert splits['train'] == {'a_1_2': ['a man'], 'b_1_2': ['a dog']}
    assert splits['val'] == {'c_1_2': ['a cat']}
    (folder / msvd.MAPPING).write_text('a_1_2 vid1\na_1_2 vid2\n')
    with pytest.raises(UserError, match=r'line 2: a_1_2 is vid1 already'):
        msvd.read(folder)


def test_numbers_a_complete_corpus_by_ascii_rank(tmp_path):
    clips = sorted(f'{letter}{i:03d}' for letter in '-_aB' for i in range(500))[: msvd.NUM_CLIPS]
    rows = ''.join(f'{clip},0,1,9,clean,5,English,a thing\n' for clip in reversed(clips))
    splits = msvd.read(annotations(tmp_path, corpus=CORPUS + rows)).splits
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
        msvd.read(annotations(tmp_path, mapping=mapping))


@pytest.mark.parametrize(
    ('texts', 'sentence'),
    [
        ({}, 'youtube_mapping.txt is missing'),
        ({'mapping': 'a_1_2 vid1\n'}, 'holds no captions'),
        ({'mapping': 'a_1_2 1\n'}, "mapping.txt line 1: expected vid1 to vid1970, found '1'"),
        ({'mapping': 'a_1_2 vid1\n\nb vid1971\n'}, 'mapping.txt line 3: expected vid1'),
        ({'mapping': 'a_1_2 vid1\n', 'train': 'vid1 a man\n'}, 'train_lc_nopunc.txt line 1'),
        ({'mapping': 'a_1_2 vid1\n', 'train': 'vid2\ta man\n'}, 'sentences of vid2, which'),
        ({'mapping': 'a_1_2 vid1\nb_1_2 vid1\n'}, 'gives vid1 to 2 clips'),
        ({'mapping': 'a_1_2 vid1\n', 'descriptions': '# x\na man\n'}, 'line 2: expected <youtube'),
        ({'mapping': 'a_1_2 vid1\n', 'corpus': 'VideoID,Start\n'}, 'lacks the column End'),
        ({'mapping': 'a_1_2 vid1\n', 'corpus': CORPUS + 'x' * 200_000}, 'line 2 is no CSV'),
        (
            {'mapping': 'a_1_2 vid1\n', 'corpus': CORPUS + 'b,1,2,9,x,5,English,a man\n'},
            'clip b_1_2 has captions, but',
        ),
    ],
)
def test_refuses_broken_annotations(tmp_path, texts, sentence):
    with pytest.raises(UserError, match=sentence):
        msvd.read(annotations(tmp_path, **texts))


def test_refuses_a_file_that_is_not_called_like_captions(tmp_path):
    folder = annotations(tmp_path, mapping='a_1_2 vid1\nb_1_2 vid2\n')
    (folder / 'list.txt').write_text('a_1_2 words\n')
    for name in (msvd.MAPPING, 'list.txt'):
        with pytest.raises(UserError, match=f'{name} is not called like MSVD captions'):
            msvd.read(folder / name)


def test_refuses_other_encodings_and_missing_folders(tmp_path):
    folder = annotations(tmp_path, mapping='')
    (folder / 'sents_train_lc_nopunc.txt').write_bytes(b'vid1\t\xff\xfe\n')
    with pytest.raises(UserError, match='not UTF-8'):
        msvd.read(folder)
    with pytest.raises(UserError, match='do not exist'):
        msvd.read(tmp_path / 'nowhere')


def test_reads_the_real_annotations():
    real = real_data('msvd', 'annotations')
    found = msvd.read(real)
    splits = found.splits
    counts = {name: (len(clips), sum(map(len, clips.values()))) for name, clips in splits.items()}
    assert counts == {'train': (1200, 48774), 'val': (100, 4290), 'test': (71, 2935)}
    assert found.notes == ['test: 71 clips with 2,935 captions, but 670 with 27,763 are published']
    assert len(found.number) == msvd.NUM_CLIPS
    assert found.number['-4wsuPCjDBc_5_15'] == 0
    assert found.source['-4wsuPCjDBc_5_15'] == '-4wsuPCjDBc'


def test_the_descriptions_file_gives_what_the_real_sentences_give(tmp_path):
    real = real_data('msvd', 'annotations')
    expected = msvd.read(real)
    mapping = (real / msvd.MAPPING).read_text().split()
    name = dict(zip(mapping[1::2], mapping[::2], strict=True))
    lines = ['#Author: somebody', '#', '']
    for path in sorted(real.glob('sents_*')):
        rows = [line.split('\t') for line in path.read_text().splitlines()]
        lines += [f'{name[vid]} {caption}' for vid, caption in rows]
    (tmp_path / 'AllVideoDescriptions.txt').write_text('\n'.join(lines))
    (tmp_path / msvd.MAPPING).write_text((real / msvd.MAPPING).read_text())
    assert msvd.read(tmp_path) == expected
    assert msvd.read(tmp_path / 'AllVideoDescriptions.txt') == expected


def test_the_real_corpus_agrees_with_the_sentences_about_clips():
    real = real_data('msvd', 'annotations')
    corpus = msvd.read_corpus([real / 'corpus_val.csv'])
    sentences = msvd.read(real).splits['val']
    assert set(corpus) == set(sentences)
    same = sum(
        text in sentences[clip_id] for clip_id, captions in corpus.items() for text in captions
    )
    # The sentences lost what follows a comma; nearly all others must come out equal.
    assert same / sum(map(len, corpus.values())) > 0.97
