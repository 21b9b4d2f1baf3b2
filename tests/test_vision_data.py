"Pictures on their way to a model: manifests, emoji from hostile packages, frozen models, views, and kept features."
import io
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import tarfile
import time
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shutka.core.errors import UserError
from shutka.core.hashes import make_rng
from shutka.vision import emoji as emoji_room
from shutka.vision import features as features_room
from shutka.vision.drawings import draw_svg
from shutka.vision.emoji import EMOJI_SETS, make_emoji_key, open_emoji
from shutka.vision.features import FeatureCache
from shutka.vision.manifest import VisionRecord, open_picture, read_vision_manifest, write_vision_manifest
from shutka.vision.scenes import COLOURS, HELD_OUT_PAIRS, SHAPES, draw_scene, render_scene
from shutka.vision.views import blank_picture, make_view, may_flip

FORK = multiprocessing.get_context('fork')


def save_pictures(folder: Path, n: int, size: int = 16) -> list[VisionRecord]:
    "A folder of small pictures with captions, as records that were read."
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n): Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(folder/f'{i}.png')
    write_vision_manifest(folder, [VisionRecord('text', folder/f'{i}.png', f'a thing {"ab"[i % 2]}') for i in range(n)])
    return list(read_vision_manifest(folder))


# Manifests

def test_a_manifest_of_all_kinds_reads_back_equal(tmp_path):
    save_pictures(tmp_path/'in'/'deep', 3)
    image = [tmp_path/'in'/'deep'/f'{i}.png' for i in range(3)]
    records = [VisionRecord('text', image[0], 'Größe 7 "x"\nline', group='a-b', tags=('one', 'two words')),
               VisionRecord('question', image[1], 'yes', 'Is it?', tags=('🙂',)),
               VisionRecord('moment', None, '', 'why?', True, 'search', group='g'),
               VisionRecord('moment', image[2], '', 'what?', False)]
    assert write_vision_manifest(tmp_path/'in', records) == 4
    found = list(read_vision_manifest(tmp_path/'in'))
    assert found == [replace(record, image=record.image and record.image.resolve()) for record in records]
    assert [record.where for record in found] == [f'manifest.jsonl:{i}' for i in (1, 2, 3, 4)]
    shutil.move(tmp_path/'in', tmp_path/'elsewhere')
    assert [record.text for record in read_vision_manifest(tmp_path/'elsewhere')] == [record.text for record in records]


@pytest.mark.parametrize('field, value, why', [
    ('group', '', "must be a text with letters, got ''"), ('group', 7, 'got 7'), ('group', None, 'got None'),
    ('tags', None, 'must be a list of texts with letters, got None'), ('tags', 'a', "got 'a'"),
    ('tags', [''], r"got \[''\]"), ('tags', [['a']], 'must be a list'), ('tags', {'a': 1}, 'must be a list')])
def test_groups_and_tags_are_checked(tmp_path, field, value, why):
    save_pictures(tmp_path/'in', 1)
    row = {'image': '0.png', 'text': 'a', field: value}
    (tmp_path/'in'/'manifest.jsonl').write_text(f'{json.dumps({"image": "0.png", "text": "b"})}\n{json.dumps(row)}\n')
    with pytest.raises(UserError, match=f"manifest.jsonl:2: '{field}' .*{why}"):
        list(read_vision_manifest(tmp_path/'in'))


# Emoji

def png(size: int = 64, colour: str = 'gold') -> bytes:
    file = io.BytesIO()
    Image.new('RGBA', (size, size), colour).save(file, 'PNG')
    return file.getvalue()


ROWS = [('1F600', 'grinning face', 0, ['happy']), ('00A9-FE0F', 'copyright', 1, []),
        ('1F449', 'pointing right', 0, ['hand'])]
ICONS = {'width': 36, 'height': 36, 'icons': {'a': {'body': '<path fill="#c96" d="M2 16L16 4v24z"/>'}},
         'aliases': {'b': {'parent': 'a', 'hFlip': True}, 'c': {'parent': 'b', 'hFlip': True, 'vFlip': True}}}
