"""Caption raw videos with a trained run.

    python launch/caption.py --workdir runs/toy VIDEO [VIDEO ...]

Prints one JSON object per video: its path and caption. The features come from the extractor that
made the run's training data. A video that cannot be read is reported and the others go on; the
command then ends with exit code 2.
"""

import json
import sys

from absl import flags

from stg_jax import cli
from stg_jax.errors import UserError

_WORKDIR = flags.DEFINE_string('workdir', None, 'Folder that train.py wrote.')
_BRANCH = flags.DEFINE_string(
    'branch', None, 'scene (the student), object (the teacher) or joint; by default the deployed.'
)
_CHECKPOINT = flags.DEFINE_string('checkpoint', 'best', 'best (on validation), latest, or a step.')
_BEAM = flags.DEFINE_integer('beam_size', None, "1 is greedy; by default the run's.", lower_bound=1)


def main(videos: list[str]) -> int:
    """Caption each video of the command line."""
    if not videos:
        raise UserError('no video given: name one or more files (see --help)')
    workdir = cli.required(_WORKDIR)
    from stg_jax.decode.captioner import Captioner
    from stg_jax.extract.choose import build_extractor

    captioner = Captioner.load(workdir, branch=_BRANCH.value, checkpoint=_CHECKPOINT.value)
    extractor = build_extractor(captioner.run.manifest.extractor)
    failed = 0
    for video in videos:
        try:
            clip = extractor.extract(video)
        except UserError as error:
            print(f'caption.py: {error}', file=sys.stderr)
            failed += 1
            continue
        (caption,) = captioner.caption_clips([clip], beam_size=_BEAM.value)
        print(json.dumps({'video': video, 'caption': caption}, ensure_ascii=False), flush=True)
    return cli.USER_ERROR if failed else 0


if __name__ == '__main__':
    cli.run(main)
