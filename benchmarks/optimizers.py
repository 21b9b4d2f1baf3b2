"""Does GaLore earn its place against 8-bit AdamW and gradient checkpointing? Memory, time and loss of each, in one run.

    python benchmarks/optimizers.py [--steps 300] [--seeds 2] [--threads 2] [--width 384] [--layers 6]

A GPT-2-shaped model (11 million parameters) learns the bytes of the bundled TypeScript. Each optimizer gets its own
learning rate: from a first guess it is doubled or halved as long as that lowers the training loss of a run of a third
of the steps. Bytes are counted, not estimated: the state as it is after the last step, activations as what the forward
pass keeps. The loss is on held-out text, one number for each seed. The last table counts the same states for GPT-2
medium, which is not trained here. bitsandbytes' 8-bit optimizer runs on a CPU as well, where its time says nothing
about a GPU.
"""
import os

os.environ.setdefault('OMP_WAIT_POLICY', 'passive')
os.environ.setdefault('GOMP_SPINCOUNT', '0')

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

sys.path.insert(0, str(Path(__file__).parent.parent))

from shutka.data.sources import open_source  # noqa: E402
from shutka.models.recompute import recompute_blocks  # noqa: E402
from shutka.train.optimizer import make_optimizer, measure_state, select_learners  # noqa: E402
from shutka.train.phase import Phase, lr_at  # noqa: E402

LENGTH, ROWS = 64, 8   # bytes of a window, windows of a batch
MATRICES = r'attn|mlp'  # what GaLore projects, as in the paper's experiments: not embeddings, not norms


# --- GaLore (Zhao et al. 2024, arXiv 2403.03507, algorithm 2) ---

class GaLore:
    "Adam in a subspace of each matrix's gradient, over an inner optimizer, which has everything else to itself."
    def __init__(self, learned: dict[str, nn.Parameter], phase: Phase, kind: str, rank: int, gap: int = 200,
                 scale: float = .25):
        self.rank, self.gap, self.scale, self.decay, self.step_count = rank, gap, scale, phase.weight_decay, 0
        self.full = {name: p for name, p in learned.items() if p.ndim == 2
                     and any(part in name for part in MATRICES.split('|'))}
        self.low = {name: nn.Parameter(torch.zeros(self._shape(p))) for name, p in self.full.items()}
        self.basis: dict[str, Tensor] = {}
        rest = {name: p for name, p in learned.items() if name not in self.full}
        self.inner = make_optimizer(rest | self.low, phase, kind)
        self.param_groups, self.state = self.inner.param_groups, self.inner.state

    def _shape(self, p: Tensor) -> tuple[int, int]:
        "Of the projected gradient: the shorter side becomes `rank`."
        m, n = p.shape
        return (m, min(self.rank, n)) if m >= n else (min(self.rank, m), n)

    def zero_grad(self):
        self.inner.zero_grad()
        for p in self.full.values(): p.grad = None

    @torch.no_grad()
    def turn(self):
        "Take new bases from the gradients as they are."
        for name, p in self.full.items():
            u, _, vt = torch.linalg.svd(p.grad, full_matrices=False)
            self.basis[name] = vt[:self.rank].clone() if p.shape[0] >= p.shape[1] else u[:, :self.rank].clone()

    @torch.no_grad()
    def step(self):
        if self.step_count % self.gap == 0: self.turn()
        for name, p in self.full.items():
            low, basis = self.low[name], self.basis[name]
            low.grad = p.grad @ basis.T if p.shape[0] >= p.shape[1] else basis.T @ p.grad
            low.zero_()  # from zero, the inner step is the update itself; decay of zero is zero
        self.inner.step()
        lr, self.step_count = self.param_groups[0]['lr'], self.step_count + 1
        for name, p in self.full.items():
            low, basis = self.low[name], self.basis[name]
            p.mul_(1 - lr * self.decay).add_(low @ basis if p.shape[0] >= p.shape[1] else basis @ low, alpha=self.scale)


def count_state(optimizer) -> int:
    "State of an optimizer, GaLore's bases included."
    return measure_state(optimizer) + sum(t.nbytes for t in getattr(optimizer, 'basis', {}).values())


