"""Short videos whose frames reveal their rank by their brightness."""

import av
import numpy as np


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
