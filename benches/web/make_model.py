#!/usr/bin/env python3
"""Writes GGUF models with the true shapes of SmolLM2 and seeded random weights: speed does not depend on the values.

    python make_model.py [--out models] [--tokenizer DIR] SHAPE:TYPE ...
    python make_model.py smollm2-135m:Q4_0 smollm2-360m:Q4_K_M

Shapes: smollm2-135m, smollm2-360m, smollm2-1.7b. Types: Q4_0, Q8_0, Q4_K_M, F16. The types of the single tensors are those
that llama.cpp's quantizer chooses: Q4_K_M gives `attn_v` and `ffn_down` of some layers Q6_K, rows that do not divide by 256
fall back (Q4_K to Q5_0, Q6_K to Q8_0), and the tied embedding is Q6_K, or Q8_0 where that does not fit.
Needs numpy and gguf from PyPI, and SmolLM2's tokenizer.json. Existing files are kept."""

import argparse
import json
import os
import zlib
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

SHAPES = {
    "smollm2-135m": dict(hidden=576, layers=30, heads=9, kv_heads=3, ff=1536, rope=100000.0, context=8192),
    "smollm2-360m": dict(hidden=960, layers=32, heads=15, kv_heads=5, ff=2560, rope=100000.0, context=8192),
    "smollm2-1.7b": dict(hidden=2048, layers=24, heads=32, kv_heads=32, ff=8192, rope=130000.0, context=8192),
}
TYPES = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "F16": 1}  # general.file_type
FALLBACK = {T.Q4_K: T.Q5_0, T.Q6_K: T.Q8_0}
VOCABULARY = 49152
HERE = Path(__file__).resolve().parent


def tensor_type(name: str, layer: int, shape: tuple[int, ...], mix: str, layers: int) -> T:
    """llama.cpp's choice for one matrix of a llama model with a tied head."""
    if mix == "F16":
        return T.F16
    if mix == "Q8_0":
        return T.Q8_0
    if name == "token_embd":
        wanted = T.Q6_K
    elif mix == "Q4_0":
        return T.Q4_0
    else:
        eighth = layers // 8
        more_bits = layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
        wanted = T.Q6_K if name in ("attn_v", "ffn_down") and more_bits else T.Q4_K
    return FALLBACK[wanted] if shape[-1] % 256 else wanted


def random_blocks(rng: np.random.Generator, shape: tuple[int, ...], kind: T, std: float) -> np.ndarray:
    """Random super-blocks of a k-quant (gguf-py cannot quantize to these) whose values have about the deviation `std`."""
    blocks = (*shape[:-1], shape[-1] // 256)

    def octets(n):
        return rng.integers(0, 256, (*blocks, n), dtype=np.uint8)

    def half(value):
        return np.full(blocks, value, np.float16)[..., None].view(np.uint8)

    if kind == T.Q6_K:  # d * scale * (q - 32); q uniform: deviation 18.5
        scales = (rng.integers(64, 128, (*blocks, 16)) * rng.choice((-1, 1), (*blocks, 16))).astype(np.int8)
        parts = [octets(128), octets(64), scales.view(np.uint8), half(std / (97 * 18.5))]
    elif kind == T.Q4_K:  # d * scale * q - dmin * min, with min = scale and dmin = 7.5 d: deviation 4.6
        s = rng.integers(32, 64, (*blocks, 8), dtype=np.uint8)
        low, high = s[..., :4], s[..., 4:]
        packed = [low | (high >> 4) << 6, low | (high >> 4) << 6, (high & 15) | (high & 15) << 4]
        d = std / (48 * 4.6)
        parts = [half(d), half(7.5 * d), *packed, octets(128)]
    else:
        raise ValueError(kind)
    return np.concatenate(parts, axis=-1).reshape(*shape[:-1], -1)


def write(path: Path, shape_name: str, mix: str, tokenizer: Path) -> None:
    c = SHAPES[shape_name]
    hidden, layers, heads, ff = c["hidden"], c["layers"], c["heads"], c["ff"]
    kv = c["kv_heads"] * hidden // heads
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(f"{shape_name}-random")
    w.add_file_type(TYPES[mix])
    w.add_context_length(c["context"])
    w.add_embedding_length(hidden)
    w.add_block_count(layers)
    w.add_feed_forward_length(ff)
    w.add_head_count(heads)
    w.add_head_count_kv(c["kv_heads"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(c["rope"])
    w.add_rope_dimension_count(hidden // heads)
    w.add_vocab_size(VOCABULARY)
    add_tokenizer(w, tokenizer)

    rng = np.random.default_rng(zlib.crc32(f"{shape_name}:{mix}".encode()))

    def ones(name, n):
        w.add_tensor(f"{name}.weight", np.ones(n, np.float32))

    def matrix(name, shape, layer=-1, std=None):
        kind = tensor_type(name, layer, shape, mix, layers)
        std = std or 0.6 / np.sqrt(shape[-1])
        full = f"{name}.weight" if layer < 0 else f"blk.{layer}.{name}.weight"
        if kind in (T.Q4_K, T.Q6_K):
            w.add_tensor(full, random_blocks(rng, shape, kind, std), raw_dtype=kind)
            return
        values = rng.standard_normal(shape, dtype=np.float32) * np.float32(std)
        if kind == T.F16:
            w.add_tensor(full, values.astype(np.float16))
        else:
            w.add_tensor(full, quants.quantize(values, kind), raw_dtype=kind)

    matrix("token_embd", (VOCABULARY, hidden), std=0.05)
    ones("output_norm", hidden)
    for i in range(layers):
        ones(f"blk.{i}.attn_norm", hidden)
        matrix("attn_q", (hidden, hidden), i)
        matrix("attn_k", (kv, hidden), i)
        matrix("attn_v", (kv, hidden), i)
        matrix("attn_output", (hidden, hidden), i)
        ones(f"blk.{i}.ffn_norm", hidden)
        matrix("ffn_gate", (ff, hidden), i)
        matrix("ffn_up", (ff, hidden), i)
        matrix("ffn_down", (hidden, ff), i)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def add_tokenizer(w: gguf.GGUFWriter, folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf8"))
    tokens = [None] * VOCABULARY
    for token, i in spec["model"]["vocab"].items():
        tokens[i] = token
    special = {a["id"] for a in spec["added_tokens"] if a["special"]}
    for a in spec["added_tokens"]:
        tokens[a["id"]] = a["content"]
    types = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(VOCABULARY)]
    for i, token in enumerate(tokens):
        if token is None:
            tokens[i], types[i] = f"<unused{i}>", gguf.TokenType.UNUSED
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_pad_token_id(2)
    w.add_unk_token_id(0)
    w.add_add_bos_token(False)
    w.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf8"))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+", metavar="SHAPE:TYPE")
    p.add_argument("--out", type=Path, default=HERE / "models")
    p.add_argument("--tokenizer", type=Path, default=HERE / "../../../shared/data/tokenizers/smollm2", help="folder with tokenizer.json and chat_template.jinja")
    args = p.parse_args()
    wanted = [m.split(":") for m in args.models]
    for m in wanted:
        if len(m) != 2 or m[0] not in SHAPES or m[1] not in TYPES:
            p.error(f"{':'.join(m)}: shapes are {', '.join(SHAPES)}; types are {', '.join(TYPES)}")
    args.out.mkdir(parents=True, exist_ok=True)
    for shape, mix in wanted:
        path = args.out / f"{shape}-{mix}.gguf"
        if path.exists():
            print(f"{path.name}: there already")
            continue
        part = path.with_suffix(".part")
        write(part, shape, mix, args.tokenizer)
        os.replace(part, path)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
