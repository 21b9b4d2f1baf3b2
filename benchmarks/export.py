"""How much memory and time does an export to GGUF take?

    python benchmarks/export.py [--width 2048] [--layers 8] [--vocabulary 50000]

A Llama with random numbers in bf16, in two files, is written as GGUF: each type in a process of its own, whose largest
memory is asked of the system. The bar of each: 1.3 x the largest tensor (in 32 bits) + 500 MB. What Python, torch and
transformers take before the first tensor is read is printed beside it, since it is most of that."""
import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

QUANTS = 'F32', 'F16', 'BF16', 'Q8_0', 'Q4_0', 'Q6_K', 'Q4_K_M'


def peak() -> int:
    "Bytes of memory that this process had at most."
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def make_folder(folder: Path, width: int, layers: int, vocabulary: int):
    "A model without training, large enough that its tensors count."
    import torch
    import transformers as t

    from shutka.models.lm_tokenizers import train_tokenizer
    train_tokenizer(['const a = 1'] * 9, 300).save_pretrained(folder)
    config = t.LlamaConfig(hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
                           vocab_size=vocabulary, num_attention_heads=width // 64, num_key_value_heads=width // 256,
                           bos_token_id=0, eos_token_id=0, pad_token_id=None, tie_word_embeddings=True)
    t.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder, max_shard_size='300MB')


def export(folder: str, path: str, quant: str):
    "One export, measured from inside; prints JSON."
    from shutka.export.gguf import open_gguf_source, plan_gguf, write_gguf
    from shutka.export.quantize import find_quantizer
    source = open_gguf_source(folder)
    plan, quantize = plan_gguf(source, quant), find_quantizer(quant)[0]
    before, start = peak(), time.perf_counter()
    write_gguf(source, path, plan, quantize)
    largest = max(4 * x * y for x, *rest in source.shapes.values() for y in (rest or [1]))
    print(json.dumps({'before': before, 'peak': peak(), 'seconds': time.perf_counter() - start,
                      'largest': largest, 'size': Path(path).stat().st_size}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--width', type=int, default=2048)
    parser.add_argument('--layers', type=int, default=8)
    parser.add_argument('--vocabulary', type=int, default=50_000)
    parser.add_argument('--child', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child: return export(*args.child)
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        make = 'from benchmarks.export import make_folder; import pathlib, sys; '
        make += 'make_folder(pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:]))'
        sizes = [str(n) for n in (args.width, args.layers, args.vocabulary)]
        root = Path(__file__).parent.parent   # a process of its own: its memory is not that of the export
        command = [sys.executable, '-c', make, f'{place}/model', *sizes]
        subprocess.run(command, check=True, cwd=root, capture_output=True)
        for quant in QUANTS:
            command = [sys.executable, __file__, '--child', f'{place}/model', f'{place}/{quant}.gguf', quant]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode: sys.exit(done.stderr)
            it = json.loads(done.stdout.splitlines()[-1])
            bar = 1.3 * it['largest'] + 500e6
            missed += it['peak'] > bar
            verdict = 'missed' if it['peak'] > bar else 'ok'
            print(f"{quant:7} {it['size'] / 1e6:8,.0f} MB in {it['seconds']:5.1f} s; "
                  f"peak {it['peak'] / 1e6:6,.0f} MB, {it['before'] / 1e6:,.0f} MB before the first tensor; "
                  f"bar {bar / 1e6:,.0f} MB: {verdict}")
            Path(f'{place}/{quant}.gguf').unlink()
    return missed


if __name__ == '__main__': sys.exit(main())
