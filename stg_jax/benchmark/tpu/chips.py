"""TPU chips and their interconnect: the public figures that estimates start from."""

import dataclasses
import math
import re

from stg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Chip:
    """A generation of TPU.

    Attributes:
      name: as in 'v5e:4x4'.
      hbm_gb: memory of a chip.
      peak_tflops: peak of dense bfloat16 matrix products.
      clock_ghz: frequency of the compiler's cycles. Calibrated on matrix products of 4,096 and
        8,192 rows and columns, which are then predicted at 88 to 97 % of the peak (v6e 70 to 87 %).
      link_gb_per_s: bandwidth of one link in one direction; a ring uses both directions.
      num_axes: dimensions of the interconnect, 2 or 3.
      wraps_at: an axis is a ring if its length is a multiple of this number of chips.
      chip_config: the compiler's name for using all cores of a chip as one device.
    """

    name: str
    hbm_gb: float
    peak_tflops: float
    clock_ghz: float
    link_gb_per_s: float
    num_axes: int
    wraps_at: int
    chip_config: str


# Memory and peak: cloud.google.com/tpu/docs; links: jax-ml.github.io/scaling-book, 'TPUs'.
CHIPS = {
    chip.name: chip
    for chip in (
        Chip('v4', 32, 275, 1.05, 45, 3, 4, 'megacore'),
        Chip('v5e', 16, 197, 1.50, 45, 2, 16, 'default'),
        Chip('v5p', 95, 459, 1.75, 90, 3, 4, 'megacore'),
        Chip('v6e', 32, 918, 1.75, 90, 2, 16, 'default'),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """A slice of chips, such as 4 x 4."""

    chip: Chip
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> 'Topology':
        """Parse a name such as 'v5e:4x4' or 'v5p:2x2x1'.

        Raises:
          UserError: the chip is unknown, or the shape does not fit it.
        """
        found = re.fullmatch(r'(\w+):([1-9]\d*(?:x[1-9]\d*)+)', text)
        if not found or found[1] not in CHIPS:
            raise UserError(
                f'--topology {text!r} is no chip ({", ".join(CHIPS)}) with a shape: '
                'write v5e:4x4 or v5p:2x2x4'
            )
        chip, shape = CHIPS[found[1]], tuple(map(int, found[2].split('x')))
        if len(shape) != chip.num_axes:
            raise UserError(f'--topology {text!r}: {chip.name} is wired along {chip.num_axes} axes')
        return cls(chip, shape)

    def __str__(self) -> str:
        """Format the name that `parse` reads."""
        return f'{self.chip.name}:{"x".join(map(str, self.shape))}'

    @property
    def num_chips(self) -> int:
        """Number of chips of the slice."""
        return math.prod(self.shape)

    @property
    def host_bounds(self) -> list[int]:
        """Shape of the chips of one host: (2, 2, 1), or less for smaller slices."""
        x, y = self.shape[:2]
        return [min(x, 2), min(y, 2), 1]

    def all_reduce_seconds(self, num_bytes: int) -> float:
        """Estimate the time of an all-reduce over all chips, without latency.

        Each chip sends and receives 2 (n - 1) / n of the array, over all axes at once (the scaling
        book, 'Sharded matrices').
        """
        if self.num_chips == 1:
            return 0.0
        # A ring sends in both directions at once; an open line only to one side at its ends.
        directions = sum(
            2 if length % self.chip.wraps_at == 0 else 1 for length in self.shape if length > 1
        )
        share = 2 * (self.num_chips - 1) / self.num_chips
        return share * num_bytes / (directions * self.chip.link_gb_per_s * 1e9)
