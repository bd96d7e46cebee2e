#!/usr/bin/env python3
"""Trains Kinglet's embedded model from scratch on a CPU and writes it as GGUF.

    python models/make_stories.py --batches 15               more stories than the sample has, once
    python models/train.py --minutes 45                      train, export models/kinglet-tiny.gguf, report
    python models/train.py --resume target/embedded/last.pt  go on from a checkpoint, at its place in the schedule
    python models/train.py --export target/embedded/last.pt  export a checkpoint
    python models/train.py --measure target/embedded/final.pt  its held-out loss, by quantization
    python models/train.py --golden                          write models/golden.json from the written file
    python models/train.py --sample "Tell me a story."       greedy answer of the written file

The data is read from ../shared/data/corpora beside the repository (--corpora).
"""
import argparse, json, os, random, time
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # tokenizers' threads; --threads is for the arithmetic

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from data import batches, encode_docs, epoch, load, pieces
from model import END, PAD, SEED, answer, chat_prompt, export, forward, generate, grow, read_gguf
from rewrite import rewriting

HERE = Path(__file__).resolve().parent
MUON_LR, ADAM_LR, WEIGHT_DECAY = 0.01, 2e-3, 0.1


class Muon:
    """Momentum whose update of each matrix is orthogonalized (K. Jordan, 2024): fewer steps than AdamW at this size."""

    def __init__(self, params):
        self.groups = {}  # matrices of one shape go through the iteration together
        for p in params:
            self.groups.setdefault(tuple(p.shape), []).append(p)
        self.momentum = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, lr):
        for (rows, cols), ps in self.groups.items():
            grad, m = torch.stack([p.grad for p in ps]), self.momentum[rows, cols]
            m.lerp_(grad, 0.05)
            u = grad.lerp(m, 0.95)
            u = u.mT if rows > cols else u
            u = (u / (u.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
            for _ in range(5):
                s = u @ u.mT
                u = 3.4445 * u + (-4.7750 * s + 2.0315 * s @ s) @ u
            u = (u.mT if rows > cols else u).float()
            for p, update in zip(ps, u):
                p.mul_(1 - lr * WEIGHT_DECAY).add_(update, alpha=-lr * max(1, rows / cols) ** 0.5)


def loss_sum(w, x, weight, dropout=0.0):
    """-> (weighted sum of nats, sum of weights)"""
    weight, mask = weight[:, 1:], weight[:, 1:] > 0
    nats = F.cross_entropy(forward(w, x[:, :-1], mask, dropout).float(), x[:, 1:][mask], reduction="none")
    return (nats * weight[mask]).sum(), weight.sum()


@torch.no_grad()
def held_out(w, tok, data):
    """Loss of the held-out stories, as plain text: nats per token and per UTF-8 byte."""
    encoded = encode_docs(tok, [[(PAD, 0), (s + END, 1)] for s in data.held_stories])
    total = [loss_sum(w, x, weight) for x, weight in batches(encoded, random.Random(0))]
    nats, tokens = (sum(map(float, column)) for column in zip(*total))
    size = sum(len(tok.decode(ids[weights > 0]).encode()) for ids, weights in encoded)
    return {"nats_per_token": nats / tokens, "nats_per_byte": nats / size, "tokens": int(tokens), "bytes": size}


@torch.no_grad()
def exact(w, tok, talks):
    """Which answers greedy decoding would give to the letter, without decoding: each token is the likeliest after those before."""
    docs = [pieces([question, reply]) for question, reply in talks]
    encoded = encode_docs(tok, [[(text, float(i == 1)) for i, (text, _) in enumerate(doc)] for doc in docs])
    out = []
    for start in range(0, len(encoded), 64):
        group = encoded[start : start + 64]
        x = torch.zeros(len(group), max(len(ids) for ids, _ in group), dtype=torch.long)
        for row, (ids, _) in enumerate(group):
            x[row, : len(ids)] = torch.from_numpy(ids)
        best = forward(w, x[:, :-1]).argmax(-1)
        for row, (ids, weights) in enumerate(group):
            at = torch.from_numpy(weights[1:] > 0)
            out.append(bool((best[row, : len(ids) - 1][at] == x[row, 1 : len(ids)][at]).all()))
    return out


def glance(w, tok, data):
    """Shares that are right of the held-out questions one may look at while training: the first of each intent, a quarter of what is to
    be declined, and some rewriting."""
    ask, rng = data.questions, random.Random(2)
    first = {intent.name: (intent.group, question, reply) for intent, question, reply in reversed(ask.held)}
    share = lambda rights: round(sum(rights) / len(rights), 3)
    rights = exact(w, tok, [(question, reply) for _, question, reply in first.values()])
    talk = [right for right, (group, _, _) in zip(rights, first.values()) if group == "small talk"]
    unknown = [question for _, question in ask.held_unknown[::4]]
    declined = [exact(w, tok, [(question, reply) for question in unknown]) for reply in ask.unknown.answers]
    rewritten = exact(w, tok, [rewriting(rng, True)[1:] for _ in range(100)])
    return {"intents": share(rights), "small_talk": share(talk), "declined": share([any(d) for d in zip(*declined)]), "rewriting": share(rewritten)}


def train(args, data):
    rng = random.Random(SEED)
    if args.resume:
        saved = torch.load(args.resume)
        log, tok = saved["log"], Tokenizer.from_str(saved["tokenizer"])
        w = {n: p.requires_grad_() for n, p in saved["weights"].items()}
        rng.seed(SEED + log[-1]["step"])
    else:
        saved, log = {}, [{"step": 0, "tokens": 0, "passes": 0, "minutes": 0}]
        texts = [text for doc in epoch(data, rng, 200) for text, _ in doc]
        w, tok = grow(*read_gguf(args.first), texts)
    matrices = [p for n, p in w.items() if p.ndim == 2 and n != "token_embd.weight"]
    others = [p for n, p in w.items() if p.ndim == 1 or n == "token_embd.weight"]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.98), weight_decay=0.01)
    print(f"{sum(p.numel() for p in w.values()):,} parameters, {len(data.stories)} stories, {len(data.made)} made, "
          f"{len(data.questions.intents)} intents, {len(data.questions.unknown.corpus)} questions of corpora", flush=True)
    if "adam" in saved:
        adam.load_state_dict(saved["adam"])
        muon.momentum = saved["momentum"]
    step, tokens, passes = (log[-1][key] for key in ("step", "tokens", "passes"))
    began, written, resumed = time.time() - 60 * log[-1]["minutes"], time.time(), tokens
    queue = []

    def checkpoint(name):
        log.append({"step": step, "tokens": tokens, "passes": passes, "minutes": round((time.time() - began) / 60, 1),
                    "held_out": held_out(w, tok, data), "looked_at": glance(w, tok, data)})
        print(json.dumps(log[-1]), flush=True)
        state = {"weights": {n: p.detach() for n, p in w.items()}, "momentum": muon.momentum, "adam": adam.state_dict()}
        torch.save(state | {"tokenizer": tok.to_str(), "log": log}, args.out / name)

    while True:
        done = step / args.steps if args.steps else (time.time() - began) / (60 * args.minutes)
        if done >= 1:
            break
        if not queue:
            docs = epoch(data, rng, args.stories, args.made)
            queue, passes = batches(encode_docs(tok, docs), rng), passes + 1
        rate = min(1, (step + 1) / 60, (1 - done) / 0.7)  # warm up, stay, and come down to nothing over the last 70 %
        x, weight = queue.pop()
        with torch.autocast("cpu", torch.bfloat16):
            nats, count = loss_sum(w, x, weight, args.dropout)
        (nats / count).backward()
        muon.step(MUON_LR * rate)
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * rate
        adam.step()
        for p in w.values():
            p.grad = None
        step, tokens = step + 1, tokens + x.numel()
        if step % 25 == 0:
            print(f"step {step} pass {passes} loss {nats.item() / count:.3f} rate {rate:.2f} "
                  f"{tokens / (time.time() - began):.0f} tokens/s, {(tokens - resumed) / time.process_time():.0f} of a core", flush=True)
        if time.time() - written > 300:
            checkpoint("last.pt")
            written = time.time()
    checkpoint("final.pt")
    return args.out / "final.pt"


