"The formulas with their golden examples, and a settings file with everything that can be wrong in it."
import itertools
import json
import math
from dataclasses import asdict, fields, replace

import pytest
import yaml

from shutka.core.errors import UserError
from shutka.history.budget import (
    count_epochs,
    count_warmup_steps,
    estimate_seconds,
    estimate_sequences,
    estimate_train_sequences,
)
from shutka.history.config import (
    CONFIG_SECTIONS,
    EpochCalculation,
    HardwareMonitoring,
    ModelSection,
    TrainingConfig,
    TrainingSection,
    read_config,
    write_config,
)
from shutka.history.parameters import compute_training_parameters, configure_batch_size, configure_lr, configure_workers
from shutka.history.recipe import WindowSettings, make_history_phase
from shutka.models.lm import measure_perplexity
from shutka.train.machine import Device, Machine, choose_batch_size, count_workers, scale_lr
from shutka.train.phase import describe_schedule, do_nothing, is_check_due, lr_at, progress_at
from shutka.train.recipe import count_steps
from shutka.train.settings import count_steps_per_epoch
from shutka.train.summary import count_epoch_steps, split_epochs, summarize_training

LAPTOP = Machine(cores=8, ram=16 * 10**9, free=10**12)


def with_gpus(*sizes): return replace(LAPTOP, devices=tuple(Device('card', (7, 5), int(size * 1e9)) for size in sizes))


# ---- formulas

@pytest.mark.parametrize('sequences, epochs', [
    (78, 10), (500, 10), (10_000, 3), (1, 10), (976, 10), (977, 9), (1_000, 9), (2_441, 4), (2_442, 3),
    (10**9, 3)])
def test_epochs(sequences, epochs): assert count_epochs(sequences) == epochs


def test_epochs_with_other_aims():
    assert count_epochs(10, 1_000, target_tokens=55_000, min_epochs=1, max_epochs=100) == 5
    assert count_epochs(10, 1_000, target_tokens=1, min_epochs=1) == 1
    for n in (0, -1):
        with pytest.raises(UserError, match=f'at least one sequence to train on, got {n}'): count_epochs(n)


@pytest.mark.parametrize('total, steps', [
    (0, 0), (1, 1), (66, 66), (100, 100), (999, 100), (1_000, 100), (1_235, 123), (9_999, 999), (10_000, 1_000),
    (10**6, 1_000)])
def test_warmup(total, steps): assert count_warmup_steps(total) == steps


def test_warmup_by_ratio():
    for total in range(1, 3_000): assert count_warmup_steps(total, .1, 0, 10**9) == total // 10
    assert count_warmup_steps(100, .29, 0) == 29 and count_warmup_steps(1_000, 0, 0) == 0


def test_counts():
    assert [estimate_sequences(n) for n in (1, 5_572, 2_323)] == [1, 929, 388]
    assert [count_steps_per_epoch(n, 4) for n in (1, 4, 5)] == [1, 1, 2]
    assert [estimate_train_sequences(n, .1) for n in (1, 2, 10)] == [1, 2, 9]
    assert estimate_train_sequences(10, 0.) == 10


@pytest.mark.parametrize('size', [0, 1, 2, 3.4, 3.5, 4, 6, 7.4, 7.5, 8, 15.8, 80])
def test_defaults_are_those_of_the_plan(size):
    machine = with_gpus(*[size] * (size > 0))
    assert configure_batch_size(TrainingConfig(), machine) == choose_batch_size(machine)
    assert configure_workers(TrainingConfig(), machine) == count_workers(machine) == 4
    for batch in (2, 4, 8, 16): assert configure_lr(TrainingConfig(), batch) == scale_lr(5e-5, batch)


def test_settings_change_the_numbers():
    config = TrainingConfig(
        training=TrainingSection(batch_size_large=32, batch_size_medium=16, batch_size_small=1,
                                 batch_size_reference=16, num_workers=2),
        hardware_monitoring=HardwareMonitoring(gpu_memory_threshold_large_gb=20., gpu_memory_threshold_medium_gb=6.))
    machines = [with_gpus(*sizes) for sizes in ((24,), (8,), (5,), (), (24, 8))]
    assert [configure_batch_size(config, machine) for machine in machines] == [32, 16, 1, 1, 16]
    assert configure_workers(config, LAPTOP) == 2
    assert configure_lr(config, 16) == 5e-5 and configure_lr(config, 4) == 1.25e-5