CHARS = {'1f600': 'a', 'a9-fe0f': 'b', '1f449': 'c'}
MIT = {'LICENSE': 'The MIT License'}
PACKAGES = {
    'emojibase-data@17.0.0': MIT | {
        'en/data.json': [{'hexcode': code, 'label': label, 'subgroup': i, 'tags': tags}
                         for code, label, i, tags in ROWS],
        'meta/groups.json': {'subgroups': {'0': 'face-smiling', '1': 'other-symbol'}}},
    'emojilib@4.0.3': MIT | {
        'dist/emoji-en-US.json': {'😀': ['grinning_face', 'Happy', ':D', 'big_smile'], '©': ['law']}},
    'emoji-datasource-google@16.0.0': MIT | {
        'emoji.json': [{'unified': code, 'name': label.upper(), 'image': f'{code.lower()}.png'}
                       for code, label, *_ in ROWS],
        **{f'img/google/64/{code.lower()}.png': png() for code, *_ in ROWS}},
    '@iconify-json/twemoji@1.2.5': {'README.md': '# Twitter Emoji', 'icons.json': ICONS, 'chars.json': CHARS,
                                    'info.json': {'license': {'spdx': 'CC-BY-4.0'}}},
    '@iconify-json/fluent-emoji-flat@1.2.6': {'icons.json': ICONS, 'chars.json': CHARS,
                                              'info.json': {'license': {'spdx': 'MIT'}}}}


@pytest.fixture
def packages(tmp_path, monkeypatch):
    "Tiny packages in the cache; `packages(name, changes)` puts another one there."
    monkeypatch.setenv('SHUTKA_CACHE', str(tmp_path/'cache'))
    monkeypatch.setenv('PATH', '')   # no npm: nothing is fetched

    def write(name: str, changes: dict):
        path = tmp_path/'cache'/'npm'/f'{name}.tgz'
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, 'w:gz') as tar:
            for inside, data in (PACKAGES[name] | changes).items():
                if data is None: continue
                if not isinstance(data, bytes): data = (data if isinstance(data, str) else json.dumps(data)).encode()
                info = tarfile.TarInfo(f'package/{inside}')
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    for name in PACKAGES: write(name, {})
    return write


def test_the_same_words_and_names_in_each_style(packages, tmp_path):
    said = {}
    for name in EMOJI_SETS:
        facts = open_emoji(f'emoji:{name}', tmp_path/name)
        records = list(read_vision_manifest(tmp_path/name))
        said[name] = [(record.image.name, record.text, record.group, record.tags) for record in records]
        assert (facts['pictures'], facts['groups'], facts['licence']) == (3, 2, EMOJI_SETS[name].licence)
        notice = (tmp_path/name/'NOTICE.md').read_text()
        for words in (EMOJI_SETS[name].art, EMOJI_SETS[name].terms, 'emojilib 4.0.3', 'emojibase-data 17.0.0'):
            assert words in notice
        licences = {path.name for path in (tmp_path/name/'licences').iterdir()}
        assert {'emojilib-4.0.3-LICENSE', 'emojibase-data-17.0.0-LICENSE'} < licences
        assert open_picture(records[0].image).shape == (*((64, 64) if name == 'google' else (72, 72)), 3)
    assert said['google'] == said['twemoji'] == said['fluent'] == [
        ('1f600.png', 'grinning face', 'face-smiling', ('happy', ':D', 'big smile')),
        ('00a9.png', 'copyright', 'other-symbol', ('law',)),
        ('1f449.png', 'pointing right', 'face-smiling', ('hand',))]
    assert 'Twitter' in (tmp_path/'twemoji'/'NOTICE.md').read_text()
    assert 'iconify-json-twemoji-1.2.5-README.md' in {path.name for path in (tmp_path/'twemoji'/'licences').iterdir()}


def test_a_mirrored_drawing_is_mirrored(packages, tmp_path):
    open_emoji('emoji:twemoji', tmp_path/'out')
    straight, across, down = (open_picture(tmp_path/'out'/f'{key}.png').astype(int)
                              for key in ('1f600', '00a9', '1f449'))
    assert np.abs(straight - across[:, ::-1]).mean() < 1 < np.abs(straight - across).mean()
    assert np.abs(straight - down[::-1]).mean() < 1   # across twice, and down once


BASE, LIB, GOOGLE, TWEMOJI, _ = PACKAGES
FACE = {'unified': '1f600', 'name': 'X', 'image': '1f600.png'}


def icons(**drawings: dict) -> dict: return {'icons.json': {'icons': drawings}}


