"The report of a run in every state: with a whole log, half a log, no log, and text that wants to be a script."
import fcntl
import json
import os
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from shutka.core.errors import UserError
from shutka.core.files import write_json, write_jsonl
from shutka.core.page import format_value
from shutka.train.report import STATUS_ADVICE, find_resume_command, write_report
from shutka.train.summary import summarize_run

KEYS = {'': 'model_name config epochs_completed final_train_loss final_val_loss final_perplexity '
            'training gradients learning_rate hardware timing',
        'training': 'final_train_loss final_val_loss final_perplexity best_val_loss loss_history',
        'gradients': 'min_norm max_norm history',
        'learning_rate': 'min max history', 'timing': 'total_seconds total_minutes seconds_per_epoch',
        'hardware': 'device has_gpu batch_size num_workers peak_gpu_memory_mb peak_ram_percent samples'}
GPU = {'name': 'Tesla T4', 'utilisation': 90, 'memory_gb': 2.1, 'memory_percent': 14., 'temperature': None}
SAMPLE = {'time': 1000., 'cpu_percent': 30., 'ram_percent': 20., 'ram_gb': 6., 'disk_free_gb': 50., 'gpus': [GPU]}
RUN = {'recipe': 'Typescript', 'settings': {'source': 'dir:src', 'size': 'tiny', 'batch_size': 10, 'minutes': 2.0},
       'data': {'collected': '3 files', 'skipped': [], 'examples': 40, 'pairs': {'train': 40, 'files': 3}},
       'plan': {'machine': {'devices': [], 'cores': 2, 'ram': 16 * 10**9, 'free': 10**9, 'kaggle': False, 'began': 0},
                'folder': 'run', 'precision': 'fp32', 'processes': 1, 'threads': 2, 'batch': 10, 'accumulation': 1,
                'steps': 0, 'epochs': 5, 'minutes': 2.0, 'now': 0., 'ends': 120.,
                'memory': {'weights': 10**8}, 'disk': 1, 'missing': []}}

def step(n, **more):
    return {'phase': 'words', 'step': n, 'loss': 1 / n, 'lr': .1 / n, 'grad_norm': float(n), 'seconds': 3. * n,
            'memory_gb': n / 10} | more


@pytest.fixture
def folder(tmp_path):
    "Makes a run folder: `folder(rows, run, result)`."
    def make(rows=(), run=RUN, result=None):
        write_json(tmp_path/'run.json', run)
        write_jsonl(tmp_path/'log.jsonl', rows)
        if result is not None: write_json(tmp_path/'result.json', result)
        return tmp_path
    return make


class Page(HTMLParser):
    "The tags of a page that are open, and its text."
    VOID = {'meta', 'path', 'use', 'rect'}

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.text = [], set(), ''
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag not in self.VOID: self.open.append(tag)

    def handle_startendtag(self, tag, attrs): self.tags.add(tag)
    def handle_data(self, data): self.text += data

    def handle_endtag(self, tag):
        if tag not in self.VOID: assert self.open.pop() == tag


def page(out):
    html = write_report(out)[1].read_text(encoding='utf-8')
    found = Page(html)
    assert found.open == [] and not found.tags & {'script', 'link', 'img', 'iframe', 'object'}
    # nothing is loaded, `url(#...)` is within the page
    assert not re.search(r'url\(\s*[\'"]?(?!#)|@import|<image', html)
    for figure in re.findall(r'<svg.*?</svg>', html, flags=re.S): ElementTree.fromstring(figure)
    return html, found

def names(report): return {part: set(report[part] if part else report) for part in KEYS}

def nulls(value):
    if isinstance(value, dict): value = list(value.values())
    return value is None or isinstance(value, list) and all(map(nulls, value))


def test_the_names_others_rely_on_in_every_state(folder):
    wanted = {part: set(text.split()) for part, text in KEYS.items()}
    for rows in ([], [SAMPLE], [step(1)], [step(n, val_loss=2. / n, perplexity=7.) for n in range(1, 9)] + [SAMPLE]):
        out = folder(rows)
        assert names(summarize_run(out)) == wanted
        path, _ = write_report(out)
        assert json.loads(path.read_text()) == json.loads(json.dumps(summarize_run(out), allow_nan=False))

def test_what_was_not_measured_is_null(folder):
    report = summarize_run(folder())
    assert all(nulls(report[part]) for part in ('training', 'gradients', 'learning_rate', 'timing'))
    assert report['epochs_completed'] == 0
    assert report['hardware']['peak_gpu_memory_mb'] is report['hardware']['peak_ram_percent'] is None
    report = summarize_run(folder(run={'recipe': 'Other', 'settings': {}}))
    assert report['hardware'] == dict.fromkeys(KEYS['hardware'].split()) | {'samples': []}
    report = summarize_run(folder([step(1), step(2)]))
    assert report['final_val_loss'] is report['final_perplexity'] is report['training']['best_val_loss'] is None
    assert report['hardware']['peak_gpu_memory_mb'] is None    # memory_gb of a CPU run is not a GPU's

