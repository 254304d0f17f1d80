"""Run folders behind gs://, with a folder in place of the bucket."""

import json

import pytest
from etils import epath
from etils.epath import gpath, testing

from stg_jax.errors import UserError
from stg_jax.files import read_json
from stg_jax.run.folder import RunFolder
from stg_jax.train.log import MetricsLog
from tests.fakes.fake_run_folder import MANIFEST, VOCAB, create

RUN = 'gs://bucket/runs/one'


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Serve gs://bucket from a folder."""

    def local(value):
        return str(value).replace('gs://bucket', str(tmp_path))

    def redirected(original, *args, **kwargs):
        return original(*(arg if isinstance(arg, bool) else local(arg) for arg in args), **kwargs)

    monkeypatch.setattr(gpath, '_is_tf_installed', lambda: False)
    names = ('exists', 'isdir', 'listdir', 'makedirs', 'mkdir', 'open', 'remove', 'replace')
    with testing.mock_epath(**dict.fromkeys((*names, 'rename', 'rmtree', 'stat'), redirected)):
        yield tmp_path


def test_a_run_is_described_in_a_bucket_and_read_from_it(bucket):
    create(epath.Path(RUN))
    create(epath.Path(RUN), **{'train.epochs': 99})
    opened = RunFolder.open(RUN)
    assert (opened.config.train.epochs, opened.manifest) == (99, MANIFEST)
    assert opened.vocab.words == VOCAB.words
    files = {path.name for path in (bucket / 'runs' / 'one').iterdir()}
    assert files == {'config.json', 'manifest.json', 'vocab.txt', 'digests.json'}
    with pytest.raises(UserError, match=r'gs://bucket/runs/one belongs to a run of another config'):
        create(epath.Path(RUN), **{'optim.lr': 1.0})
    with pytest.raises(UserError, match=r'gs://bucket/nowhere\.json does not exist'):
        read_json('gs://bucket/nowhere.json')


def test_metrics_are_appended_in_a_bucket_and_cut_back(bucket):
    path = epath.Path(RUN) / 'metrics.jsonl'
    path.parent.mkdir(parents=True)
    for resume_step in (0, 1):
        log = MetricsLog(path, resume_step, active=True)
        for step in (resume_step + 1, resume_step + 2):
            log.write({'step': step})
    lines = (bucket / 'runs' / 'one' / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == [1, 2, 3]