HOSTILE = {
    'no list of emoji': (GOOGLE, {'emoji.json': None}, 'must have emoji.json'),
    'not JSON': (GOOGLE, {'emoji.json': '[{'}, 'emoji.json: not valid JSON'),
    'deep JSON': (GOOGLE, {'emoji.json': '[' * 100_000}, 'nested too deeply'),
    'an object': (GOOGLE, {'emoji.json': {}}, 'must hold a list, got dict'),
    'no emoji': (GOOGLE, {'emoji.json': []}, 'must have pictures of emoji, and has none'),
    'a number': (GOOGLE, {'emoji.json': [7]}, 'must be an object with a name, got 7'),
    'a path for a key': (GOOGLE, {'emoji.json': [FACE | {'unified': '../../x'}]}, 'code points'),
    'a path for a picture': (GOOGLE, {'emoji.json': [FACE | {'image': '../../emoji.json'}]}, 'must have the picture'),
    'twice': (GOOGLE, {'emoji.json': [FACE] * 2}, '1f600 twice'),
    'a missing picture': (GOOGLE, {'img/google/64/1f600.png': None}, "must have the picture '1f600.png'"),
    'no picture': (GOOGLE, {'img/google/64/1f600.png': b'GIF89a'}, '1f600 must be a PNG'),
    'a cut picture': (GOOGLE, {'img/google/64/1f600.png': png()[:80]}, '1f600 must be a PNG'),
    'a wide picture': (GOOGLE, {'img/google/64/1f600.png': png(600)}, 'at most 512 pixels'),
    'a heavy picture': (GOOGLE, {'img/google/64/1f600.png': png() + bytes(300_000)}, 'at most 200,000 bytes'),
    'a large list': (LIB, {'dist/emoji-en-US.json': b' ' * 13_000_000}, 'at most 12,000,000 bytes'),
    'keywords that are none': (LIB, {'dist/emoji-en-US.json': {'😀': 'happy'}}, 'keywords must be a list'),
    'long keywords': (LIB, {'dist/emoji-en-US.json': {'😀': ['x' * 300]}}, 'keywords must be a list of short texts'),
    'no label': (BASE, {'en/data.json': [{'hexcode': '1F600', 'subgroup': 0}]}, 'must have a label, got None'),
    'no groups': (BASE, {'meta/groups.json': {}}, 'subgroups too'),
    'no code': (BASE, {'en/data.json': [{'label': 'x'}]}, 'code points'),
    'another licence': (TWEMOJI, {'info.json': {'license': {'spdx': 'MIT'}}}, "licence CC-BY-4.0, got 'MIT'"),
    'a file in a drawing': (TWEMOJI, icons(a={'body': '<image href="/etc/passwd"/>'}), 'of shapes'),
    'no icon': (TWEMOJI, icons(), "must have the drawing 'a'"),
    'an icon without end': (TWEMOJI, {'icons.json': {'icons': {}, 'aliases': {'a': {'parent': 'a'}}}},
                            "must have the drawing 'a'"),
    'a list for a name': (TWEMOJI, {'chars.json': {'1f600': ['a']}}, 'must have the drawing'),
    'a box of text': (TWEMOJI, icons(a={'body': '<g/>', 'width': 'x'}), 'a width and a height'),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_a_hostile_package_is_refused_and_nothing_written(packages, tmp_path, name):
    package, changes, why = HOSTILE[name]
    packages(package, changes)
    spec = 'emoji:twemoji' if package == TWEMOJI else 'emoji:'
    with pytest.raises(UserError, match=why): open_emoji(spec, tmp_path/'out')
    assert not (tmp_path/'out').exists()


def test_a_damaged_tarball_and_a_missing_one(packages, tmp_path):
    place = tmp_path/'cache'/'npm'/f'{GOOGLE}.tgz'
    place.write_bytes(place.read_bytes()[:200])
    with pytest.raises(UserError, match='is damaged'): open_emoji('emoji:', tmp_path/'out')
    place.unlink()
    with pytest.raises(UserError, match='npm: sources need npm'): open_emoji('emoji:', tmp_path/'out')


@pytest.mark.parametrize('at', range(1, 10))
def test_a_killed_writing_leaves_no_folder_that_looks_whole(packages, tmp_path, at):
    "Killed at each of the moments at which something reaches the disk; the same command completes the folder."
    def work():
        real, count = os.fsync, [0]

        def fsync(fd):
            count[0] += 1
            if count[0] == at: os.kill(os.getpid(), signal.SIGKILL)
            real(fd)
        os.fsync = fsync
        open_emoji('emoji:fluent', tmp_path/'out')

    child = FORK.Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert not (tmp_path/'out'/'manifest.jsonl').exists()
    open_emoji('emoji:fluent', tmp_path/'out')
    open_emoji('emoji:fluent', tmp_path/'other')
    listing = [sorted(path.relative_to(tmp_path/one) for path in (tmp_path/one).rglob('*') if path.name[0] != '.')
               for one in ('out', 'other')]
    assert listing[0] == listing[1]
    assert len(list(read_vision_manifest(tmp_path/'out'))) == 3


def test_a_folder_is_filled_once_and_never_mixed(packages, tmp_path, monkeypatch):
    facts = open_emoji('emoji:', tmp_path/'out')
    monkeypatch.setattr(emoji_room, 'read_members', None)   # nothing is read again
    assert open_emoji('emoji:google', tmp_path/'out') == facts
    with pytest.raises(UserError, match="and holds 'emoji:google'"): open_emoji('emoji:fluent', tmp_path/'out')
    (tmp_path/'full').mkdir()
    (tmp_path/'full'/'mine.txt').touch()
    with pytest.raises(UserError, match='must be empty, or hold emoji:google, and holds mine.txt'):
        open_emoji('emoji:', tmp_path/'full')


def test_no_file_gets_into_a_drawing(tmp_path):
    "The renderer alone does read such a file: this is why the drawing is checked first."
    import resvg_py
    Image.new('RGB', (8, 8), 'red').save(tmp_path/'secret.png')
    body = f'<image href="{tmp_path}/secret.png" width="32" height="32"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" width="32" height="32">{body}</svg>'
    assert Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg)))).getpixel((9, 9)) == (255, 0, 0, 255)
    for hostile in (body, f'<g>{body}</g>', body.replace('image', 'feImage'), body.replace('image', 'use'),
                    f'<a:image xmlns:a="http://www.w3.org/2000/svg" href="{tmp_path}/secret.png"/>',
                    f'<g xmlns="x">{body}</g>', f'<![CDATA[{body}]]>', f'<rect fill="url({tmp_path}/secret.png#a)"/>',
                    f'<rect style="fill:url({tmp_path}/secret.png)"/>', '<rect fill="u&#x72;l(/a)"/>'):
        with pytest.raises(UserError, match='it: '): draw_svg(hostile, (0, 0, 32, 32), 32, 'it')