# --- what is trained ---

def build_model(width: int, layers: int, seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=256, n_positions=LENGTH, n_embd=width, n_layer=layers, n_head=width // 64,
                        use_cache=False,
                        resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=None, eos_token_id=None)
    return GPT2LMHeadModel(config)


def read_corpus() -> tuple[Tensor, Tensor]:
    "Bytes to learn and bytes to be examined on, from different files."
    files = [document['text'].encode() for document in open_source('bundled:typescript')]
    unseen = files[::12]
    del files[::12]
    learn, examine = (torch.frombuffer(bytearray(b''.join(some)), dtype=torch.uint8).long() for some in (files, unseen))
    return learn, examine


def draw_windows(text: Tensor, step: int, seed: int, rows: int = ROWS) -> Tensor:
    at = torch.randint(len(text) - LENGTH, (rows,), generator=torch.Generator().manual_seed(1_000_003 * seed + step))
    return text[at[:, None] + torch.arange(LENGTH)]


def compute_loss(model, tokens: Tensor) -> Tensor:
    logits = model(tokens).logits
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def train(model, make: Callable, text: Tensor, lr: float, steps: int, seed: int):
    "Train with clipping, warm-up and cosine, as `fit` does; returns the optimizer and the losses."
    phase = Phase(name='bytes', batch=print, loss=print, lr=lr, steps=steps, warmup=20)
    optimizer, losses = make(select_learners(model, phase), phase), []
    for step in range(steps):
        for group in optimizer.param_groups: group['lr'] = lr_at(step, step / steps, phase)
        optimizer.zero_grad()
        loss = compute_loss(model, draw_windows(text, step, seed))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
        optimizer.step()
        losses.append(loss.item())
    return optimizer, losses


def time_steps(trainings: dict, text: Tensor, rounds: int = 5, steps: int = 4) -> dict:
    "Seconds of a step of each (model, optimizer), in alternation, the best round; with GaLore's share of new bases."
    best = dict.fromkeys(trainings, float('inf'))
    for n in range(rounds):
        for name, (model, optimizer) in trainings.items():
            start = time.perf_counter()
            for step in range(steps):
                optimizer.zero_grad()
                compute_loss(model, draw_windows(text, step, n)).backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
                optimizer.step()
            seconds = (time.perf_counter() - start) / steps
            if isinstance(optimizer, GaLore):
                start = time.perf_counter()
                optimizer.turn()
                seconds += (time.perf_counter() - start) / optimizer.gap
            best[name] = min(best[name], seconds)
    return best


