"""Caption and explain video files with a trained run."""

import functools
import os
from collections.abc import Iterator

from stg_jax.captioning.caption_video import Captioned, ChooseFn, caption_video
from stg_jax.captioning.explained import Report
from stg_jax.decode.candidates import best_candidates, random_candidates
from stg_jax.decode.captioner import Captioner
from stg_jax.errors import UserError
from stg_jax.extract.base import Extractor
from stg_jax.extract.registry import build_extractor

VideoPath = str | os.PathLike[str]


class VideoCaptioner(Captioner):
    """A captioner that reads video files, with the extractor of the run's training data."""

    @functools.cached_property
    def extractor(self) -> Extractor:
        """The extractor, whose models are loaded at the first use."""
        return build_extractor(self.run.manifest.extractor, self.run.path)

    def caption(self, path: VideoPath, *, beam_size: int | None = None) -> str:
        """Caption a video: the best caption, as text.

        Raises:
          UserError: the file cannot be decoded, or the run's features come from elsewhere.
        """
        (captioned,) = self.captions(path, beam_size=beam_size, number=1)
        return captioned.caption

    def captions(
        self,
        path: VideoPath,
        *,
        segment_seconds: float | None = None,
        beam_size: int | None = None,
        number: int | None = None,
        temperature: float | None = None,
        seed: int = 0,
    ) -> Iterator[Captioned]:
        """Caption each segment of a video, with scores, times and the features behind the captions.

        Args:
          path: the video file.
          segment_seconds: length of a segment; the whole video by default.
          beam_size: the run's own by default; 1 is greedy.
          number: captions of each segment; by default the whole beam, or one random caption.
          temperature: draws captions at random instead of searching; low values favour likely
            words.
          seed: of the random captions.

        Raises:
          UserError: the file cannot be decoded, or the options contradict each other.
        """
        choose = self._choose_fn(beam_size, number, temperature, seed)
        return caption_video(self.extractor, choose, path, segment_seconds)

    def explain(
        self, *paths: VideoPath, segment_seconds: float | None = None, beam_size: int | None = None
    ) -> Report:
        """Caption videos and report which objects and frames each word came from.

        Raises:
          UserError: a file cannot be decoded.
        """
        report = Report()
        for path in paths:
            found = self.captions(path, segment_seconds=segment_seconds, beam_size=beam_size)
            for captioned in found:
                report.add(self, captioned, is_segment=segment_seconds is not None)
        return report

    def _choose_fn(
        self, beam_size: int | None, number: int | None, temperature: float | None, seed: int
    ) -> ChooseFn:
        """Build the function that finds captions of clips, by search or at random."""
        if temperature is not None:
            if beam_size is not None:
                raise UserError('a temperature draws captions and a beam size searches: pass one')
            drawn = {'number': number or 1, 'temperature': temperature, 'seed': seed}
            return functools.partial(random_candidates, self, **drawn)
        width = self.search_options(beam_size)['beam_size']
        if number is not None and number > width:
            raise UserError(
                f'a beam of {width} has no {number} captions: use a beam size of {number}, or a '
                'temperature to draw them'
            )
        return functools.partial(best_candidates, self, beam_size=width, number=number)