def test_drawings_that_would_never_end_are_refused_at_once():
    masks = ''.join(f'<clipPath id="m{i}" clip-path="url(#m{i - 1})"><use href="#m{i - 1}"/></clipPath>'
                    for i in range(14))
    blur = '<filter id="f">' + '<feGaussianBlur stdDeviation="100"/>' * 10 + '</filter>'
    began = time.monotonic()
    for body in ('<g>' * 60_000 + '</g>' * 6_000, '<use href="#a"/>' * 10_000, masks,
                 blur + '<g id="a" filter="url(#f)"/>' + '<use href="#a"/>' * 25, '<g' + ' ' * 250_000 + '/>'):
        with pytest.raises(UserError, match='it: '): draw_svg(body, (0, 0, 32, 32), 32, 'it')
    assert time.monotonic() - began < 2


@pytest.mark.net
def test_real_packages(tmp_path):
    keys = {}
    for name, n in (('google', 1911), ('twemoji', 1914), ('fluent', 1594)):
        assert open_emoji(f'emoji:{name}', tmp_path/name)['pictures'] == n
        keys[name] = {record.image.name: record.text for record in read_vision_manifest(tmp_path/name)}
    shared = keys['google'].keys() & keys['fluent'].keys() & keys['twemoji'].keys()
    assert len(shared) > 1500
    assert all(keys['google'][key] == keys['fluent'][key] == keys['twemoji'][key] for key in shared)


# Frozen models

