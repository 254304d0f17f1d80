"""Feature files in the layouts of others, written from the same numbers."""

import base64
import gzip

import h5py
import numpy as np

STEPS, NUM, WIDTH, HEIGHT, FRAME_WIDTH = 3, 4, 5, 120, 160


def fake_frames(clip_ids, *, seed=0, steps=STEPS, width=WIDTH):
    """Return {clip: (steps, width)} float32."""
    rng = np.random.default_rng(seed)
    return {clip: rng.normal(size=(steps, width)).astype(np.float32) for clip in clip_ids}


def fake_objects(clip_ids, *, seed=0, steps=STEPS, num=NUM, width=WIDTH):
    """Return {clip: {feats, boxes, scores, labels}} with boxes on whole pixels, in [0, 1]."""
    rng = np.random.default_rng(seed)
    size = np.array([FRAME_WIDTH, HEIGHT])
    clips = {}
    for clip in clip_ids:
        corner = np.sort(rng.integers(0, size + 1, (steps, num, 2, 2)), axis=-2) / size
        clips[clip] = {
            'feats': rng.normal(size=(steps, num, width)).astype(np.float32),
            'boxes': corner.reshape(steps, num, 4).astype(np.float32),
            'scores': rng.uniform(0.1, 1, (steps, num)).astype(np.float32),
            'labels': rng.integers(0, 80, (steps, num)),
        }
    return clips


def in_pixels(boxes):
    """Return boxes in pixels of the fake frame."""
    return (boxes * np.float32([FRAME_WIDTH, HEIGHT] * 2)).astype(np.float32)


def write_hdf5(path, entries, **attributes):
    """Write arrays, and groups of arrays, by name; return the path as text."""
    with h5py.File(path, 'w') as file:
        for key, value in entries.items():
            if isinstance(value, dict):
                group = file.create_group(key)
                group.attrs.update(attributes)
                for name, array in value.items():
                    group[name] = array
            else:
                file[key] = value
    return str(path)


def write_npy(folder, arrays):
    """Write one `.npy` per name; return the folder as text."""
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f'{name}.npy', array)
    return str(folder)


def images_of(clips, separator='_'):
    """Return the objects of each frame by image name, frames numbered in fives."""
    return {
        f'{clip}{separator}{5 * frame}': {kind: values[frame] for kind, values in arrays.items()}
        for clip, arrays in clips.items()
        for frame in range(len(arrays['feats']))
    }


def write_npz(folder, images, *, transpose=False, **more):
    """Write one MILVLG `.npz` per image; return the folder as text."""
    for name, arrays in images.items():
        path = folder / f'{name}.npz'
        path.parent.mkdir(parents=True, exist_ok=True)
        feats = arrays['feats'].T if transpose else arrays['feats']
        np.savez(
            path,
            x=feats,
            bbox=in_pixels(arrays['boxes']),
            num_bbox=len(arrays['boxes']),
            image_h=HEIGHT,
            image_w=FRAME_WIDTH,
            **more,
        )
    return str(folder)


def tsv_row(name, arrays, *, lxmert=False, height_first=False, dtypes=(np.float32, np.float32)):
    """Return the bytes of one row of a bottom-up-attention TSV; `dtypes` of boxes and features."""

    def cell(values, dtype):
        return base64.b64encode(np.ascontiguousarray(values, dtype).tobytes())

    size = [str(HEIGHT).encode(), str(FRAME_WIDTH).encode()]
    cells = [name.encode(), *(size if lxmert or height_first else size[::-1])]
    if lxmert:
        labels, scores = cell(arrays['labels'], np.int64), cell(arrays['scores'], np.float32)
        cells += [labels, scores, labels, scores]
    cells += [
        str(len(arrays['feats'])).encode(),
        cell(in_pixels(arrays['boxes']), dtypes[0]),
        cell(arrays['feats'], dtypes[1]),
    ]
    return b'\t'.join(cells) + b'\n'


def write_tsv(path, images, **options):
    """Write a bottom-up-attention TSV, packed if the name says so; return the path as text."""
    rows = b''.join(tsv_row(name, arrays, **options) for name, arrays in images.items())
    path.write_bytes(gzip.compress(rows) if path.suffix == '.gz' else rows)
    return str(path)
