"""What detectors call their classes."""

import ast
import json
from pathlib import Path

# By the numbers of the annotations, of which ten name nothing; most networks leave these out.
_COCO_91 = (
    *('', 'person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat'),
    *('traffic light', 'fire hydrant', '', 'stop sign', 'parking meter', 'bench', 'bird', 'cat'),
    *('dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', '', 'backpack'),
    *('umbrella', '', '', 'handbag', 'tie', 'suitcase', 'frisbee', 'skis', 'snowboard'),
    *('sports ball', 'kite', 'baseball bat', 'baseball glove', 'skateboard', 'surfboard'),
    *('tennis racket', 'bottle', '', 'wine glass', 'cup', 'fork', 'knife', 'spoon', 'bowl'),
    *('banana', 'apple', 'sandwich', 'orange', 'broccoli', 'carrot', 'hot dog', 'pizza', 'donut'),
    *('cake', 'chair', 'couch', 'potted plant', 'bed', '', 'dining table', '', '', 'toilet', ''),
    *('tv', 'laptop', 'mouse', 'remote', 'keyboard', 'cell phone', 'microwave', 'oven', 'toaster'),
    *('sink', 'refrigerator', '', 'book', 'clock', 'vase', 'scissors', 'teddy bear', 'hair drier'),
    'toothbrush',
)
_COCO_80 = tuple(filter(None, _COCO_91))


def by_count(num_classes: int | None) -> tuple[str, ...]:
    """Return the names of COCO's classes where a network has as many, else none.

    80 are COCO's classes in order, 91 are its numbers, 0 for the background.
    """
    return {80: _COCO_80, 91: _COCO_91}.get(num_classes, ())


def in_metadata(text: str) -> tuple[str, ...]:
    """Return names by number from what exporters write into a file, none where it is unreadable.

    Args:
      text: untrusted; a list, or a mapping of numbers to names, in JSON or as Python prints it.
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
            pairs = found.items() if isinstance(found, dict) else enumerate(found)
            names = {int(number): str(name) for number, name in pairs}
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            continue
        return tuple(names.get(number, '') for number in range(len(names)))
    return ()


def beside(path: Path) -> tuple[str, ...]:
    """Return the lines of MODEL.names beside MODEL.onnx, none without such a file."""
    listed = path.with_suffix('.names')
    if not listed.is_file():
        return ()
    lines = listed.read_text('utf-8', errors='replace').splitlines()
    return tuple(line.strip() for line in lines)
