import pytest

from stg_jax.datasets.base import Annotations
from stg_jax.datasets.clip_ids import fit, match_keys
from stg_jax.errors import UserError

NUMBER = {f'clip_{letter}': rank for rank, letter in enumerate('abcdefghij')}


def annotations(*, number=NUMBER, captioned=('clip_b', 'clip_c')):
    splits = {'train': {clip: ['a man'] for clip in captioned}}
    return Annotations('msvd', splits, number=number, source={}, notes=[])


@pytest.mark.parametrize(
    ('scheme', 'write'),
    [
        ('name', 'clip_{letter}'),
        ('name', 'clip_{letter}.avi'),
        ('name', 'videos/clip_{letter}.MP4'),
        ('vidK', 'vid{one}'),
        ('vidK', 'vid{one:04d}.avi'),
        ('videoN', 'video{zero}'),
        ('videoN', 'video{zero}.mp4'),
        ('videoK', 'video{one}'),
        ('index0', '{zero}'),
        ('index0', '{zero:05d}'),
        ('index1', '{one}'),
    ],
)
def test_recognises_how_clips_are_counted(scheme, write):
    keys = {
        clip: write.format(letter=clip[-1], zero=rank, one=rank + 1)
        for clip, rank in NUMBER.items()
    }
    mapping = match_keys([*keys.values(), 'max_len'], annotations())
    assert mapping.scheme == scheme
    assert mapping.key_of == keys
    assert mapping.unmatched == ['max_len']
    assert not mapping.warnings
    assert match_keys(list(keys.values()), annotations(), scheme).key_of == keys


def test_zero_or_one_is_decided_by_all_numbered_clips_not_by_those_with_captions():
    # Clips 1 and 2 have captions; counted from 0 or from 1, both are among these keys.
    keys = [str(i) for i in range(10)]
    assert match_keys(keys, annotations()).scheme == 'index0'
    keys = [str(i) for i in range(1, 11)]
    assert match_keys(keys, annotations()).scheme == 'index1'


def test_a_tie_is_told_and_can_be_decided():
    mapping = match_keys(['3', '4'], annotations())
    assert mapping.key_of == {'clip_d': '3', 'clip_e': '4'}
    assert 'fit clips counted from 0 and from 1' in mapping.warnings[0]
    forced = match_keys(['3', '4'], annotations(), 'index1')
    assert forced.key_of == {'clip_c': '3', 'clip_d': '4'}
    assert not forced.warnings
    mapping = match_keys(['video3', 'video4'], annotations())
    assert mapping.key_of == {'clip_d': 'video3', 'clip_e': 'video4'}
    assert mapping.warnings[0].endswith('pass --ids=videoK if that is wrong')


def test_names_come_before_numbers():
    number = {f'video{i}': i for i in range(5)}
    mapping = match_keys(list(number), annotations(number=number, captioned=['video2']))
    assert mapping.scheme == 'name'


def test_own_clips_match_by_name_with_and_without_folders():
    clips = ['a/x.mp4', 'b/x.mp4', 'b/y.mp4', 'z.v2']
    own = annotations(number={}, captioned=clips)
    mapping = match_keys(['a/x', 'x', 'y.avi', 'z.v2', '3'], own)
    assert mapping.key_of == {'a/x.mp4': 'a/x', 'b/y.mp4': 'y.avi', 'z.v2': 'z.v2'}
    assert mapping.unmatched == ['x', '3']


def test_names_in_another_case_or_unicode_form_match_where_nothing_else_does():
    own = annotations(number={}, captioned=['cat', 'Dog', 'dog', 'café', 'bird', 'x'])
    keys = ['videos/Cat.MP4', 'DOG', 'cafe\u0301.mp4', 'Bird', 'BIRD', 'x', 'X']
    mapping = match_keys(keys, own)
    assert mapping.key_of == {'x': 'x', 'cat': 'videos/Cat.MP4', 'café': 'cafe\u0301.mp4'}
    assert mapping.unmatched == ['DOG', 'Bird', 'BIRD', 'X']
    (note,) = mapping.warnings
    assert note.startswith(
        '2 keys name their clips in another case or Unicode form or with blanks, '
    )
    assert note.endswith("'videos/Cat.MP4' for 'cat'")


def test_two_keys_of_one_clip_are_told():
    mapping = match_keys(['clip_a.avi', 'clip_a.mp4', 'clip_a'], annotations())
    assert mapping.key_of == {'clip_a': 'clip_a.avi'}
    assert mapping.unmatched == ['clip_a.mp4', 'clip_a']
    assert mapping.warnings[0] == (
        'keys clip_a.avi and clip_a.mp4 both mean clip clip_a: took the first'
    )


def test_the_better_reading_of_a_file_means_more_clips_and_fewer_others():
    fit_of = fit(annotations())
    assert fit_of(['clip_a', 'clip_b', 'x']) == (2, -1)
    assert fit_of(['clip_a', 'clip_b', 'x']) < fit_of(['clip_a', 'clip_b'])
    assert fit_of(['x', 'y']) == fit_of(['x']) == (0, 0)
    assert fit(annotations(), 'name')(['vid1']) < fit(annotations(), 'vidK')(['vid1'])


@pytest.mark.parametrize(
    ('keys', 'scheme', 'sentence'),
    [
        (['x', 'y'], None, "none of 2 keys means a clip: keys are like 'x', clips like 'clip_b'"),
        (['vid3'], 'index0', "none of 1 keys means a clip as index0: keys are like 'vid3'"),
        ([], None, r'keys are like nothing \(there are none\)'),
        (['x'], 'vid', "no id scheme 'vid': use name, vidK, videoN, videoK, index0, index1"),
    ],
)
def test_refuses_what_has_nothing_in_common(keys, scheme, sentence):
    with pytest.raises(UserError, match=sentence):
        match_keys(keys, annotations(), scheme)
