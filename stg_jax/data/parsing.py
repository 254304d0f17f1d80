"""From serialized records to arrays, a batch at a time and only what a network reads."""

import numpy as np

from stg_jax.data.part import LOST
from stg_jax.data.quiet_tensorflow import tf, tfds

_OF_FRAMES = ('appearance', 'motion')
_OF_OBJECTS = ('object', 'box', 'object_mask')


class Parser:
    """Take batches of records apart.

    TFDS takes one record apart at a time and all of it, at several times the cost.
    """

    def __init__(
        self,
        features: tfds.features.FeaturesDict,
        num_objects: int,
        *,
        with_grid: bool,
        with_lost: bool,
    ):
        self._num_objects, self._with_lost = num_objects, with_lost
        names = (*_OF_FRAMES, *_OF_OBJECTS, *(['grid'] if with_grid else []))
        self._stored = {name: features[name] for name in names}
        # Traced once here, not in every epoch.
        self.parse = tf.function(
            self._parse, autograph=False, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def zeros(self, num_clips: int) -> dict[str, np.ndarray]:
        """Return what `parse` does for so many clips, but empty ids and zeros."""
        arrays = {}
        for name, stored in self._stored.items():
            shape = np.empty((num_clips, *stored.shape), np.bool_)[self._used(name)].shape
            arrays[name] = np.zeros(shape, stored.np_dtype)
        return arrays | {'id': np.full(num_clips, '', object)}

    def _parse(self, records: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return 'id' (B,) string and the arrays of B records, (B, ...) each."""
        names = ('id', *self._stored)
        whole = records
        if self._with_lost:  # else not even looked at: records are large
            lost = tf.strings.substr(records, 0, 1) == LOST
            whole = tf.where(lost, self._blank(), records)
        parsed = tf.io.parse_example(
            whole, {name: tf.io.FixedLenFeature((), tf.string) for name in names}
        )
        arrays = {name: self._array(name, parsed[name]) for name in self._stored}
        ids = tf.where(lost, records, parsed['id']) if self._with_lost else parsed['id']
        return arrays | {'id': ids}

    def _blank(self) -> bytes:
        """Return a record of zeros, with an empty id."""
        values = {
            name: np.zeros(stored.shape, stored.np_dtype).tobytes()
            for name, stored in self._stored.items()
        }
        features = {
            name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
            for name, value in (values | {'id': b''}).items()
        }
        return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()

    def _array(self, name: str, values: tf.Tensor) -> tf.Tensor:
        stored = self._stored[name]
        array = tf.io.decode_raw(values, stored.np_dtype)
        return tf.reshape(array, (tf.size(values), *stored.shape))[self._used(name)]

    def _used(self, name: str) -> tuple[slice, ...]:
        """Return which part of an array the config asks for."""
        return np.s_[:, :, : self._num_objects] if name in _OF_OBJECTS else np.s_[:]
