"""Join stretches of a stream whose time stamps do not continue each other."""

from collections.abc import Iterable, Iterator

import av

# All in seconds. The first two are FFmpeg's: transport streams may restart their clock anywhere
# (joined files, recordings of several programs), so a leap of 10 s is one of the clock. In other
# formats it is a pause, up to 30 hours.
_LONGEST_GAP, _LONGEST_PAUSE = 10.0, 30 * 3600.0
# Decoding times never go back in a sound file; rounding may move them a little. Presentation times
# go back with every B-frame, by a few frames of any rate.
_DECODING_STEP_BACK, _PRESENTATION_STEP_BACK = 0.1, 10.0
# Between decoding and presentation, a few frames even of a slide show.
_LONGEST_DELAY = 3600.0


def repair_timestamps(packets: Iterable[av.Packet], *, may_jump: bool) -> Iterator[av.Packet]:
    """Yield packets with time stamps that never restart or jump absurdly.

    Where a clock goes back or leaps, all that follows is shifted to continue one frame later.
    Decoders copy the time stamps of packets to frames, so both see one clock.

    Args:
      packets: of one stream, in the order of the file.
      may_jump: whether the format allows its clock to restart (FFmpeg's AVFMT_TS_DISCONT).
    """
    shift, step = 0, 0
    # The last time by its kind, decoding or presentation: some files lack the former in places, and
    # the two must not be compared.
    last: dict[bool, int] = {}
    for packet in packets:
        is_dts = packet.dts is not None
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None or not packet.time_base:
            yield packet
            continue
        tick = float(packet.time_base)
        # A frame cannot wait so long for others: its presentation time is damaged.
        if packet.pts is not None and abs(packet.pts - stamp) * tick > _LONGEST_DELAY:
            packet.pts = stamp
        if is_dts in last:
            gap = (stamp + shift - last[is_dts]) * tick
            back = _DECODING_STEP_BACK if is_dts else _PRESENTATION_STEP_BACK
            if -back <= gap <= (_LONGEST_GAP if may_jump else _LONGEST_PAUSE):
                step = max(step if gap <= 0 else round(gap / tick), 1)
            else:
                shift = last[is_dts] + (step or packet.duration or 1) - stamp
        last = {is_dts: stamp + shift}
        if shift:
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.pts = None if packet.pts is None else packet.pts + shift
        yield packet