def test_time():
    hour = estimate_seconds(10**9, 10**8, with_gpus(16))
    assert estimate_seconds(10**9, 10**8, with_gpus(16, 16)) == hour / 2
    assert estimate_seconds(2 * 10**9, 10**8, with_gpus(16)) == 2 * hour
    for capability in ((3, 5), (6, 1), (7, 0), (8, 6), (8, 9), (9, 0), (12, 0)):
        card = replace(LAPTOP, devices=(Device('card', capability, 10**10),))
        assert 0 < estimate_seconds(10**9, 10**8, card) < estimate_seconds(10**9, 10**8, LAPTOP)


# ---- the manifest's numbers

KEYS = ['num_sequences', 'epochs', 'steps_per_epoch', 'total_steps', 'warmup_steps', 'batch_size', 'learning_rate',
        'estimated_time_minutes', 'estimated_time_hours', 'target_tokens', 'formula']


def test_parameters():
    got = compute_training_parameters(TrainingConfig(), with_gpus(6), 78, train=70, parameters=355 * 10**6,
                                      step_seconds=1.)
    assert list(got) == KEYS and json.loads(json.dumps(got, allow_nan=False)) == got
    assert got == {'num_sequences': 78, 'epochs': 10, 'steps_per_epoch': 18, 'total_steps': 180, 'warmup_steps': 100,
                   'batch_size': 4, 'learning_rate': 2.5e-5, 'estimated_time_minutes': 3.,
                   'estimated_time_hours': .05, 'target_tokens': 20_000_000,
                   'formula': 'epochs = clamp(floor(20000000 / (78 * 2048)), 3, 10) = 10'}
    estimated = compute_training_parameters(TrainingConfig(), with_gpus(6), 78, parameters=1)
    assert estimated['steps_per_epoch'] == math.ceil(70 / 4)


def test_parameters_of_several_gpus():
    one, two = (compute_training_parameters(TrainingConfig(), with_gpus(*sizes), 5_000, parameters=355 * 10**6)
                for sizes in ((16,), (16, 16)))
    assert (one['batch_size'], two['batch_size'], two['learning_rate']) == (8, 16, 1e-4)
    assert two['steps_per_epoch'] == math.ceil(4_500 / 16)
    assert two['estimated_time_minutes'] == pytest.approx(one['estimated_time_minutes'] / 2, rel=.01)


def test_parameters_as_asked_for():
    got = compute_training_parameters(TrainingConfig(), LAPTOP, 500, parameters=1, epochs=1)
    assert (got['epochs'], got['total_steps']) == (1, 225)
    assert 'as asked for' in got['formula'] and got['formula'].endswith('= 10')
    config = TrainingConfig(epoch_calculation=EpochCalculation(target_tokens=5_120_000, min_epochs=1, max_epochs=50))
    assert compute_training_parameters(config, LAPTOP, 500, length=1_024, parameters=1)['epochs'] == 10
    with pytest.raises(UserError, match='at least one sequence'):
        compute_training_parameters(TrainingConfig(), LAPTOP, 0, parameters=1)
    with pytest.raises(UserError, match='epochs must be 0 or more, got -1'):
        compute_training_parameters(TrainingConfig(), LAPTOP, 5, parameters=1, epochs=-1)


# ---- the file

def said(tmp_path, text: str | bytes) -> TrainingConfig:
    path = tmp_path/'training_config.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path)


def test_the_seeds_schema():
    assert asdict(TrainingConfig()) == {
        'training': {'base_learning_rate': 5e-5, 'warmup_ratio': .1, 'warmup_steps_min': 100, 'warmup_steps_max': 1_000,
                     'validation_split': .1, 'patience': 3, 'min_delta': 1e-4, 'seed': 42, 'batch_size_reference': 8,
                     'batch_size_large': 8, 'batch_size_medium': 4, 'batch_size_small': 2, 'num_workers': 8,
                     'weight_decay': .01},
        'epoch_calculation': {'target_tokens': 20_000_000, 'min_epochs': 3, 'max_epochs': 10},
        'hardware_monitoring': {'collection_interval_seconds': 10, 'gpu_memory_threshold_large_gb': 8.,
                                'gpu_memory_threshold_medium_gb': 4.},
        'model': {'name': 'gpt2-medium', 'pretrained': True}}


