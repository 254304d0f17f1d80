"""MSVD annotations of four clips."""

NUMBERS = {'a_1_2': 1, 'b_1_2': 2, 'c_1_2': 1201, 'd_1_2': 1301}


def write_msvd(folder):
    """Write MSVD annotations of clips a to d."""
    mapping = ''.join(f'{clip_id} vid{number}\n' for clip_id, number in NUMBERS.items())
    (folder / 'youtube_mapping.txt').write_text(mapping)
    captions = ''.join(f'vid{number}\ta man runs\n' for number in NUMBERS.values())
    (folder / 'sents_train_lc_nopunc.txt').write_text(captions)
