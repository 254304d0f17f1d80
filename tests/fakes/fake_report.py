"""A clip as a report shows it, with made-up numbers and texts that try to break out of a page."""

import dataclasses

import numpy as np

from stg_jax.explain import Explanation, Links
from stg_jax.visualize import ReportEntry, to_jpeg

ATTACK = '</script><script>window.broken = 1</script><img src=x onerror="window.broken = 1">'
WORDS = ('a', 'red', 'ball', ATTACK)


def fake_entry(
    num_frames=4, num_objects=3, *, words=WORDS, name=f'clip {ATTACK}.mp4', teacher=True
):
    """Return a clip whose word l is spoken for by object l % N of frame l % T above all."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.6, (num_frames, num_objects, 2))
    box_TN4 = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, corner.shape)], axis=-1)
    mask_TN = np.ones((num_frames, num_objects), bool)
    mask_TN[-1, -1] = False
    L = len(words)
    relevance_LTN = rng.uniform(-0.2, 0.2, (L, num_frames, num_objects)) * mask_TN
    relevance_LTN[np.arange(L), np.arange(L) % num_frames, np.arange(L) % num_objects] = 1.0
    of_teacher = {
        'teacher': 'object',
        'links': _links(rng, mask_TN),
        'relevance_LTN': relevance_LTN * mask_TN,
        'disagreement_L': rng.uniform(0, 1, L),
    }
    branches = ('scene', 'object') if teacher else ('scene',)
    explanation = Explanation(
        words=tuple(words),
        box_TN4=box_TN4,
        score_TN=mask_TN * 0.9,
        label_TN=np.where(mask_TN, 0, -1),
        object_mask_TN=mask_TN,
        student='scene',
        log_p={branch: -rng.uniform(0, 1, L) for branch in branches},
        attention={branch: rng.dirichlet(np.ones(num_frames), L) for branch in branches},
        relevance_LTG=None,
        saliency_LT=rng.uniform(0, 1, (L, num_frames)),
        saliency_LTN=None,
        **(of_teacher if teacher else dict.fromkeys(of_teacher)),
    )
    frames = [to_jpeg(x) for x in rng.integers(0, 255, (num_frames, 48, 64, 3), dtype=np.uint8)]
    captions = [(' '.join(words), -1.25), (f'another {ATTACK}', -2.5)]
    return ReportEntry(
        name, frames, captions, explanation, np.arange(num_frames) / 2, (f'thing {ATTACK}',)
    )


def joint_entry():
    """Return a clip of a run whose one decoder is teacher and student."""
    entry = fake_entry()
    of_joint = {
        field: {'joint': getattr(entry.explanation, field)['scene']}
        for field in ('log_p', 'attention')
    }
    explanation = dataclasses.replace(
        entry.explanation, teacher='joint', student='joint', disagreement_L=None, **of_joint
    )
    return dataclasses.replace(entry, explanation=explanation)


def grid_entry(side=3):
    """Return a clip whose objects are cells of a grid."""
    entry = fake_entry(2, side * side)
    edge = np.arange(side) / side
    y_N, x_N = (corner.ravel() for corner in np.meshgrid(edge, edge, indexing='ij'))
    box_N4 = np.stack([x_N, y_N, x_N + 1 / side, y_N + 1 / side], -1).astype(np.float16)
    loss_LTN = np.zeros((len(WORDS), 2, side * side))
    loss_LTN[:, 1, 5] = 0.2
    explanation = dataclasses.replace(
        entry.explanation, box_TN4=np.stack([box_N4] * 2), saliency_LTN=loss_LTN
    )
    return dataclasses.replace(entry, explanation=explanation)


def heat_entry(side=2, **options):
    """Return a clip whose student reads a grid; word l needs cell l of frame l % T above all."""
    entry = fake_entry(**options)
    L, T = len(entry.explanation.words), len(entry.frames)
    relevance_LTG = np.full((L, T, side * side), -0.1)
    relevance_LTG[:, 0] = 0.25
    relevance_LTG[np.arange(L), np.arange(L) % T, np.arange(L) % side**2] = 0.5
    explanation = dataclasses.replace(entry.explanation, relevance_LTG=relevance_LTG)
    return dataclasses.replace(entry, explanation=explanation)


def _links(rng, mask_TN):
    T, N = mask_TN.shape
    iou_TNN = np.triu(rng.uniform(0, 1, (T, N, N)), 1) * mask_TN[:, :, None] * mask_TN[:, None]
    cosine_TNN = rng.uniform(-1, 1, (T - 1, N, N)) * mask_TN[:-1, :, None] * mask_TN[1:, None]
    return Links(iou_TNN + iou_TNN.swapaxes(1, 2), cosine_TNN)