def test_the_seeds_file(tmp_path):
    config = said(tmp_path, """
training:
  base_learning_rate: 5e-5      # Change me
  validation_split: 0.1         # 10% validation
  patience: 3                    # Early stopping patience

epoch_calculation:
  target_tokens: 20000000       # Target training tokens
  min_epochs: 3                 # Don't train <3 epochs
  max_epochs: 10                # Don't train >10 epochs

hardware_monitoring:
  collection_interval_seconds: 10  # Sample every 10s
""")
    assert config == TrainingConfig() and isinstance(config.training.base_learning_rate, float)


def test_the_default_file(tmp_path):
    path = write_config(tmp_path/'new'/'training_config.yaml')
    assert read_config(path) == TrainingConfig()
    assert yaml.safe_load(path.read_text()) == asdict(TrainingConfig())          # for other programs, too
    lines = path.read_text().splitlines()
    for kind in CONFIG_SECTIONS.values():
        for f in fields(kind):
            begin, end = f'  {f.name}:', f"# {f.metadata['meaning']}"
            assert [line for line in lines if line.startswith(begin) and line.endswith(end)]
    path.write_text('mine')
    with pytest.raises(UserError, match='must not exist yet'): write_config(path)
    assert path.read_text() == 'mine'


def test_any_settings_come_back(tmp_path):
    config = TrainingConfig(
        training=TrainingSection(base_learning_rate=1e-20, min_delta=0., weight_decay=1e20, seed=2**32 - 1),
        model=ModelSection(name='C:\\models\\"my" # été: 😀 ' + 'x' * 200, pretrained=False))
    path = write_config(tmp_path/'a.yaml', config)
    assert read_config(path) == config
    assert yaml.safe_load(path.read_text()) == asdict(config)


@pytest.mark.parametrize('text', [
    '', '\n', '# nothing\n', '---\n', 'null', '{}', 'training:\n', 'training: {}\n',
    'training: ~\nmodel:\n  # name: x\n', '\ufefftraining:\n'])
def test_what_says_nothing(tmp_path, text): assert said(tmp_path, text) == TrainingConfig()


def test_no_file(tmp_path): assert read_config(tmp_path/'none'/'training_config.yaml') == TrainingConfig()


@pytest.mark.parametrize('text, value', [
    ('5e-5', 5e-5), ('5E-05', 5e-5), ('0.00005', 5e-5), ('1', 1.), ('+1e-3', 1e-3), ('1_0.5', 10.5)])
def test_numbers(tmp_path, text, value):
    got = said(tmp_path, f'training: {{base_learning_rate: {text}}}').training.base_learning_rate
    assert got == value and type(got) is float


@pytest.mark.parametrize('text, value', [
    ('20000000', 20_000_000), ('2e7', 20_000_000), ('2.0e+7', 20_000_000), ('20_000_000', 20_000_000),
    ('9007199254740993', 2**53 + 1)])
def test_whole_numbers(tmp_path, text, value):
    got = said(tmp_path, f'epoch_calculation:\n  target_tokens: {text}').epoch_calculation.target_tokens
    assert got == value and type(got) is int


