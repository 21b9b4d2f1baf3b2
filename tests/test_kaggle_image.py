"The imitation of Kaggle's image: where it cannot be made that is said in a sentence, and what is replaced is noticed."
import json
import sys
from pathlib import Path

import pytest

from shutka.core.errors import UserError
from shutka.export.wheels import IMAGE

sys.path.insert(0, str(Path(__file__).parents[1]/'tools'))
import kaggle_image  # noqa: E402


def told(capsys) -> str:
    "The one line on stderr."
    out, err = capsys.readouterr()
    assert not out and err.count('\n') == 1 and err.startswith("Kaggle's image is not imitated: ")
    return err


def test_without_the_images_python(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kaggle_image, 'ROOM', 0)
    monkeypatch.setattr(Path, 'home', lambda: tmp_path)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert kaggle_image.main() == 2
    assert 'Python 3.12 must be installed' in told(capsys)


def test_without_room(monkeypatch, capsys):
    monkeypatch.setattr(kaggle_image, 'ROOM', 10**18)
    assert kaggle_image.main() == 2
    assert 'bytes free' in told(capsys)


def test_without_an_index(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(kaggle_image, 'ROOM', 0)
    monkeypatch.setattr(kaggle_image, 'find_python', lambda: sys.executable)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_CONFIG_FILE', '/dev/null')
    monkeypatch.delenv('PIP_FIND_LINKS', raising=False)
    assert kaggle_image.main() == 2
    assert 'pip install ends with 1' in told(capsys)


@pytest.mark.parametrize('name, replaced', [('torch', True), ('nbclient', True), ('rensa', False)])
def test_what_would_be_replaced(monkeypatch, tmp_path, name, replaced):
    def run(*words, **options):
        report = {'install': [{'metadata': {'name': name}}, {'metadata': {'name': 'bm25s'}}]}
        if '--report' in words: words[words.index('--report') + 1].write_text(json.dumps(report))
        return json.dumps([{'name': package, 'version': v} for package, v in IMAGE.items()])
    monkeypatch.setattr(kaggle_image, 'run', run)
    if not replaced: return kaggle_image.check_install(Path('python'), tmp_path, 'shutka')
    with pytest.raises(UserError, match=f'pip would replace {name}'):
        kaggle_image.check_install(Path('python'), tmp_path, 'shutka')
