"""Join stretches of a stream whose time stamps do not continue each other."""

from collections.abc import Iterable, Iterator

import av

# As FFmpeg's own player does: transport streams may restart their clock anywhere (joined files,
# recordings of several programs), so there a jump of 10 s is one of the clock. Other formats may
# mean a pause, which ends at 30 hours.
_LONGEST_GAP, _LONGEST_PAUSE = 10.0, 30 * 3600.0
_OVERLAP = 0.1  # seconds that decoding times may go back; presentation times go back with B-frames
_REORDER = 10.0  # seconds between decoding and presentation: more is a damaged time stamp


def repair_timestamps(packets: Iterable[av.Packet], *, may_jump: bool) -> Iterator[av.Packet]:
    """Yield packets with time stamps that never restart or jump absurdly.

    Where a clock goes back or leaps, all that follows is shifted to continue one frame later.
    Decoders copy the time stamps of packets to frames, so both see one clock.

    Args:
      packets: of one stream, in the order of the file.
      may_jump: whether the format allows its clock to restart (FFmpeg's AVFMT_TS_DISCONT).
    """
    shift, step = 0, 0
    last: dict[bool, int] = {}  # by whether it is a decoding time, which is the better basis
    for packet in packets:
        is_dts = packet.dts is not None
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None or not packet.time_base:
            yield packet
            continue
        tick = float(packet.time_base)
        # A frame cannot wait for so many others: the presentation time is damaged.
        if packet.pts is not None and abs(packet.pts - stamp) * tick > _REORDER:
            packet.pts = stamp
        if is_dts in last:
            gap = (stamp + shift - last[is_dts]) * tick
            longest = _LONGEST_GAP if may_jump else _LONGEST_PAUSE
            if -(_OVERLAP if is_dts else _REORDER) <= gap <= longest:
                step = max(step if gap <= 0 else round(gap / tick), 1)
            else:
                shift = last[is_dts] + (step or packet.duration or 1) - stamp
        last = {is_dts: stamp + shift}
        if shift:
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.pts = None if packet.pts is None else packet.pts + shift
        yield packet