@pytest.mark.parametrize('text, message', [
    ('training:\n  patience: 3\n  base_learning_rte: 1e-4',
     "line 3: unknown key 'base_learning_rte'; did you mean 'base_learning_rate'?"),
    ('trainin:\n  patience: 3', "line 1: unknown key 'trainin'; did you mean 'training'?"),
    ('patience: 3', 'line 1: patience belongs to the section training'),
    ('training:\n  seed: ' + 5000 * '9', 'training.seed'),
    ('\n\nmodel:\n  max_epochs: 3', 'line 4: max_epochs belongs to the section epoch_calculation'),
    ('training:\n  base_learning_rate: fast',
     "line 2: training.base_learning_rate must be a number such as 0.1 or 5e-5, got 'fast'"),
    ('training:\n  base_learning_rate: "5e-5"',
     "line 2: training.base_learning_rate must be a number such as 0.1 or 5e-5, got '5e-5' in quotes"),
    ("training:\n  patience: '3'", "got '3' in quotes"),
    ('training:\n  patience: true', "training.patience must be a whole number such as 3, got 'true'"),
    ('training:\n  weight_decay: yes', "training.weight_decay must be a number such as 0.1 or 5e-5, got 'yes'"),
    ('training:\n  patience:', "training.patience must be a whole number such as 3, got ''"),
    ('training:\n  patience: null', "got 'null'"), ('training:\n  patience: 2.5', "got '2.5'"),
    ('training:\n  patience: 1:30', "got '1:30'"), ('training:\n  patience: 0x10', "got '0x10'"),
    ('training:\n  patience: [3]', "got 'a list or a mapping'"),
    ('training:\n  patience: {a: 3}', "got 'a list or a mapping'"),
    ('training:\n  patience: 1e400', "got '1e400'"), ('training:\n  weight_decay: nan', "got 'nan'"),
    ('training:\n  weight_decay: .inf', "got '.inf'"), ('training:\n  weight_decay: 1e999', "got '1e999'"),
    ('training:\n  patience: -1', 'line 2: training.patience must be 0 or more, got -1'),
    ('training:\n  base_learning_rate: 0', 'must be above 0, got 0.0'),
    ('training:\n  validation_split: .9', 'must be 0.5 or less, got 0.9'),
    ('training:\n  seed: 5000000000', 'must be 4294967295 or less'),
    ('training:\n  warmup_steps_min: 2000',
     'section training: warmup_steps_min must be at most warmup_steps_max, got 2000 and 1000'),
    ('epoch_calculation:\n  min_epochs: 0', 'epoch_calculation.min_epochs must be 1 or more'),
    ('epoch_calculation:\n  min_epochs: 11',
     'section epoch_calculation: min_epochs must be at most max_epochs, got 11 and 10'),
    ('hardware_monitoring:\n  gpu_memory_threshold_medium_gb: 9',
     'must be at most gpu_memory_threshold_large_gb, got 9.0 and 8.0'),
    ('model:\n  name: 5', "model.name must be a text, got '5'"),
    ('model:\n  name: ""', 'model.name must not be empty'),
    ('model:\n  pretrained: 1', "model.pretrained must be true or false, got '1'"),
    ('model:\n  pretrained: "true"', "got 'true' in quotes"),
    ('training:\n  patience: 3\n  patience: 4', 'line 3: patience stands there twice, first in line 2'),
    ('training:\n  patience: 3\nmodel:\ntraining:\n', 'line 4: training stands there twice, first in line 1'),
    ('training: 5', 'line 1: must be lines of `key: value`'),
    ('training:\n  - patience', 'line 2: must be lines of `key: value`'),
    ('- training', 'line 1: must be lines of `key: value`'), ('fast', 'line 1: must be lines of `key: value`'),
    ('training:\n  <<: {patience: 3}', "unknown key '<<'"), ('training:\n  ? [a, b]\n  : 3', 'unknown key'),
    ('5: 3', "unknown key '5'"), ('training:\n\tpatience: 3', 'is not valid YAML'),
    ('training: {', 'is not valid YAML'), ('a: 1\n---\nb: 2', 'is not valid YAML'),
    ('training: *x', 'is not valid YAML'), ('[' * 5_000, 'is not valid YAML'),
    ('training: &x\n  training: *x', "line 2: unknown key 'training'"),
    (b'training:\n  \xff\xfe: 3', 'is not valid YAML'), (b'model:\n  name: "a\x00b"', 'is not valid YAML')])
def test_what_is_not_understood(tmp_path, text, message):
    with pytest.raises(UserError) as e: said(tmp_path, text)
    assert message in str(e.value)
    assert 'training_config.yaml' in str(e.value) and '\n' not in str(e.value)


def test_a_folder(tmp_path):
    with pytest.raises(UserError, match='cannot be read: Is a directory'): read_config(tmp_path)


