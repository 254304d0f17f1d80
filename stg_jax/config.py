"""The configuration as frozen dataclasses: the type and the range of every value.

configs/common.py holds the defaults and explains each value. `parse_config` turns such a config, or
the config.json of a run, into a `Config`; no function below it handles a ConfigDict. The classes
mirror the groups of configs/common.py, except that `LossConfig` joins `loss` and `kd`.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from stg_jax.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

# Ranges are (least, most), both included. The upper bounds are far beyond any sensible value: they
# turn a slip of the keyboard into a sentence instead of an overflow or an endless allocation.
Count = Annotated[int, (1, 10_000)]
Width = Annotated[int, (1, 1_000_000)]
FeatureWidth = Annotated[int, (0, 1_000_000)]  # 0: as wide as those of the data folder
Layers = Annotated[int, (0, 1_000)]
Interval = Annotated[int, (0, 1_000_000_000)]  # in steps or epochs; 0 switches it off
Fraction = Annotated[float, (0.0, 0.999)]
Weight = Annotated[float, (0.0, 1e30)]  # the square of a larger one is infinite in float32


class _Section:
    """A group of values that checks each of them when it is made."""

    def __post_init__(self):
        """Check types, ranges and choices.

        Raises:
          UserError: a value is refused; the sentence names its key and what it can be.
        """
        for name, hint in typing.get_type_hints(type(self), include_extras=True).items():
            _check(_key(type(self), name), getattr(self, name), hint)


@dataclasses.dataclass(frozen=True)
class DataConfig(_Section):
    """`config.data`; `order` and `cache` are checked where they are read."""

    dir: str
    toy_clips: str
    frames: Count
    objects: Annotated[int, (1, 1_000)]
    appearance_dim: FeatureWidth
    motion_dim: FeatureWidth
    object_dim: FeatureWidth
    grid_cells: Annotated[int, (0, 10_000)]
    grid_dim: FeatureWidth
    object_dropout: Fraction
    feature_dropout: Fraction
    feature_noise: Annotated[float, (0.0, 1_000.0)]
    frame_jitter: Annotated[int, (0, 1_000)]
    captions_per_clip: Count
    eval_captions: Count
    max_words: Annotated[int, (1, 1_000)]
    min_count: Annotated[int, (0, 1_000_000_000)]
    order: str
    shuffle_buffer: Annotated[int, (1, 1_000_000_000)]
    cache: str


@dataclasses.dataclass(frozen=True)
class ToyConfig(_Section):
    """`config.toy`: the rendered world, used where `config.data.toy_clips` asks for one."""

    seed: Annotated[int, (0, 2**32 - 1)]
    distractors: Annotated[int, (0, 4)]
    captions: Annotated[int, (1, 6)]
    held_out: Literal['triples', 'kinds']
    detector_dropout: Annotated[float, (0.0, 1.0)]
    detector_jitter: Annotated[float, (0.0, 10.0)]


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Section):
    """`config.model`: the architecture, apart from what the data set decides."""

    branches: Literal['full', 'scene', 'object']
    fusion: Literal['none', 'concat']
    width: Width
    heads: Count
    feedforward: Width
    encoder_layers: Layers
    decoder_layers: Annotated[int, (1, 1_000)]
    dropout: Fraction
    attention_dropout: Fraction
    token_dropout: Fraction
    scene_fusion: Literal['channel', 'time']
    graph: Literal['full', 'spatial', 'temporal', 'dense']
    graph_layers: Layers
    graph_norm: Literal['none', 'layer']
    temporal_direction: Literal['literal', 'forward', 'both']
    box_embedding: bool
    object_memory: Literal['mean', 'nodes']
    scene_tokens: Literal['frames', 'grid']
    grid_frames: Count
    grid_poolings: Layers
    dtype: Literal['float32', 'bfloat16']

    def __post_init__(self):
        """Check each value, and those that must fit together."""
        super().__post_init__()
        if self.width % self.heads or self.width % 2:
            raise UserError(
                f'config.model.width is {self.width}; '
                f'it must be even and a multiple of heads = {self.heads}'
            )
        if self.fusion == 'concat' and self.branches != 'full':
            raise UserError("config.model.fusion = 'concat' needs config.model.branches = 'full'")

    @property
    def reads_grid(self) -> bool:
        """Whether a decoder reads the cells of frames."""
        return self.scene_tokens == 'grid' and self.branches != 'object'

    @property
    def decoders(self) -> tuple[str, ...]:
        """Names of the language decoders; the first is the one deployed."""
        if self.fusion == 'concat':
            return ('joint',)
        return {'full': ('scene', 'object'), 'scene': ('scene',), 'object': ('object',)}[
            self.branches
        ]

    def decoder(self, name: str | None = None) -> str:
        """Check the name of a decoder and return it; without a name, that of the deployed one."""
        if name is None:
            return self.decoders[0]
        if name not in self.decoders:
            raise UserError(
                f'this run has no branch {name!r}: it can be {", ".join(self.decoders)}'
            )
        return name


@dataclasses.dataclass(frozen=True)
class LossConfig(_Section):
    """`config.loss` and `config.kd`: weights and variants of the objective."""

    scene_weight: Weight
    kd_weight: Weight
    label_smoothing: Fraction
    r_drop: Weight
    consensus: Annotated[float, (0.0, 1.0)]
    kind: Literal['kl', 'l2']
    direction: Literal['student', 'teacher']
    detach_teacher: bool
    temperature: Annotated[float, (1e-6, 1e6)]

    def weight(self, term: str) -> float:
        """Return the weight of a term in the objective."""
        weights = {'xe_scene': self.scene_weight, 'kd': self.kd_weight, 'r_drop': self.r_drop}
        return weights.get(term, 1.0)


@dataclasses.dataclass(frozen=True)
class OptimConfig(_Section):
    """`config.optim`."""

    lr: Weight
    decay: Literal['none', 'cosine', 'linear', 'exponential']
    decay_rate: Annotated[float, (0.0, 1.0)]
    weight_decay: Weight
    warmup: Annotated[float, (0.0, 1.0)]
    clip: Annotated[float, (1e-30, 1e30)]


@dataclasses.dataclass(frozen=True)
class TrainConfig(_Section):
    """`config.train`."""

    objective: Literal['xe', 'scst']
    init_from: str
    batch_size: Annotated[int, (1, 10_000_000)]
    accumulate: Count
    steps_per_execution: Count
    ema: Annotated[float, (0.0, 0.999999)]
    epochs: Annotated[int, (1, 1_000_000)]
    patience: Interval
    select: Literal['best', 'last']
    keep_best: Count
    checkpoint_steps: Interval
    log_steps: Interval
    track: Literal['tensorboard', 'wandb', 'trackio', 'none']

    def __post_init__(self):
        """Check each value, and those that must fit together."""
        super().__post_init__()
        if self.objective == 'scst' and self.steps_per_execution > 1:
            raise UserError(
                "config.train.objective = 'scst' takes steps one by one, because the host scores "
                'samples within each: set config.train.steps_per_execution to 1'
            )


@dataclasses.dataclass(frozen=True)
class ScstConfig(_Section):
    """`config.scst`: self-critical training, where `train.objective` asks for it."""

    samples: Annotated[int, (2, 1_000)]
    xe_weight: Weight


@dataclasses.dataclass(frozen=True)
class ProfileConfig(_Section):
    """`config.profile`."""

    start: Interval
    steps: Annotated[int, (1, 1_000_000)]


@dataclasses.dataclass(frozen=True)
class DecodeConfig(_Section):
    """`config.decode`."""

    beam_size: Annotated[int, (1, 1_000)]
    length_penalty: Annotated[float, (-10.0, 10.0)]
    batch_size: Annotated[int, (1, 1_000_000)]


@dataclasses.dataclass(frozen=True)
class Config(_Section):
    """A whole configuration."""

    seed: Annotated[int, (0, 2**32 - 1)]  # of a larger one JAX would drop bits: 2 ** 32 would be 0
    data: DataConfig
    toy: ToyConfig
    model: ModelConfig
    loss: LossConfig
    optim: OptimConfig
    train: TrainConfig
    scst: ScstConfig
    profile: ProfileConfig
    decode: DecodeConfig

    def flat(self) -> dict[str, Any]:
        """Return every value by its dotted key, as in 'data.frames'."""
        return {key: getattr(getattr(self, part, self), name) for key, part, name in _fields()}

    def tree(self) -> dict[str, Any]:
        """Return the values as nested dictionaries, in the groups of configs/common.py."""
        return nested(self.flat())

    def changed(self, **values: Any) -> 'Config':
        """Return a config with other values; a dot in a key is written `__`."""
        return _of_flat(self.flat() | {key.replace('__', '.'): v for key, v in values.items()})


_SECTIONS = {
    'data': DataConfig,
    'toy': ToyConfig,
    'model': ModelConfig,
    'loss': LossConfig,
    'optim': OptimConfig,
    'train': TrainConfig,
    'scst': ScstConfig,
    'profile': ProfileConfig,
    'decode': DecodeConfig,
}
_KD = ('kind', 'direction', 'detach_teacher', 'temperature')  # fields of LossConfig in config.kd


def parse_config(config: 'ConfigDict | Mapping[str, Any]') -> Config:
    """Turn a config as of configs/common.py into typed values.

    Each value is checked by itself. Whether it fits the data and the devices is checked where
    these are known.

    Raises:
      UserError: a value is missing, unknown, of another type, or out of range.
    """
    return _of_flat(flat(config if isinstance(config, Mapping) else config.to_dict()))


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of nested dictionaries by dotted key, as in 'data.frames'."""
    values = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            values |= {f'{name}.{key}': inner for key, inner in flat(value).items()}
        else:
            values[name] = value
    return values


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted key as nested dictionaries, the inverse of `flat`."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        group, _, name = key.rpartition('.')
        (tree.setdefault(group, {}) if group else tree)[name] = value
    return tree


