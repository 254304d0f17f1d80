"""The links of a clip's object graph in the strengths from which its softmaxes are made."""

from collections.abc import Mapping

import numpy as np

from stg_jax.explain.explanation import Links
from stg_jax.model.graph import pairwise_cosine, pairwise_iou


def object_links(batch: Mapping[str, np.ndarray]) -> Links:
    """Return the links of the one clip of a batch; zero where an object is absent."""
    mask_TN = batch['object_mask'][0]
    object_BTNC = batch['object']
    iou_TNN = np.array(pairwise_iou(batch['box'])[0])
    cosine_TNN = np.array(pairwise_cosine(object_BTNC[:, :-1], object_BTNC[:, 1:])[0])
    iou_TNN *= ~np.eye(mask_TN.shape[1], dtype=bool)
    iou_TNN *= mask_TN[:, :, None] & mask_TN[:, None, :]
    cosine_TNN *= mask_TN[:-1, :, None] & mask_TN[1:, None, :]
    return Links(iou_TNN, cosine_TNN)
