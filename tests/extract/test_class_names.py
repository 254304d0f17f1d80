"""What detectors call their classes, and that a report says so."""

from pathlib import Path

import numpy as np
import pytest

from stg_jax.extract.class_names import by_count, in_metadata
from tests.fakes.fake_detectors import detector, yolov8, yolox
from tests.fakes.fake_onnx import save_constant
from tests.fakes.real_data import real_data

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


def test_cocos_numbers_and_cocos_order_name_the_same_things():
    ids, order = by_count(91), by_count(80)
    assert (ids[1], ids[18], ids[90]) == (order[0], order[16], order[79])
    assert (order[0], order[16], order[79]) == ('person', 'dog', 'toothbrush')
    assert by_count(20) == by_count(None) == ()


@pytest.mark.parametrize('text', ["{0: 'cat', 2: 'x', 1: 'a dog'}", '["cat", "a dog", "x"]'])
def test_names_are_read_as_exporters_write_them(text):
    assert in_metadata(text) == ('cat', 'a dog', 'x')


@pytest.mark.parametrize('text', ['', '5', '[', '{"a": 1}', '__import__("os")', '[' * 10**5])
def test_unreadable_names_are_none(text):
    assert in_metadata(text) == ()


def test_a_file_says_what_its_classes_are_called(tmp_path):
    metadata = {'names': "{0: 'cat', 1: 'dog', 2: 'ant', 3: 'owl'}"}
    path = save_constant(tmp_path / 'x.onnx', yolov8(), metadata=metadata)
    (tmp_path / 'x.names').write_text('other\n')
    found = detector(path)
    (objects,) = found.detect([np.full((40, 80, 3), 99, np.uint8)], 3)
    assert [found.class_names[label] for label in objects.label] == ['ant']


def test_names_lie_beside_a_file_that_has_none(tmp_path):
    path = save_constant(tmp_path / 'x.onnx', yolox())
    assert detector(path).class_names == ()
    Path(tmp_path / 'x.names').write_text('cat\ndog\nant\nowl\n')
    assert detector(path).class_names == ('cat', 'dog', 'ant', 'owl')


def test_a_real_detector_of_80_classes_knows_cocos():
    listed = real_data('detectors', 'coco.names').read_text().splitlines()
    names = detector(real_data('detectors', 'yolox_nano.onnx')).class_names
    assert len(names) == len(listed) == 80
    assert [names[i] for i in (0, 15, 17)] == [listed[i] for i in (0, 15, 17)]