def golden(path, target):
    w, tok = read_gguf(path)
    rows = []
    for kind, text in [("raw", "Once upon a time, there was a little"), ("chat", "Tell me a story about a dog."),
                       ("chat", "Hello! Who are you?")]:
        prompt = text if kind == "raw" else chat_prompt(text)
        ids, generated, gaps = generate(w, tok, prompt, 64)
        row = {"kind": kind, "text": text, "rendered": prompt, "prompt_ids": ids, "greedy_ids": generated, "logit_gaps": gaps,
               "greedy_text": tok.decode(generated, skip_special_tokens=True), "ended": generated[-1] == tok.token_to_id(END)}
        rows.append(row)
    note = ("Made by train.py --golden: ids by Hugging Face tokenizers, greedy ids by a float32 forward pass of the file's "
            "dequantized weights; greedy_ids end with the end token if `ended`. logit_gaps: best minus second-best logit.")
    body = ",\n".join(json.dumps(row) for row in rows)
    target.write_text('{"note": %s,\n"model": "%s",\n"prompts": [\n%s\n]}\n' % (json.dumps(note), path.name, body))


def measure(w, tok, data, out):
    """Held-out loss of the float weights and of each quantization, with the file's size."""
    rows = [("float32", "-", held_out(w, tok, data))]
    for matrix, embedding in [(m, "Q8_0") for m in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")] + [("Q4_0", "Q4_0")]:
        path = out / f"{matrix}-{embedding}.gguf"
        export(w, tok, path, matrix, embedding)
        rows.append((f"{matrix}, embedding {embedding}", f"{path.stat().st_size:,}", held_out(*read_gguf(path), data)))
    for name, size, loss in rows:
        print(f"| {name} | {size} | {loss['nats_per_token']:.4f} | {loss['nats_per_byte']:.4f} |")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--minutes", type=float, default=45, help="training time; the learning rate follows the clock")
    args.add_argument("--steps", type=int, help="a number of steps instead, which makes the run repeatable")
    args.add_argument("--stories", type=int, default=300, help="stories of the sample in a pass")
    args.add_argument("--made", type=int, default=0, help="made stories in a pass")
    args.add_argument("--dropout", type=float, default=0.1)
    args.add_argument("--first", type=Path, default=HERE.parent / "target/embedded/first.gguf", help="the first version, to begin with")
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--corpora", type=Path, default=HERE.parent / "../shared/data/corpora")
    args.add_argument("--out", type=Path, default=HERE.parent / "target/embedded", help="folder for checkpoints")
    args.add_argument("--model", type=Path, default=HERE / "kinglet-tiny.gguf", help="the GGUF to write or read")
    args.add_argument("--resume", type=Path, metavar="CHECKPOINT")
    args.add_argument("--export", type=Path, metavar="CHECKPOINT")
    args.add_argument("--measure", type=Path, metavar="CHECKPOINT", help="held-out losses of a checkpoint, by quantization")
    args.add_argument("--golden", action="store_true")
    args.add_argument("--sample", metavar="TEXT", action="append", help="greedy answer to a chat message (repeatable)")
    args.add_argument("--temperature", type=float, default=0, help="for --sample")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    if args.golden:
        return golden(args.model, HERE / "golden.json")
    if args.sample:
        w, tok = read_gguf(args.model)
        for text in args.sample:
            print(f"> {text}\n{answer(w, tok, text, temperature=args.temperature)}\n")
        return
    data = load(args.corpora, args.out / "made-stories.txt")
    checkpoint = args.measure or args.export or train(args, data)
    saved = torch.load(checkpoint)
    w, tok = saved["weights"], Tokenizer.from_str(saved["tokenizer"])
    if args.measure:
        return measure(w, tok, data, args.out)
    export(w, tok, args.model)
    print(f"{args.model.name}: {args.model.stat().st_size:,} bytes", json.dumps(saved["log"][-1]))
    print("held out, as written:", json.dumps(held_out(*read_gguf(args.model), data)))


if __name__ == "__main__":
    main()