TINY = {'hidden_size': 32, 'num_hidden_layers': 2, 'num_attention_heads': 2, 'patch_size': 8}
KINDS = {   # settings, tokens at 32 pixels, tokens at 48 pixels
    'Dinov2Config': ({'image_size': 32, 'mlp_ratio': 2}, 17, 37),
    'ViTConfig': ({'image_size': 32, 'intermediate_size': 64}, 17, 37),
    'IJepaConfig': ({'image_size': 32, 'intermediate_size': 64}, 16, 36),
    'SiglipVisionConfig': ({'image_size': 32, 'intermediate_size': 64}, 16, 36),
    'VJEPA2Config': ({'crop_size': 32, 'frames_per_clip': 4, 'mlp_ratio': 2, 'pred_hidden_size': 32,
                      'pred_num_attention_heads': 2, 'pred_num_hidden_layers': 1}, 16, 36)}
PREPARING = {'size': {'height': 32, 'width': 32}, 'image_mean': [.5] * 3, 'image_std': [.5] * 3}


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    "Folders of tiny models with random weights, by the name of their settings."
    import torch
    import transformers as t
    root = tmp_path_factory.mktemp('models')
    for name, (settings, *_) in KINDS.items():
        torch.manual_seed(0)
        t.AutoModel.from_config(getattr(t, name)(**TINY | settings)).save_pretrained(root/name)
    part = {**TINY, 'image_size': 32, 'intermediate_size': 64}
    words = {'hidden_size': 32, 'num_hidden_layers': 1, 'num_attention_heads': 2, 'intermediate_size': 64,
             'vocab_size': 50}
    t.SiglipModel(t.SiglipConfig(text_config=words, vision_config=part)).save_pretrained(root/'SiglipConfig')
    t.ViTForImageClassification(t.ViTConfig(**part)).save_pretrained(root/'classifier')
    for folder in root.iterdir(): (folder/'preprocessor_config.json').write_text(json.dumps(PREPARING))
    return root


@pytest.fixture(scope='module')
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize('name', [*KINDS, 'SiglipConfig', 'classifier'])
def test_each_kind_of_model_opens_from_a_folder(tiny, pictures, name):
    from shutka.models.vision_encoders import open_vision_encoder
    _, small, large = KINDS.get(name, KINDS['SiglipVisionConfig'] if name == 'SiglipConfig' else KINDS['ViTConfig'])
    encoder = open_vision_encoder(tiny/name)
    found = encoder.encode(pictures)
    assert (found.shape, found.dtype, encoder.tokens, encoder.width) == ((11, small, 32), np.float32, small, 32)
    for some in (slice(0, 1), slice(3, 10), slice(10, 11)):   # the same to the last digit, whatever the batch
        assert (encoder.encode(pictures[some]) == found[some]).all()
    assert (open_vision_encoder(tiny/name).encode(pictures[:2]) == found[:2]).all()
    assert open_vision_encoder(tiny/name, 48).tokens == large
    assert encoder.takes_clips == (name == 'VJEPA2Config')
    assert not np.allclose(found[0], found[1])


def test_vectors_are_those_of_the_model(tiny, pictures):
    import torch
    import transformers as t

    from shutka.models.vision_encoders import open_vision_encoder
    x = torch.tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        vit = t.ViTModel.from_pretrained(tiny/'ViTConfig', add_pooling_layer=False).eval()(x).last_hidden_state.numpy()
        video = t.VJEPA2Model.from_pretrained(tiny/'VJEPA2Config').eval()
        clip = video.get_vision_features(x[None, :4])[0].numpy()
    assert np.allclose(open_vision_encoder(tiny/'ViTConfig').encode(pictures), vit, atol=1e-4)
    encoder = open_vision_encoder(tiny/'VJEPA2Config')
    assert np.allclose(encoder.encode_clip(pictures[:4]), clip, atol=1e-4)
    assert np.allclose(encoder.encode_clip(pictures[:1]), encoder.encode(pictures[:1])[0], atol=1e-5)
    for n in (0, 3, 6):
        with pytest.raises(UserError, match='a clip for .* must have 1 to 4 frames'): encoder.encode_clip(pictures[:n])
    with pytest.raises(UserError, match='takes no clips'): open_vision_encoder('patches').encode_clip(pictures)