@pytest.mark.parametrize('kind, wrong', [
    (TrainingSection, {'patience': True}), (TrainingSection, {'patience': 3.}),
    (TrainingSection, {'base_learning_rate': 1}), (TrainingSection, {'weight_decay': math.inf}),
    (TrainingSection, {'weight_decay': math.nan}), (ModelSection, {'name': None}),
    (ModelSection, {'pretrained': 0}), (EpochCalculation, {'max_epochs': '10'})])
def test_settings_made_in_code_are_checked_too(kind, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))): kind(**wrong)


# ---- what the manifest says is what is trained

WINDOWS = (1, 2, 3, 7, 10, 16, 35, 70, 101, 250)
BATCHES = (2, 3, 4, 8, 16)
EPOCHS = (1, 2, 3, 5, 10)
WARMUPS = ((.1, 100, 1_000), (.1, 0, 1_000), (1., 5, 20))   # ratio, least, most


def loop_over(phase):
    "Numbers of steps that are checked, and learning rates, as the loop asks for them."
    within, checks, rates = 0, [], []
    while progress_at(within, 0., phase) < 1:
        rates.append(lr_at(within, progress_at(within, 0., phase), phase))
        within += 1
        if progress_at(within, 0., phase) >= 1 or is_check_due(phase, within): checks.append(within)
    return checks, rates


@pytest.mark.parametrize('windows', WINDOWS)
@pytest.mark.parametrize('ratio, least, most', WARMUPS)
def test_every_combination_trains_what_its_manifest_says(windows, ratio, least, most):
    for batch, epochs in itertools.product(BATCHES, EPOCHS):
        config = TrainingConfig(training=TrainingSection(batch_size_small=batch, warmup_ratio=ratio,
                                                         warmup_steps_min=least, warmup_steps_max=most))
        said = compute_training_parameters(config, LAPTOP, windows + 3, train=windows, parameters=1, epochs=epochs)
        settings = WindowSettings(tokens='t', digest='d', tokenizer='t', saved='s', out='o', epochs=said['epochs'],
                                  warmup=said['warmup_steps'], batch_size=said['batch_size'], lr=said['learning_rate'])
        phase = make_history_phase(settings, windows, do_nothing, check=measure_perplexity)
        checks, rates = loop_over(phase)
        case = windows, batch, epochs
        assert len(rates) == said['total_steps'] == count_steps(settings, windows), case
        assert said['total_steps'] == said['epochs'] * said['steps_per_epoch'], case
        assert phase.warmup == said['warmup_steps'], case
        assert checks == [(n + 1) * said['steps_per_epoch'] for n in range(said['epochs'])], case
        assert describe_schedule(phase) == {'steps': len(rates), 'checks': len(checks),
                                            'learning_rate_range': [min(rates), max(rates)]}, case
        assert max(rates) <= said['learning_rate'], case

        # and so does the report, from the log of that training
        rows = [{'step': n, 'loss': 1., 'lr': lr} | ({'val_loss': 2.} if n in checks else {})
                for n, lr in enumerate(rates, 1)]
        per_epoch = count_epoch_steps({'data': {'examples': windows}, 'settings': {'batch_size': said['batch_size']}})
        report = summarize_training(rows, split_epochs(rows, per_epoch))
        assert per_epoch == said['steps_per_epoch'] and rows[-1]['step'] // per_epoch == said['epochs'], case
        assert [len(values) for values in report['training']['loss_history'].values()] == [epochs, epochs], case
        assert [report['learning_rate'][key] for key in ('min', 'max')] == [min(rates), max(rates)], case


@pytest.mark.parametrize('steps, epochs, expected', [(0, 3, 9), (5, 3, 5), (50, 3, 9), (5, 0, 5), (0, 0, 0)])
def test_steps_and_epochs_both_bound_a_training(steps, epochs, expected):
    settings = WindowSettings(tokens='t', digest='d', tokenizer='t', saved='s', out='o', epochs=epochs, steps=steps,
                              batch_size=4, minutes=1)
    assert count_steps(settings, 10) == expected
    assert make_history_phase(settings, 10, do_nothing).steps == expected
