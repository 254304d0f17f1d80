"""An Apache Beam pipeline writes what this process writes, with several workers."""

import pytest

from stg_jax.errors import UserError
from stg_jax.prepare import workers
from stg_jax.prepare.write import Runner, write_data
from tests.fakes.contents import contents
from tests.fakes.fake_makers import NumberMaker
from tests.fakes.fake_plans import NAMES, plan

pytest.importorskip('apache_beam')


def test_a_pipeline_with_two_workers_writes_the_same_bytes(tmp_path):
    maker = NumberMaker(bad=['c9'])
    options = ['--runner=DirectRunner', '--direct_num_workers=2']
    options.append('--direct_running_mode=multi_processing')
    work_dir = tmp_path / 'work'
    work_dir.mkdir()
    (work_dir / 'thesis.txt').write_text('mine')
    runner = Runner(beam=options, work_dir=str(work_dir))
    write_data(tmp_path / 'beam', plan(maker, NAMES[:10]), runner)
    write_data(tmp_path / 'here', plan(NumberMaker(bad=['c9']), NAMES[:10]), Runner())
    assert contents(tmp_path / 'beam') == contents(tmp_path / 'here')
    assert contents(work_dir) == {'thesis.txt': b'mine'}


def test_what_a_stopped_run_finished_is_not_made_again(tmp_path):
    class Stopped(NumberMaker):
        def make(self, chunk, loaded):
            if self.made == 1:
                raise KeyboardInterrupt
            return super().make(chunk, loaded)

    with pytest.raises(KeyboardInterrupt):
        write_data(tmp_path / 'out', plan(Stopped()), Runner())
    first_chunk = NAMES[: workers.CLIPS_PER_CHUNK]
    runner = Runner(beam=['--runner=DirectRunner', '--direct_running_mode=in_memory'])
    manifest = write_data(tmp_path / 'out', plan(NumberMaker(bad=first_chunk)), runner)
    assert manifest.splits['train']['clips'] == len(NAMES)


def test_a_runner_that_beam_does_not_have_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match='Unexpected pipeline runner: NopeRunner') as refused:
        write_data(tmp_path / 'out', plan(NumberMaker()), Runner(beam=['--runner=NopeRunner']))
    assert '\n' not in str(refused.value)
