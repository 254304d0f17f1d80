"""The rows of the paper's ablation table, each one change of the full model.

    python launch/train.py --config configs/ablations.py:spatial --workdir runs/spatial

The name after the colon is one of ABLATIONS; the data set is MSVD.
"""

from ml_collections import ConfigDict

from stg_jax.configs import paper
from stg_jax.errors import UserError

ABLATIONS = {
    'scene': {'model.branches': 'scene'},  # only the scene branch
    'concat': {'model.fusion': 'concat'},  # one decoder over the features of both branches
    'l2': {'kd.kind': 'l2'},  # distil features, not words
    'spatial': {'model.graph': 'spatial'},  # no links in time
    'temporal': {'model.graph': 'temporal'},  # no links within a frame
    'dense': {'model.graph': 'dense'},  # every pair of objects linked
    'full': {},
}


def get_config(name: str = 'full') -> ConfigDict:
    """Build the config of a row of the table."""
    if name not in ABLATIONS:
        raise UserError(f'configs/ablations.py has no {name!r}: it has {", ".join(ABLATIONS)}')
    config = paper.get_config()
    config.update_from_flattened_dict(ABLATIONS[name])
    return config
