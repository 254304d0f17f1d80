"""Read every record of a data folder, report what is wrong or unusual, and print a data card.

    python launch/verify.py data/msvd
    python launch/verify.py data/own --videos clips/

Writes data_card.json and, where the videos are available, contact_sheet.png into the folder.

Exit codes: 0 the data are sound, 2 there are problems (the card lists them).
"""

from pathlib import Path

from absl import flags

from stg_jax import configs
from stg_jax.cli import app
from stg_jax.errors import UserError

_VIDEOS = flags.DEFINE_string(
    'videos', None, 'Folder of the videos, if it is not the one that the manifest names.'
)


def main(args: list[str]) -> int | None:
    """Verify one data folder."""
    if len(args) != 1:
        raise UserError('name one data folder to verify (see --help)')
    from stg_jax.prepare.verify.verify import verify  # after the flags, so that --help is quick

    data = configs.get_config().data
    card = verify(
        Path(args[0]),
        Path(_VIDEOS.value) if _VIDEOS.value else None,
        min_count=data.min_count,
        max_words=data.max_words,
    )
    print(card.text())
    return app.USER_ERROR if card.problems else None


def run() -> None:
    """Run the command line of this process."""
    app.run(main)
