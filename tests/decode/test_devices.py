"""Decoding on one device, on eight and on a pod: the same captions by the same program."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

import stg_jax
from stg_jax.benchmark.tpu import programs
from stg_jax.data.records import read_clips
from stg_jax.decode.captioner import Captioner, stack_clips
from stg_jax.decode.ensemble import Ensemble
from stg_jax.errors import UserError
from stg_jax.evaluate import evaluate as evaluation
from stg_jax.parallel import processes, sharding
from tests.fakes import fake_data, fake_pod, fake_run
from tests.fakes.fake_captioner import MAX_WORDS, fake_captioner
from tests.fakes.untrained_run import untrained_run

NUM_CLIPS = 11  # splits evenly over no number of devices


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """Return a run folder that holds random parameters."""
    folder = tmp_path_factory.mktemp('devices')
    data = fake_data.fake_data_folder(folder, train=6, test=NUM_CLIPS, shard_bytes=2000)
    config = fake_run.tiny_config(data, data__max_words=MAX_WORDS, decode__batch_size=2)
    return untrained_run(folder / 'run', config, params=fake_captioner().params)


def decode(workdir):
    """Return everything that is decoded from clips, on all devices of this process."""
    student, teacher = (Captioner.load(workdir, branch=branch) for branch in ('scene', 'object'))
    clips = list(read_clips(student.run.config.data.dir, 'test'))
    features = stack_clips(clips, fake_data.OBJECTS)
    few = {key: value[:3] for key, value in features.items()}
    hypotheses = {
        'best of all clips': student.search(features, num_best=3),
        'few clips': teacher.search(few, beam_size=2, length_penalty=0.0),
        'drawn': teacher.sample(features, 4, temperature=1.5, seed=2**32 - 1),
        'ensemble': Ensemble([student, student]).search(few),
    }
    captions = {'call': student(features), 'one clip': teacher.caption_clips(clips[4:5])}
    return jax.tree.map(np.asarray, hypotheses), captions, evaluate(student)


def evaluate(captioner):
    # Without METEOR, which takes ten seconds to start.
    evaluation.score = functools.partial(evaluation.score, metrics=('bleu',))
    found = evaluation.evaluate_captioner(captioner, 'test')
    return None if found is None else found.predictions


def evaluate_on_a_pod(workdir):
    return evaluate(Captioner.load(workdir))


@pytest.fixture(scope='module')
def on_one_device(workdir):
    return fake_pod.run(1, 1, decode, workdir)[0]


@pytest.mark.slow
def test_eight_devices_find_the_captions_of_one(workdir, on_one_device):
    [(found, captions, predictions)] = fake_pod.run(1, 8, decode, workdir)
    wanted, wanted_captions, wanted_predictions = on_one_device
    for name, hypotheses in wanted.items():
        np.testing.assert_array_equal(found[name].token_BKL, hypotheses.token_BKL, err_msg=name)
        np.testing.assert_allclose(found[name].score_BK, hypotheses.score_BK, rtol=1e-4)
    assert captions == wanted_captions
    assert predictions == wanted_predictions
    assert len(predictions) == NUM_CLIPS and len(set(predictions.values())) > 1


@pytest.mark.slow
def test_a_pod_evaluates_as_one_device_does_and_host_0_has_the_result(workdir, on_one_device):
    predictions = on_one_device[-1]
    assert fake_pod.run(2, 2, evaluate_on_a_pod, workdir) == [predictions, None]


def evaluate_without_a_run(workdir):
    return stg_jax.evaluate(workdir if processes.is_first() else workdir.with_name('nothing'))


@pytest.mark.slow
def test_a_run_that_one_host_cannot_read_is_reported_by_all_hosts(workdir):
    for error in fake_pod.run(2, 1, evaluate_without_a_run, workdir):
        assert isinstance(error, UserError)
        assert str(error).startswith('host 1: ') and 'nothing holds no run' in str(error)


def test_tpu_estimate_compiles_the_search_of_an_evaluation():
    captioner = with_scales_of_one(fake_captioner())
    config, num_words = captioner.run.config, len(captioner.run.vocab)
    estimated = programs.decoding(config, captioner.mesh, num_words).lowered
    batch = stack_clips(fake_data.fake_clips(config.decode.batch_size), fake_data.OBJECTS)
    shapes = (
        sharding.replicated_shapes(captioner.params, captioner.mesh),
        sharding.sharded_shapes(as_stored(captioner.inputs(batch)), captioner.mesh),
    )
    evaluated = captioner.search_program().lower(*shapes)
    assert estimated.as_text() == evaluated.as_text()


def as_stored(batch):
    """Return the features in the type that records hold."""
    return {key: value.astype(np.float16) for key, value in batch.items()}


def with_scales_of_one(captioner):
    """Return the captioner with the feature scales that are assumed where there are no data."""
    scale = dict.fromkeys(captioner.run.manifest.scale, 1.0)
    manifest = dataclasses.replace(captioner.run.manifest, scale=scale)
    run = dataclasses.replace(captioner.run, manifest=manifest)
    return Captioner(run, captioner.params, captioner.step, captioner.branch)