def test_numbers_by_hand(folder):
    "Four steps are an epoch; one loss of the second is lost."
    rows = [step(n) for n in range(1, 7)]
    rows[4] |= {'loss': None, 'grad_norm': None, 'nonfinite': 1}
    rows[3] |= {'val_loss': .5}
    rows[5] |= {'val_loss': .7, 'perplexity': 2.}
    run = RUN | {'plan': {'machine': {'devices': [{'name': 'Tesla T4'}, {'name': 'Tesla T4'}]}}}
    report = summarize_run(folder([SAMPLE, *rows, SAMPLE | {'ram_percent': 25.}], run))
    assert report['training']['loss_history'] == {'train': [pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4), 1 / 6],
                                                  'val': [.5, .7]}
    assert report['final_train_loss'] == report['training']['final_train_loss'] == 1 / 6
    assert (report['final_val_loss'], report['training']['best_val_loss'], report['final_perplexity']) == (.7, .5, 2.)
    assert report['gradients'] == {'min_norm': 1., 'max_norm': 6., 'history': [2.5, 6.]}
    assert report['learning_rate'] == {'min': .1 / 6, 'max': .1, 'history': [.1 / 4, .1 / 6]}
    assert report['timing'] == {'total_seconds': 18., 'total_minutes': .3, 'seconds_per_epoch': 12.}
    assert report['epochs_completed'] == 1
    assert report['hardware'] | {'samples': 0} == {'device': '2 x Tesla T4', 'has_gpu': True, 'batch_size': 10,
                                                   'num_workers': None,
                                                   'peak_gpu_memory_mb': 600, 'peak_ram_percent': 25., 'samples': 0}

def test_without_epochs_one_entry_per_check(folder):
    run = RUN | {'data': {}}
    rows = [step(n, **{'mrr': .1} if n in (3, 5) else {}) for n in range(1, 7)]
    report = summarize_run(folder(rows, run))
    assert len(report['training']['loss_history']['train']) == 3
    assert report['epochs_completed'] is None and report['timing']['seconds_per_epoch'] is None

def test_a_long_run_has_few_samples_and_a_page_of_bearable_size(folder):
    samples = [SAMPLE | {'time': 10. * n} for n in range(4000)]
    out = folder([step(n, tokens_s=1000 + n) for n in range(1, 20_001)] + samples)
    assert len(summarize_run(out)['hardware']['samples']) == 500
    assert len(page(out)[0]) < 600_000

@pytest.mark.parametrize('status', [*STATUS_ADVICE, None])
def test_every_status_says_what_to_do(folder, status):
    said = 'running' if status == 'killed' else status
    result = {'status': said, 'error': 'Diverged: <b>' if status == 'failed' else None}
    out = folder([step(1)], result=None if status in (None, 'prepared') else result)
    if status == 'killed': os.utime(out/'result.json', (0, 0))
    with open(out/'.lock', 'w') as trainer:
        if status == 'running': fcntl.flock(trainer, fcntl.LOCK_EX)
        _, seen = page(out)
    assert STATUS_ADVICE[status or 'prepared'] in seen.text
    command = f'shutka run typescript -p batch_size 10 -p minutes 2.0 -p out {out} -p source dir:src'
    assert (command in seen.text) == (status not in ('ok', 'running'))
    assert (f'shutka watch {out}' in seen.text) == (status == 'running')
    assert ('Diverged: <b>' in seen.text) == (status == 'failed')

def test_a_killed_run_with_a_torn_log(folder):
    out = folder([step(1), step(2), SAMPLE, {'time': 1., 'error': 'OSError: gone'}], result={'status': 'running'})
    with open(out/'log.jsonl', 'a') as f: f.write('{"phase": "wor')
    os.utime(out/'result.json', (0, 0))
    assert summarize_run(out)['timing']['total_seconds'] == 6. and 'killed' in page(out)[1].text

def test_a_plan_is_told_in_its_own_words(folder):
    for news, told in [({}, ['time', '2 minutes', 'steps', '5 times through the data', 'missing', 'nothing']),
                       ({'ends': None, 'steps': 1000}, ['no limit', '1,000']),
                       ({'steps': 0, 'epochs': 0}, ['as many as the time allows']),
                       ({'missing': ['npm is not there: get npm', 'b is not there: get b']},
                        ['npm is not there: get npm; b is not there']),
                       ({'other': 1, 'batch_per_gpu': 77}, ['batch per gpu', '77'])]:
        seen = page(folder([step(1)], RUN | {'plan': RUN['plan'] | news}))[1].text
        assert all(text in seen[seen.index('The plan'):] for text in told)

