"""Sentences about clips, those that say the same of many clips said once."""

import dataclasses


@dataclasses.dataclass
class Findings:
    """What was found, in the order in which it was first seen.

    Attributes:
      clips: for each sentence the clips it is about, as (how many, the first), or None where it is
        about something else.
    """

    clips: dict[str, tuple[int, str] | None] = dataclasses.field(default_factory=dict)

    def add(self, sentence: str, clip_id: str | None = None) -> None:
        """Note a sentence, about a clip or about something else."""
        if clip_id is None:
            self.clips[sentence] = None
        else:
            number, first = self.clips.get(sentence, (0, clip_id))
            self.clips[sentence] = number + 1, first

    @property
    def sentences(self) -> list[str]:
        """Return one sentence for each finding."""
        return [
            sentence if clips is None else f'{_whose(*clips)}: {sentence}'
            for sentence, clips in self.clips.items()
        ]


def _whose(number: int, first: str) -> str:
    return f'clip {first}' if number == 1 else f'{number:,} clips, the first {first}'