def test_a_digest_changes_with_weights_size_and_scale(tiny, tmp_path):
    import transformers as t

    from shutka.models.vision_encoders import open_vision_encoder
    asked = ((tiny/'ViTConfig',), (tiny/'ViTConfig', 48), ('patches',), ('patches:4',), ('patches', 64),
             ('efficientnet', 32))
    found = {open_vision_encoder(*how).digest for how in asked}
    shutil.copytree(tiny/'ViTConfig', tmp_path/'same')
    assert open_vision_encoder(tmp_path/'same').digest in found
    (tmp_path/'same'/'preprocessor_config.json').write_text(json.dumps(PREPARING | {'image_std': [.4] * 3}))
    found.add(open_vision_encoder(tmp_path/'same').digest)
    t.ViTModel(t.ViTConfig(**TINY, image_size=32, intermediate_size=64)).save_pretrained(tmp_path/'same')
    found.add(open_vision_encoder(tmp_path/'same').digest)
    assert len(found) == 8


class Canary:
    "Unpickled carelessly, it makes a file."
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)


def test_no_pickle_is_run(tiny, tmp_path, monkeypatch):
    import torch

    from shutka.models import vision_encoders
    shutil.copytree(tiny/'ViTConfig', tmp_path/'pickled')
    (tmp_path/'pickled'/'model.safetensors').unlink()
    torch.save(Canary(tmp_path/'ran'), tmp_path/'pickled'/'pytorch_model.bin')
    with pytest.raises(UserError, match='must hold its weights as safetensors'):
        vision_encoders.open_vision_encoder(tmp_path/'pickled')
    (tmp_path/'models').mkdir()
    places = {name: ModuleSpec(name, None, origin=str(tmp_path/'__init__.py'))
              for name in vision_encoders._EFFICIENTNET}
    monkeypatch.setattr(vision_encoders, 'find_spec', places.get)
    with pytest.raises(UserError, match='must hold one file of weights, and holds 0'):
        vision_encoders.open_vision_encoder('efficientnet')
    weights = tmp_path/'models'/'efficientnet-lite0-1.pth'
    for write in (lambda: torch.save(Canary(tmp_path/'ran'), weights),
                  lambda: torch.save({'a': torch.ones(1)}, weights),
                  lambda: weights.write_bytes(pickle.dumps(Canary(tmp_path/'ran'), 2)),
                  lambda: weights.write_bytes(b''),
                  lambda: torch.save([1], weights)):
        write()
        with pytest.raises(UserError, match='must hold the weights of EfficientNet-Lite0, and does not'):
            vision_encoders.open_vision_encoder('efficientnet')
    assert not (tmp_path/'ran').exists()
    monkeypatch.setattr(vision_encoders, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r'pip install shutka\[vision\]'):
        vision_encoders.open_vision_encoder('efficientnet')


def test_efficientnet_says_the_same_whatever_the_batch(pictures):
    from shutka.models.vision_encoders import open_vision_encoder
    encoder = open_vision_encoder('efficientnet', 64)
    large = np.stack([np.asarray(Image.fromarray(one).resize((64, 64))) for one in pictures])
    found = encoder.encode(large)
    assert found.shape == (11, 4, 1280)
    assert all((encoder.encode(large[i:i + 1])[0] == found[i]).all() for i in (0, 5, 10))
    assert open_vision_encoder('efficientnet').tokens == 25


def test_efficientnet_looks_in_several_sizes(pictures):
    from shutka.models.vision_encoders import open_vision_encoder
    large = np.stack([np.asarray(Image.fromarray(one).resize((64, 64))) for one in pictures])
    both, whole = open_vision_encoder('efficientnet:32,64'), open_vision_encoder('efficientnet', 64)
    found = both.encode(large)
    assert found.shape == (11, 2, 1280) and both.digest != whole.digest
    assert np.allclose(found[:, 1], whole.encode(large).mean(1), atol=1e-5)   # its own size: nothing is shrunk
    assert all((both.encode(large[i:i + 1])[0] == found[i]).all() for i in (0, 5, 10))
    for name, why in (('efficientnet:', 'a vision encoder must be'), ('efficientnet:64,', 'a vision encoder must be'),
                      ('efficientnet:0', 'a vision encoder must be'),
                      ('efficientnet:64,100', 'a multiple of 32, got 100'),
                      ('efficientnet:64,4096', 'a multiple of 32, got 4096')):
        with pytest.raises(UserError, match=why): open_vision_encoder(name)