def _of_flat(values: Mapping[str, Any]) -> Config:
    fields = list(_fields())
    known = {key for key, _, _ in fields}
    for key in sorted(known ^ values.keys()):
        raise UserError(f'config.{key} is {"missing" if key in known else "unknown"}')
    sections = {part: {} for part in _SECTIONS}
    for key, part, name in fields:
        if part:
            sections[part][name] = values[key]
    return Config(
        seed=values['seed'], **{part: _SECTIONS[part](**of) for part, of in sections.items()}
    )


def _fields() -> Iterator[tuple[str, str, str]]:
    """Yield the dotted key, the section and the name of every value; the seed has no section."""
    yield 'seed', '', 'seed'
    for part, section in _SECTIONS.items():
        for field in dataclasses.fields(section):
            yield _key(section, field.name), part, field.name


def _key(section: type, name: str) -> str:
    """Return the key of a field in configs/common.py."""
    if section is LossConfig and name in _KD:
        return f'kd.{name}'
    groups = [group for group, each in _SECTIONS.items() if each is section]
    return '.'.join([*groups, name])


def _check(key: str, value: Any, hint: Any) -> None:
    """Check a value against its annotation: a type, a type with a range, or choices."""
    if typing.get_origin(hint) is Literal:
        if value not in (choices := typing.get_args(hint)):
            raise UserError(f'config.{key} is {value!r}; it can be {", ".join(choices)}')
        return
    kind, *ranges = typing.get_args(hint) or (hint,)
    if not _is_a(value, kind):
        raise UserError(f'config.{key} is {value!r}; it must be {_KINDS.get(kind, kind.__name__)}')
    for least, most in ranges:
        if not least <= value <= most:  # so that NaN is refused, too
            raise UserError(f'config.{key} is {value}; it must be in [{least}, {most}]')


_KINDS = {int: 'a whole number', float: 'a number', str: 'text', bool: 'true or false'}


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
