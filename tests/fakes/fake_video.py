"""Short videos whose frames reveal their rank by their brightness."""

from fractions import Fraction

import av
import numpy as np

TICK = Fraction(1, 90_000)  # seconds


def write_video(path, frames, codec='libx264', pix_fmt='yuv420p', options=None):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        container.mux(stream.encode())
    return path


def grey_ramp(count=40, step=6, size=(32, 48)):
    """Return frames whose brightness tells their rank."""
    return [np.full((*size, 3), step * rank, np.uint8) for rank in range(count)]


def ranks(frames, step=6):
    return np.round(frames.mean((-1, -2, -3)) / step).astype(int)


def write_timed(path, frames, seconds, *, options=None, sound=(), aspect=None, codec='libx264'):
    """Write frames shown at given seconds; `sound` is when a second of silence begins and ends."""
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate=10, options={'bf': '0'} | (options or {}))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = 'yuv420p'
        stream.codec_context.time_base = TICK
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        silence = container.add_stream('aac', rate=8000, layout='mono') if sound else None
        if silence:
            _write_silence(container, silence, *sound)
        for second, frame in zip(seconds, frames, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format='rgb24')
            picture.pts, picture.time_base = round(second / TICK), TICK
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def _write_silence(container, stream, start, end):
    for first in range(int(start * 8000), int(end * 8000), 1000):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), 'fltp', 'mono')
        frame.sample_rate, frame.pts, frame.time_base = 8000, first, Fraction(1, 8000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def set_matrix(path, a, b, c, d):
    """Let an MP4 file show its stored (x, y) at (a x + c y, b x + d y), up to a shift."""
    values = [a, b, 0, c, d, 0, 0, 0, 1]
    fixed = np.array(values) * np.array([65536, 65536, 2**30] * 3)
    content = bytearray(path.read_bytes())
    start = content.index(b'tkhd') + 44
    content[start : start + 36] = fixed.astype('>i4').tobytes()
    path.write_bytes(content)
    return path