def test_the_middle_of_efficientnet_says_the_same_whatever_the_batch(pictures):
    from shutka.models.vision_encoders import open_vision_encoder
    large = np.stack([np.asarray(Image.fromarray(one).resize((48, 48))) for one in pictures])
    encoder = open_vision_encoder('efficientnet-middle')
    found = encoder.encode(large)
    assert found.shape == (11, 9, 95) and encoder.digest != open_vision_encoder('efficientnet', 64).digest
    assert all((encoder.encode(large[i:i + 1])[0] == found[i]).all() for i in (0, 5, 10))
    assert (found[:, :, 80:89] == np.eye(9)).all()
    with pytest.raises(UserError, match='a multiple of 16, got 40'): open_vision_encoder('efficientnet-middle', 40)


def test_the_middle_of_efficientnet_reads_colours_and_shapes_of_new_pairs():
    "What drawn scenes stand on: a linear probe on places, fitted without the held-out pairs."
    from shutka.models.vision_encoders import open_vision_encoder
    encoder = open_vision_encoder('efficientnet-middle')
    def look(scenes, rng):
        rows = encoder.encode(np.stack([render_scene(scene, 48, rng) for scene in scenes]))
        things = [(rows[i, thing.place, :80], thing) for i, scene in enumerate(scenes) for thing in scene.things]
        return np.stack([row for row, _ in things]), [thing for _, thing in things]
    rng = make_rng(0)
    learned, known = look([draw_scene(rng) for _ in range(300)], rng)
    new, right = look([draw_scene(rng, HELD_OUT_PAIRS) for _ in range(60)], rng)
    for name, words in (('colour', [*COLOURS]), ('shape', [*SHAPES])):
        target = np.stack([[getattr(thing, name) == word for word in words] for thing in known]).astype(float)
        mean, scale = learned.mean(0), learned.std(0) + 1e-3
        a = (learned - mean) / scale
        weights = np.linalg.solve(a.T @ a + 10 * np.eye(80), a.T @ (target - target.mean(0)))
        said = ((new - mean) / scale @ weights + target.mean(0)).argmax(1)
        assert np.mean([words[i] == getattr(thing, name) for i, thing in zip(said, right)]) > .95, name


# Views

def test_views_depend_on_the_picture_and_the_number_alone():
    rng = np.random.default_rng(1)
    for shape in ((1, 1, 3), (7, 30, 3), (64, 64, 3)):
        pixels = rng.integers(0, 256, shape, np.uint8)
        before = pixels.copy()
        for number in range(5):
            view = make_view(pixels, number, 'a', True)
            assert (view.shape, view.dtype) == (shape, np.uint8)
            assert (make_view(pixels, number, 'a', True) == view).all()
        assert (pixels == before).all()


def test_a_mirror_where_words_allow_it():
    assert may_flip([]) and may_flip(['', 'a red apple', 'thumbs up', 'brightly lit', 'copyleft'])
    for text in ('LEFT', 'left-hand side', "left's", 'a clock', '3D glasses', 'x2', 'Ö button', 'UN', 'right, then up'):
        assert not may_flip([text]), text


# Kept features

class Sums:
    "A frozen model without weights, quick and without threads."
    name, digest, size, tokens, width = 'sums', 'a' * 64, 16, 2, 3
    def __init__(self, before=lambda: None): self.before = before
    def encode(self, pictures):
        self.before()
        return np.stack([pictures[:, :8].mean((1, 2)), pictures[:, 8:].mean((1, 2))], 1).astype(np.float32)


def read_bytes(cache: FeatureCache) -> list[bytes]: return [path.read_bytes() for path in (cache._keys, cache._rows)]


@pytest.mark.parametrize('at', range(1, 9))
def test_killed_and_resumed_to_the_same_bytes(tmp_path, monkeypatch, at):
    "Killed when the numbers of batch 1 to 4 are written, or their names, before they are on the disk."
    records = save_pictures(tmp_path/'in', 100)
    whole = FeatureCache(tmp_path/'whole', Sums())
    wanted = whole.read(records, 2)

    def work():
        real, count = os.fsync, [0]

        def fsync(fd):
            if b'about' not in os.readlink(f'/proc/self/fd/{fd}').encode() and not os.path.isdir(f'/proc/self/fd/{fd}'):
                count[0] += 1
                if count[0] == at: os.kill(os.getpid(), signal.SIGKILL)
            real(fd)
        os.fsync = fsync
        FeatureCache(tmp_path/'killed', Sums()).read(records, 2)

    child = FORK.Process(target=work)
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    cache = FeatureCache(tmp_path/'killed', Sums())
    assert (cache.read(records, 2) == wanted).all()
    assert read_bytes(cache) == read_bytes(whole)


