"""Names of a detector's classes."""

import ast
import json
from pathlib import Path

# Indexed by COCO's category ids. Eleven ids were never used; most networks leave them out.
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
# The order in which detectors that leave out the unused ids number the rest.
_COCO_80 = tuple(filter(None, _COCO_91))


def by_count(num_classes: int | None) -> tuple[str, ...]:
    """Guess COCO's names from the number of classes, else return none.

    80 outputs are the used classes in order, 91 are the category ids with 0 for the background.
    """
    return {80: _COCO_80, 91: _COCO_91}.get(num_classes or 0, ())


def in_metadata(text: str) -> tuple[str, ...]:
    """Parse the names that exporters write into a model file; none if that is unreadable.

    Args:
      text: untrusted; a list or a mapping from number to name, as JSON or a Python literal.
    """
    # Ultralytics writes a dict as Python prints it, others JSON. literal_eval executes nothing.
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
    """Read the lines of MODEL.names beside MODEL.onnx; none without such a file."""
    listed = path.with_suffix('.names')
    if not listed.is_file():
        return ()
    # A name in another encoding is shown wrongly, but does not stop the detector.
    lines = listed.read_text('utf-8', errors='replace').splitlines()
    return tuple(line.strip() for line in lines)
