#!/usr/bin/env python3
"""Writes stories with stories260K, which has seen all of TinyStories, so that the embedded model is not limited to the
2 MiB sample. train.py reads what this writes.

    python models/make_stories.py --batches 15      writes target/embedded/made-stories.txt

Kept are stories that end by themselves, in words that the sample also uses, and do not repeat themselves.
"""
import argparse, re, time
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
BOS, LIMIT = 1, 480


class Writer:
    """stories260K: a Llama with a SentencePiece vocabulary of 512; float32, all rows of a batch in step."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.w = {t.name: torch.from_numpy(np.array(t.data)) for t in reader.tensors}
        field = lambda key: reader.fields[key].contents()
        byte = lambda piece: re.sub(r"<0x(..)>", lambda m: chr(int(m[1], 16)), piece)
        self.pieces = [byte(piece).replace("▁", " ") for piece in field("tokenizer.ggml.tokens")]
        self.layers, self.heads = field("llama.block_count"), field("llama.attention.head_count")
        self.kv_heads, self.eps = field("llama.attention.head_count_kv"), field("llama.attention.layer_norm_rms_epsilon")
        self.width = field("llama.embedding_length")
        self.size = self.width // self.heads
        self.out = self.w.get("output.weight", self.w["token_embd.weight"])
        angle = torch.outer(torch.arange(LIMIT).float(), 10000.0 ** (-torch.arange(0, self.size, 2).float() / self.size))
        self.cos, self.sin = angle.cos(), angle.sin()

    def step(self, ids, cache, t):
        """Token ids [B] at position t -> logits [B, vocabulary]; cache[layer] = keys, values [B, KV, LIMIT, size]."""
        x = self.w["token_embd.weight"][ids]
        b = len(ids)

        def rotate(z):
            a, c = z[..., 0::2], z[..., 1::2]
            return torch.stack((a * self.cos[t] - c * self.sin[t], a * self.sin[t] + c * self.cos[t]), -1).flatten(-2)

        for i in range(self.layers):
            p = lambda name: self.w[f"blk.{i}.{name}.weight"]
            h = F.rms_norm(x, (self.width,), p("attn_norm"), self.eps)
            heads = lambda name, n: (h @ p(name).T).view(b, n, self.size)
            keys, values = cache[i]
            keys[:, :, t], values[:, :, t] = rotate(heads("attn_k", self.kv_heads)), heads("attn_v", self.kv_heads)
            q = rotate(heads("attn_q", self.heads)).view(b, self.kv_heads, -1, self.size)
            score = q @ keys[:, :, : t + 1].mT / self.size**0.5
            x = x + (score.softmax(-1) @ values[:, :, : t + 1]).reshape(b, self.width) @ p("attn_output").T
            h = F.rms_norm(x, (self.width,), p("ffn_norm"), self.eps)
            x = x + (F.silu(h @ p("ffn_gate").T) * (h @ p("ffn_up").T)) @ p("ffn_down").T
        return F.rms_norm(x, (self.width,), self.w["output_norm.weight"], self.eps) @ self.out.T

    @torch.no_grad()
    def stories(self, batch, temperature, top_p):
        cache = [[torch.zeros(batch, self.kv_heads, LIMIT, self.size) for _ in "kv"] for _ in range(self.layers)]
        ids, alive, done = torch.full((batch, 1), BOS), torch.ones(batch, dtype=torch.bool), []
        for t in range(LIMIT):
            best, order = (self.step(ids[:, -1], cache, t) / temperature).softmax(-1).topk(64)
            best = best * (best.cumsum(-1) - best < top_p)
            ids = torch.cat((ids, order.gather(1, best.multinomial(1))), 1)
            ended = alive & (ids[:, -1] <= 2)  # another story would begin
            done += ids[ended, 1:-1].tolist()
            alive &= ~ended
            if t % 24 == 23:  # the finished rows leave the batch
                if alive.sum() < batch // 20:
                    break
                cache = [[z[alive] for z in layer] for layer in cache]
                ids, alive = ids[alive], alive[alive]
        return ["".join(self.pieces[i] for i in story).strip() for story in done]


def repeats(story):
    """Says a sentence, or seven words in a row, twice."""
    words = re.findall(r"[a-z']+", story.lower())
    runs = list(zip(*(words[i:] for i in range(7))))
    return len(set(runs)) < len(runs)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--minutes", type=float, default=10)
    args.add_argument("--batches", type=int, help="a number of batches instead, which makes the run repeatable")
    args.add_argument("--temperature", type=float, default=0.8)
    args.add_argument("--top-p", type=float, default=0.95)
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--data", type=Path, default=HERE.parent / "../shared/data")
    args.add_argument("--out", type=Path, default=HERE.parent / "target/embedded/made-stories.txt")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    sample = (args.data / "corpora/tinystories-sample.txt").read_text()
    known = set(re.findall(r"[a-z']+", sample.lower()))
    writer, began, kept, size, batch = Writer(args.data / "stories260K/stories260K.gguf"), time.time(), 0, 0, 0
    while batch < args.batches if args.batches else time.time() - began < 60 * args.minutes:
        torch.manual_seed(batch)
        made = writer.stories(768, args.temperature, args.top_p)
        good = [s for s in made if len(s) > 200 and set(re.findall(r"[a-z']+", s.lower())) <= known and not repeats(s)]
        with args.out.open("a" if batch else "w") as out:
            out.writelines(s + "\n<|endoftext|>\n" for s in good)
        batch, kept, size = batch + 1, kept + len(good), size + sum(map(len, good))
        print(f"{batch} batches, {len(made)} stories ended, {len(good)} kept; {kept:,} stories, {size:,} bytes, "
              f"{size / (time.time() - began):,.0f} bytes/s", flush=True)


if __name__ == "__main__":
    main()
