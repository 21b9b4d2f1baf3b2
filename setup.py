"Everything about the package stands in settings.ini; this file hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser()
config.read('settings.ini', encoding='utf-8')
settings = config['DEFAULT']


def lines(key: str) -> list[str]:
    "The non-empty lines of a setting."
    return [line.strip() for line in settings[key].splitlines() if line.strip()]


tested = ('cluster', 'dataset', 'gguf', 'generate', 'oracle', 'qdrant', 'serve', 'vision', 'voices')
extras = {name: lines(f'{name}_requirements') for name in (*tested, 'kaggle')}
extras['dev'] = lines('dev_requirements') + sum((extras[name] for name in tested), [])
extras['embeddings'] = extras['voices']   # its name in version 0.3
data = ['py.typed', 'bundled/**/*', 'kaggle/*.ipynb', 'evaluate/judge/*', 'evaluate/suites/*.json', 'generate/linter/*',
        'export/image.txt']

setup(
    name=settings['lib_name'],
    version=settings['version'],
    description=settings['description'],
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=settings['author'],
    license=settings['license'],
    keywords=settings['keywords'].split(),
    python_requires=f">={settings['min_python']}",
    packages=find_packages(include=['shutka', 'shutka.*']),
    package_data={'shutka': data},
    install_requires=lines('requirements'),
    extras_require=extras,
    entry_points={'console_scripts': lines('console_scripts')},
    zip_safe=False,
)
