"""Programs to run in a fresh interpreter in which TensorFlow is not installed."""

import importlib
import importlib.machinery
import pkgutil
import sys

import numpy as np

import stg_jax
from stg_jax.errors import UserError

_PACKAGES = ('tensorflow', 'tensorflow_datasets', 'tensorboard')


class Finder(importlib.machinery.PathFinder):
    """Finds modules as Python does, except that some packages are not installed."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        hidden = fullname.partition('.')[0] in _PACKAGES
        return None if hidden else super().find_spec(fullname, path, target)


def import_all():
    """Import every module of the package; print those that cannot do without TensorFlow."""
    for module in pkgutil.walk_packages(stg_jax.__path__, 'stg_jax.'):
        # PyTorch is no dependency, and two commands define flags of one name.
        if not module.name.startswith(('stg_jax.benchmark.torch_peer', 'stg_jax.commands.')):
            try:
                importlib.import_module(module.name)
            except UserError as error:
                assert 'tensorflow' in str(error)
                print(module.name)


def caption(workdir):
    """Make a run with random parameters, caption features with it, and print the caption."""
    from etils import epath

    from stg_jax.run.build import build_model, feature_shapes, init_params
    from stg_jax.run.checkpoint import Checkpoints
    from tests.fakes import fake_run_folder

    widths = {'appearance_dim': 8, 'motion_dim': 6, 'object_dim': 5}
    small = {'width': 16, 'heads': 2, 'feedforward': 32, 'encoder_layers': 1, 'decoder_layers': 1}
    run = fake_run_folder.create(
        epath.Path(workdir),
        **{f'data.{key}': value for key, value in widths.items()},
        **{f'model.{key}': value for key, value in small.items()},
    )
    config = run.config
    params = init_params(build_model(config, run.manifest, run.vocab), config.data, 0)
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save(7, params, {'count': np.zeros(1)}, {}, None)
    features = {
        key: np.zeros((1, *x.shape), x.dtype) for key, x in feature_shapes(config.data).items()
    }
    print(stg_jax.load(workdir)(features, beam_size=1))


def score():
    """Score a caption by the metrics that need no other program, and print BLEU-4."""
    from stg_jax.evaluate.metrics import score

    text = 'a red ball rolls over the floor'
    print(score({'a': text}, {'a': [text]}, metrics=['bleu'])['metrics']['BLEU-4'])


if __name__ == '__main__':
    usual = sys.meta_path.index(importlib.machinery.PathFinder)
    sys.meta_path[usual] = Finder
    globals()[sys.argv[1]](*sys.argv[2:])
    assert not {*_PACKAGES} & sys.modules.keys()