def test_labels_say_what_they_are_and_have_no_underscores(folder):
    run = RUN | {'settings': RUN['settings'] | {'held_out': 'x', 'gradient_checkpointing': False},
                 'data': RUN['data'] | {'held_out': ['a'], 'dropped': {'all_too_near': 3}}}
    rows = [step(n, tokens_s=1000, dead_dimensions=.25) for n in range(1, 6)]
    rows.append(step(6, mrr=.5, effective_rank=20., val_loss=1.))
    html, seen = page(folder(rows, run, {'status': 'ok'}))
    text = re.sub(r'<style>.*?</style>', '', html, flags=re.S)
    assert not re.search(r'>[^<]*\w_\w[^<]*<', re.sub(r'<svg.*?</svg>|<pre>.*?</pre>', '', text, flags=re.S))
    for label in ('held out', 'all too near 3', 'gradient checkpointing', 'loss, mean of the last epoch',
                  'MRR on validation files, last check', 'tokens/s, mean over the run'):
        assert label in seen.text
    assert '<th>tokens/s</th>' in html and '<th>validation loss</th>' in html
    assert 'dead' not in seen.text    # of the last steps only what fits
    assert 'mean of the last stretch' in page(folder([step(1)], run | {'data': {}}))[1].text

def test_one_sample_of_the_machine_is_no_curve(folder):
    def busy(*times):
        html, _ = page(folder([step(1), *[SAMPLE | {'time': t} for t in times]]))
        return 'busy, %' in html.split('</figure>')[0]
    assert (busy(0.), busy(0., 5.), busy(0., 10.)) == (False, False, True)
    assert '<svg' not in page(folder([SAMPLE]))[0]
    assert '<svg' not in page(folder([step(1) | dict.fromkeys(('loss', 'lr', 'grad_norm'))]))[0]

def test_a_folder_alone(tmp_path):
    with pytest.raises(UserError, match='no run folder'): write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path/'run.json', {'recipe': 'Typescript', 'settings': {}})   # no log, no result, no plan
    assert 'Prepared' in page(tmp_path)[1].text

def test_nothing_becomes_a_script(folder):
    evil = '<script>alert("&")</script>'
    run = RUN | {'settings': RUN['settings'] | {'source': evil, 'size': evil},
                 'data': RUN['data'] | {'skipped': [evil], evil: evil}}
    row = dict(pool=evil, candidates=9, method=evil, mrr=.5, low=.4, high=.6)
    out = folder([step(1, phase=evil), step(2, phase=evil * 2, **{'mrr': .5, evil: evil}),
                  SAMPLE | {'gpus': [GPU | {'name': evil}]}], run,
                 {'status': 'failed', 'error': evil, 'rows': [row], 'representation': {evil: {evil: 1.}},
                  'bundle': {'file': evil, 'sha256': evil}})
    (out/'data').mkdir()
    (out/'data'/'<script>').write_text('x')
    html, seen = page(out)
    assert '<script' not in html.lower() and evil in seen.text

def test_the_same_folder_gives_the_same_page_and_the_page_is_none_of_its_files(folder):
    out = folder([step(1), step(2), SAMPLE])
    assert page(out)[0] == page(out)[0] and 'report.html' not in page(out)[1].text

def test_the_command_can_be_pasted(tmp_path):
    run = RUN | {'settings': {'source': 'dir:my src', 'held_out': "it's", 'epochs': 0, 'steps': 9, 'lr': 3e-3,
                              'gradient_checkpointing': True, 'out': 'elsewhere'}}
    assert find_resume_command(run, 'here it is') == (
        """shutka run typescript -p epochs 0 -p steps 9 -p gradient_checkpointing True -p out 'here it is' """
        """-p source 'dir:my src' -p held_out 'it'"'"'s'""")
    assert find_resume_command(run | {'recipe': 'Unheard'}, 'x') == ''

@pytest.mark.parametrize('value, text', [(None, '–'), ('', '–'), ([], '–'), (0, '0'), (0., '0'), (False, 'no'),
                                         (12345, '12,345'), (.123456, '0.1235'), (12345.6, '12,346'),
                                         (list(range(30)), ', '.join(map(str, range(20))) + ' and 10 more')])
def test_values_as_a_person_writes_them(value, text): assert format_value(value) == text