def test_torn_rows_are_cut_off(tmp_path):
    records = save_pictures(tmp_path/'in', 20)
    cache = FeatureCache(tmp_path/'kept', Sums())
    wanted, whole = cache.read(records).copy(), read_bytes(cache)
    for keys, rows in ((36 * 20 - 1, 12 * 20), (36 * 20, 12 * 20 - 1), (36 * 3 + 5, 12 * 9 + 5), (0, 12 * 20),
                       (36 * 20, 0)):
        cache._keys.write_bytes(whole[0][:keys])
        cache._rows.write_bytes(whole[1][:rows])
        assert (cache.read(records) == wanted).all()
        assert read_bytes(cache) == whole


def test_two_processes_do_not_spoil_each_other(tmp_path):
    records = save_pictures(tmp_path/'in', 150)
    wanted = FeatureCache(tmp_path/'alone', Sums()).read(records)
    told = FORK.SimpleQueue()

    def work():
        seen = [0]

        def slowly():
            seen[0] += 1
            time.sleep(.2)
        found = FeatureCache(tmp_path/'shared', Sums(slowly)).read(records)
        told.put((bool((found == wanted).all()), seen[0]))

    children = [FORK.Process(target=work) for _ in range(3)]
    for child in children: child.start()
    for child in children: child.join(30)
    assert [child.exitcode for child in children] == [0] * 3
    answers = [told.get() for _ in children]
    assert all(equal for equal, _ in answers)
    assert sorted(seen for _, seen in answers) == [0, 0, 3]   # one looked at all, the others waited for it
    assert FeatureCache(tmp_path/'shared', Sums())._rows.stat().st_size == 12 * 150


def test_errors_name_file_and_line_and_leave_what_was_done(tmp_path):
    records = save_pictures(tmp_path/'in', 100)
    (tmp_path/'in'/'90.png').write_text('a cat')
    cache = FeatureCache(tmp_path/'kept', Sums())
    with pytest.raises(UserError, match='manifest.jsonl:91: 90.png must be a picture that Pillow'): cache.read(records)
    assert cache._rows.stat().st_size == 12 * 64   # the batch before
    (tmp_path/'in'/'90.png').unlink()
    with pytest.raises(UserError, match='manifest.jsonl:91: .*90.png cannot be read'): cache.read(records)
    assert (cache.read(records[:90]) == FeatureCache(tmp_path/'other', Sums()).read(records[:90])).all()
    large = Sums()
    large.encode = lambda pictures: np.full((len(pictures), 2, 3), 1e5, np.float32)
    with pytest.raises(UserError, match='numbers of at most 65,504'):
        FeatureCache(tmp_path/'large', large).read(records[:3])


def test_a_picture_that_changes_while_it_is_read(tmp_path, monkeypatch):
    records = save_pictures(tmp_path/'in', 3)

    def change(path, size, where):
        pixels = open_picture(path, size, where)
        shutil.copy(tmp_path/'in'/'0.png', tmp_path/'in'/'2.png')
        return pixels
    monkeypatch.setattr(features_room, 'open_picture', change)
    with pytest.raises(UserError, match='2.png must stay as it is while it is read'):
        FeatureCache(tmp_path/'kept', Sums()).read(records)


def test_the_same_picture_is_looked_at_once(tmp_path):
    records = save_pictures(tmp_path/'in', 4)
    shutil.copy(tmp_path/'in'/'0.png', tmp_path/'in'/'3.png')
    cache = FeatureCache(tmp_path/'kept', Sums())
    found = cache.read(records, 3)
    assert cache._rows.stat().st_size == 12 * 9
    assert (found[0] == found[3]).all()
    assert (found == FeatureCache(tmp_path/'kept', Sums(), most_bytes=0).read(records, 3)).all()   # from a file
    blank = Sums().encode(blank_picture(16)[None])
    assert (blank == 255).all()


def test_keys_are_what_the_notebook_says():
    assert make_emoji_key('1F3F3-FE0F-200D-1F308', 'it') == '1f3f3-200d-1f308'
