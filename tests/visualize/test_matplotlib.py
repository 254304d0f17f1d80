"""Fonts for captions in any script."""

import types

import pytest

pytest.importorskip('matplotlib')
from matplotlib import font_manager

from stg_jax.errors import UserError
from stg_jax.visualize.matplotlib import font_file

CHINESE = '一个男人 runs'


def install(monkeypatch, *paths):
    fonts = types.SimpleNamespace(ttflist=[types.SimpleNamespace(fname=str(x)) for x in paths])
    monkeypatch.setattr(font_manager, 'fontManager', fonts)


def test_the_usual_font_writes_what_it_can():
    assert (
        font_file().name == font_file('ein Mädchen läuft, девушка бежит').name == 'DejaVuSans.ttf'
    )


def test_a_script_without_a_font_is_refused_by_name(monkeypatch, tmp_path):
    broken = tmp_path / 'broken.ttf'
    broken.write_bytes(b'no font')
    install(monkeypatch, broken, tmp_path / 'missing.ttf', font_file())
    with pytest.raises(UserError, match=r'no installed font can write .*一个.*Noto Sans CJK'):
        font_file(CHINESE)


def test_an_installed_font_with_all_characters_is_found(monkeypatch, tmp_path):
    builder = pytest.importorskip('fontTools.fontBuilder').FontBuilder(1000, isTTF=True)
    glyph = pytest.importorskip('fontTools.pens.ttGlyphPen').TTGlyphPen(None).glyph()
    names = {ord(each): f'u{ord(each)}' for each in set(CHINESE)}
    builder.setupGlyphOrder(['.notdef', *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf(dict.fromkeys(builder.font.getGlyphOrder(), glyph))
    builder.setupHorizontalMetrics(dict.fromkeys(builder.font.getGlyphOrder(), (500, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({'familyName': 'Two', 'styleName': 'Regular'})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / 'two.ttf')
    install(monkeypatch, tmp_path / 'two.ttf')
    assert font_file(CHINESE) == tmp_path / 'two.ttf'
