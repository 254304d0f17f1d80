"""What a command shows of its work on a terminal and in a log."""

import pytest

from stg_jax.cli import progress


@pytest.fixture
def seconds(monkeypatch):
    """Return a list whose last entry is the time."""
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[-1])
    return now


def test_a_log_is_told_every_ten_seconds(seconds, capsys):
    status = progress.StatusLine()
    for second in (1, 9, 11, 12, 25):
        seconds.append(second)
        status.show(f'after {second}')
        status.clear()
    assert capsys.readouterr().err == 'after 11\nafter 25\n'


def test_a_terminal_shows_one_line_and_clears_it(seconds, capsys, monkeypatch):
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    status = progress.StatusLine()
    status.show('first')
    status.show('second')
    status.clear()
    assert capsys.readouterr().err == '\r\033[Kfirst\r\033[Ksecond\r\033[K'
