"""The one import of TensorFlow: without its start-up noise and Keras, blind to accelerators.

Only modules that read or write shards import this one at their top. All others import those inside
functions, so that captioning, scoring and benchmarks work where TensorFlow is not installed.
"""

import contextlib
import os
from collections.abc import Iterator

from absl import logging

from stg_jax.errors import UserError

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # else it complains about float16
# Whoever loads Keras first, through TensorFlow or not, fixes its backend for the process.
os.environ['KERAS_BACKEND'] = 'jax'


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Send what C++ code writes to standard error to nowhere."""
    saved = os.dup(2)
    with open(os.devnull, 'w') as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Keep TensorFlow from loading Keras, a third of its time; `tf.keras` still does when used.

    It looks for the older Keras instead, and continues without it. TensorFlow then loads in 4.5 s
    instead of 6.3 on two CPU cores.
    """
    name = 'TF_USE_LEGACY_KERAS'
    before = os.environ.get(name)
    os.environ[name] = '1'
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


# The libraries write a screen of hardware notes while they load, before they read any log level.
with _quiet_stderr(), _without_keras():
    try:
        import tensorflow as tf
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise UserError(
            f'data folders are read and written with TensorFlow, and {error.name} is not '
            'installed: pip install tensorflow tensorflow-datasets'
        ) from None

    # A TensorFlow that sees the accelerators takes their memory away from JAX. In a notebook that
    # used TensorFlow before us they are taken already, and hiding them now is refused.
    with contextlib.suppress(RuntimeError):
        for kind in ('GPU', 'TPU'):
            tf.config.set_visible_devices([], kind)

# TFDS warns about its own use of a deprecated property, once per feature of every record schema.
logging.get_absl_logger().addFilter(
    lambda record: 'FeatureConnector.dtype' not in record.getMessage()
)

__all__ = ['tf', 'tfds']