def tune_lr(fresh: Callable, make: Callable, text: Tensor, lr: float, steps: int) -> float:
    "The best learning rate among powers of two times a first guess, by the loss at the end of a short run."
    def ended(lr):
        _, losses = train(fresh(), make, text, lr, steps, seed=99)
        return statistics.mean(losses[-steps // 5:])
    tried = {lr: ended(lr)}
    for factor in (2, .5):
        while (best := min(tried, key=tried.get)) * factor not in tried: tried[best * factor] = ended(best * factor)
    print('tuning', {f'{lr:.1g}': round(loss, 3) for lr, loss in sorted(tried.items())}, file=sys.stderr, flush=True)
    return min(tried, key=tried.get)


# --- what is counted ---

def count_kept(model, tokens: Tensor) -> int:
    "Bytes of activations that the forward pass keeps."
    weights, sizes = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}
    def note(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t): out = compute_loss(model, tokens)
    del out
    return sum(size for where, size in sizes.items() if where not in weights)


def predict_state(shapes: dict[str, torch.Size], kind: str, rank: int) -> int:
    "Bytes of state by arithmetic, the few bytes of step counts and of the 8-bit tables left out."
    def each(n):
        "Bytes for a tensor of so many numbers; small ones stay at 32 bits."
        return 2 * n + 8 * -(-n // 256) if '8bit' in kind and n >= 4096 else 8 * n

    total = 0
    for name, shape in shapes.items():
        if 'galore' in kind and len(shape) == 2 and any(part in name for part in MATRICES.split('|')):
            short, long = min(shape), max(shape)
            total += each(min(rank, short) * long) + 4 * min(rank, short) * short
        else: total += each(shape.numel())
    return total


def list_shapes(model) -> dict[str, torch.Size]: return {name: p.shape for name, p in model.named_parameters()}

def make_line(*cells) -> str: return f"| {' | '.join(map(str, cells))} |"

def format_mb(size: float) -> str: return f'{size / 1e6:.1f}'


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--seeds', type=int, default=2)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--width', type=int, default=384)
    parser.add_argument('--layers', type=int, default=6)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    text, unseen = read_corpus()
    fresh = lambda seed=0: build_model(args.width, args.layers, seed)  # noqa: E731
    model, rank = fresh(), args.width // 4
    parameters = sum(p.numel() for p in model.parameters())
    with torch.device('meta'): medium = GPT2LMHeadModel(GPT2Config(n_embd=1024, n_layer=24, n_head=16))
    makers = {'adamw': (make_optimizer, 1e-3),
              'adamw8bit': (lambda learned, phase: make_optimizer(learned, phase, 'adamw8bit'), 1e-3),
              'galore': (lambda learned, phase: GaLore(learned, phase, 'adamw', rank), 4e-3),
              'galore8bit': (lambda learned, phase: GaLore(learned, phase, 'adamw8bit', rank), 4e-3)}

    plain = count_kept(model, draw_windows(text, 0, 0))
    recompute_blocks(model, GPT2Block)
    again = count_kept(model, draw_windows(text, 0, 0))
    print(f'{parameters:,} parameters, {len(text):,} bytes of text, {ROWS} windows of {LENGTH} bytes a step, '
          f'{args.steps} steps, {args.threads} threads')
    print(f'activations kept by the forward pass: {format_mb(plain)} MB, with gradient checkpointing '
          f'{format_mb(again)} MB; GaLore: rank {rank}, gap 200, scale .25\n')
    exam, rows, trainings = draw_windows(unseen, 0, 0, rows=256), {}, {}
    for name, (make, guess) in makers.items():
        lr, losses = tune_lr(fresh, make, text, guess, args.steps // 3), []
        for seed in range(args.seeds):
            optimizer, _ = train(model := fresh(seed), make, text, lr, args.steps, seed)
            with torch.no_grad(): losses.append(f'{compute_loss(model, exam):.3f}')
        state = count_state(optimizer)
        predicted = predict_state(list_shapes(model), name, rank)
        assert abs(state / predicted - 1) < .01, (state, predicted)
        fixed = 8 * parameters + state
        rows[name] = [name, f'{lr:.1g}', format_mb(state), format_mb(fixed), format_mb(fixed + plain),
                      format_mb(fixed + again), *losses]
        print(*rows[name], file=sys.stderr, flush=True)
        trainings[name] = model, optimizer
        recompute_blocks(slow := fresh(), GPT2Block)
        trainings[name, 'again'] = slow, train(slow, make, text, lr, 1, 0)[0]

    seconds = time_steps(trainings, text)
    print(make_line('optimizer', 'learning rate', 'state, MB', 'weights + gradients + state, MB', '+ activations',
                    '+ activations, checkpointing',
               *(f'held-out loss, seed {seed}' for seed in range(args.seeds)), 's/step', 's/step, checkpointing'))
    print('|---' + '|---:' * (7 + args.seeds) + '|')
    for name, row in rows.items(): print(make_line(*row, f'{seconds[name]:.3f}', f"{seconds[name, 'again']:.3f}"))

    n = sum(p.numel() for p in medium.parameters())
    print(f'\nGPT-2 medium, {n / 1e6:.0f} million parameters, by arithmetic: '
          'GB of state, and of weights + gradients + state\n')
    print(make_line('optimizer', 'state', 'weights + gradients + state'))
    print('|---|---:|---:|')
    for name in makers:
        state = predict_state(list_shapes(medium), name, 256)
        print(make_line(name, f'{state / 1e9:.2f}', f'{(8 * n + state) / 1e9:.2f}'))


if __name__ == '__main__': main()
