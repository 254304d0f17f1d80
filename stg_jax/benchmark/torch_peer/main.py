r"""Time our network against the same one in idiomatic PyTorch, in one run.

    python -m stg_jax.benchmark.torch_peer.main --out peer.json
    python -m stg_jax.benchmark.torch_peer.main --out peer.json \
        --device cuda --dtype bfloat16 --compile

Two versions of the peer:
  as written    what public captioners do: a dense graph over all objects of the clip; one caption
                per sample, so that a clip is encoded once for each of its captions; captions padded
                to the longest that the config allows; logits of every position.
  with tricks   our optimisations, as far as PyTorch allows: a banded graph, all captions of a clip
                in one sample, captions trimmed to the longest of the batch and packed, and a
                chunked loss that computes logits and gradient together.
Both use scaled_dot_product_attention, fused Adam and, with --dtype bfloat16, autocast.

Before anything is timed, both versions get the weights of our network, and their logits, loss and
all gradients are compared with ours in float32, without dropout; the script stops if they differ by
more than 1e-4 (gradients: relative to the largest entry of the tensor). Both beam searches must
find our captions.

Sizes are those of configs/common.py and MSVD's vocabulary; captions have the lengths of MSVD's
(stg_jax/benchmark/synthetic.py), 7.0 words on average. All data are on the device before the
clock starts. Needs PyTorch 2.6 or newer; TensorFlow is not imported.
"""

import argparse
import os

os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')  # PyTorch needs memory too

import jax
import torch

from stg_jax.benchmark import timing
from stg_jax.benchmark.timing import table
from stg_jax.benchmark.torch_peer import training
from stg_jax.cli import heap
from stg_jax.config import parse_config
from stg_jax.configs import common
from stg_jax.files import write_json


def main() -> None:
    """Run the suites."""
    args = _arguments()
    if args.keep_memory:
        heap.keep_freed_memory()
    jax.config.update('jax_platforms', {'cpu': 'cpu', 'cuda': 'cuda'}[args.device])
    if jax.device_count() > 1:
        raise SystemExit('the peer runs on one device: make one visible, CUDA_VISIBLE_DEVICES=0')
    # What a user of either framework gets on a GPU that has TF32.
    torch.set_float32_matmul_precision('high')
    config = parse_config(common.get_config())
    config = config.changed(model__dtype=args.dtype, train__batch_size=args.batch)
    stages = []
    if args.suite in ('train', 'both'):
        stages += training.run(config, args)
    if args.suite in ('decode', 'both'):
        from stg_jax.benchmark.torch_peer import decoding

        stages += decoding.run(config, args)
    report = {'suite': 'torch_peer', **timing.describe_machine(), 'arguments': vars(args)}
    write_json(args.out, report | {'config': config.tree(), 'stages': stages})
    print(table(stages))


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--suite', choices=['train', 'decode', 'both'], default='both')
    parser.add_argument('--device', choices=['cpu', 'cuda'], default='cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32')
    parser.add_argument('--batch', type=int, default=64, help='captions of a training step')
    clips = common.get_config().decode.batch_size
    parser.add_argument('--clips', type=int, default=clips, help='clips decoded at once')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--compile', action='store_true', help='torch.compile training')
    parser.add_argument(
        '--keep_memory', action='store_true', help='as launch/train.py does, for both frameworks'
    )
    parser.add_argument('--out', required=True, help='JSON file to write')
    return parser.parse_args()


if __name__ == '__main__':
    main()
