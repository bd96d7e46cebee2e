"""The embedded model: its shape, its forward pass, and its GGUF file."""
import json, math
from collections import Counter

import gguf
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

SEED = 20
VOCAB, CONTEXT = 2560, 512
HIDDEN, LAYERS, HEADS, KV_HEADS, FFN = 192, 5, 3, 1, 512
HEAD_DIM, ROPE_BASE, NORM_EPS = HIDDEN // HEADS, 10000.0, 1e-5
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def shapes():
    """Tensor shapes [rows = outputs, columns = inputs] under their GGUF names."""
    kv = KV_HEADS * HEAD_DIM
    block = {"attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (kv, HIDDEN), "attn_v": (kv, HIDDEN),
             "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,), "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN),
             "ffn_down": (HIDDEN, FFN)}
    out = {"token_embd.weight": (VOCAB, HIDDEN)}
    for i in range(LAYERS):
        out.update({f"blk.{i}.{name}.weight": shape for name, shape in block.items()})
    return out | {"output_norm.weight": (HIDDEN,)}


def init_weights():
    torch.manual_seed(SEED)
    out = {}
    for name, shape in shapes().items():
        last = "attn_output" in name or "ffn_down" in name
        w = torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * (0.02 / math.sqrt(2 * LAYERS) if last else 0.02)
        out[name] = w.requires_grad_()
    return out


def grow(w, tok, texts):
    """The first version's weights and tokenizer -> wider vocabulary and more layers that compute the same at first: a new token
    begins as the mean of its pieces, a new layer adds nothing to the residual stream."""
    wider = extend(tok, texts)
    rows = [w["token_embd.weight"][i] for i in range(tok.get_vocab_size())]
    for token, i in sorted(wider.get_vocab().items(), key=lambda item: item[1])[len(rows) :]:
        pieces = tok.encode(wider.decoder.decode([token]), add_special_tokens=False).ids
        rows.append(torch.stack([rows[piece] for piece in pieces]).mean(0))
    old = [n.split(".")[1] for n in w if n.endswith("ffn_up.weight")]
    places = [i * LAYERS // len(old) for i in range(len(old))]  # where the old layers go
    out = init_weights()
    with torch.no_grad():
        out["token_embd.weight"].copy_(torch.stack(rows))
        out["output_norm.weight"].copy_(w["output_norm.weight"])
        for name, p in out.items():
            if not name.startswith("blk."):
                continue
            _, layer, rest = name.split(".", 2)
            if int(layer) in places:
                p.copy_(w[f"blk.{old[places.index(int(layer))]}.{rest}"])
            elif "attn_output" in name or "ffn_down" in name:
                p.zero_()
    return out, wider


def extend(tok, texts):
    """More merges behind those of a byte-level BPE, learned from `texts` as it splits them."""
    spec, count = json.loads(tok.to_str()), Counter()
    for text in texts:
        count.update(word for word, _ in tok.pre_tokenizer.pre_tokenize_str(text))
    split = {word: tuple(t.value for t in tok.model.tokenize(word)) for word in count}
    vocab, merges = dict(spec["model"]["vocab"]), spec["model"]["merges"]
    while len(vocab) < VOCAB:
        pairs = Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += count[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(list(best))
        vocab.setdefault("".join(best), len(vocab))
        split = {word: merge(parts, best) for word, parts in split.items()}
    return build_tokenizer(vocab, [tuple(m) for m in merges])


def merge(parts, pair):
    out = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return tuple(out)


def build_tokenizer(vocab, merges):
    """Byte-level BPE with GPT-2's pre-tokenizer, so that every engine that knows "gpt-2" tokenizes alike."""
    tok = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, START, END)])
    return tok


def rotate(x, cos, sin):
    """RoPE on neighbouring pairs, the layout of GGUF's `llama`; cos/sin are [T, 1, HEAD_DIM / 2]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def attend(q, k, v):
    """q [B, T, HEADS, D], k and v [B, T, KV_HEADS, D] -> [B, T, HEADS, D]. The heads of one key head share a product; on
    a CPU this takes half the time of scaled_dot_product_attention."""
    b, t = q.shape[:2]
    group = HEADS // KV_HEADS
    q = q.view(b, t, KV_HEADS, group, HEAD_DIM).permute(0, 2, 3, 1, 4).reshape(b * KV_HEADS, group * t, HEAD_DIM)
    k, v = (z.transpose(1, 2).reshape(b * KV_HEADS, t, HEAD_DIM) for z in (k, v))
    future = torch.ones(t, t, dtype=torch.bool).triu(1)
    score = (q @ k.mT).view(-1, group, t, t).masked_fill(future, -math.inf).softmax(-1)
    out = score.to(v.dtype).view(-1, group * t, t) @ v
    return out.view(b, KV_HEADS, group, t, HEAD_DIM).permute(0, 3, 1, 2, 4)


def forward(w, ids, keep=None, dropout=0.0):
    """Token ids [B, T] -> logits [B, T, VOCAB], or [kept, VOCAB] where the mask `keep` [B, T] is set. Dropout takes the
    same channels from a whole text, which costs next to nothing."""
    b, t = ids.shape
    angle = torch.outer(torch.arange(t).float(), ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM))[:, None]
    cos, sin = angle.cos(), angle.sin()

    def drop(x):
        return x * (torch.rand(b, 1, HIDDEN) >= dropout).to(x.dtype).div_(1 - dropout) if dropout else x

    x = drop(F.embedding(ids, w["token_embd.weight"]))
    for i in range(LAYERS):
        p = lambda name: w[f"blk.{i}.{name}.weight"]
        h = F.rms_norm(x, (HIDDEN,), p("attn_norm"), NORM_EPS)
        heads = lambda name, n: F.linear(h, p(name)).view(b, t, n, HEAD_DIM)
        q, k = rotate(heads("attn_q", HEADS) * HEAD_DIM**-0.5, cos, sin), rotate(heads("attn_k", KV_HEADS), cos, sin)
        x = x + drop(F.linear(attend(q, k, heads("attn_v", KV_HEADS)).reshape(b, t, HIDDEN), p("attn_output")))
        h = F.rms_norm(x, (HIDDEN,), p("ffn_norm"), NORM_EPS)
        x = x + drop(F.linear(F.silu(F.linear(h, p("ffn_gate"))) * F.linear(h, p("ffn_up")), p("ffn_down")))
    x = x if keep is None else x[keep]
    return F.linear(F.rms_norm(x, (HIDDEN,), w["output_norm.weight"], NORM_EPS), w["token_embd.weight"])


@torch.no_grad()
def generate(w, tok, prompt, limit=300, temperature=0.0):
    """-> (prompt ids, generated ids with the end token, gap of the two best logits at each)"""
    ids = tok.encode(prompt, add_special_tokens=False).ids
    start, gaps = len(ids), []
    while len(gaps) < limit and len(ids) < CONTEXT:
        logits = forward(w, torch.tensor([ids]))[0, -1]
        best = logits.topk(2)
        ids.append(int((logits / temperature).softmax(-1).multinomial(1)) if temperature else int(best.indices[0]))
        gaps.append(round(float(best.values[0] - best.values[1]), 5))
        if ids[-1] == tok.token_to_id(END):
            break
    return ids[:start], ids[start:], gaps


def chat_prompt(text):
    return f"{START}user\n{text}{END}\n{START}assistant\n"


def answer(w, tok, text, **options):
    return tok.decode(generate(w, tok, chat_prompt(text), **options)[1], skip_special_tokens=True)


# ---------------------------------------------------------------- GGUF


def export(w, tok, path, matrix="Q8_0", embedding="Q8_0"):
    out = gguf.GGUFWriter(path, "llama")
    out.add_type("model")
    out.add_name("Kinglet Tiny")
    out.add_description("Small model trained by the Kinglet project (models/train.py): answers about Kinglet, small talk, rewriting, short stories")
    out.add_license("MIT OR Apache-2.0")
    out.add_languages(["en"])
    out.add_context_length(CONTEXT)
    out.add_embedding_length(HIDDEN)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(FFN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_rope_dimension_count(HEAD_DIM)
    out.add_rope_freq_base(ROPE_BASE)
    out.add_layer_norm_rms_eps(NORM_EPS)
    out.add_vocab_size(VOCAB)
    out.add_file_type(gguf.LlamaFileType[f"MOSTLY_{matrix}"])
    out.add_quantization_version(gguf.GGML_QUANT_VERSION)

    spec = json.loads(tok.to_str())["model"]
    ids = sorted(tok.get_vocab().items(), key=lambda item: item[1])
    assert [i for _, i in ids] == list(range(VOCAB)), "the vocabulary has holes"
    special = {PAD, START, END}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list([t for t, _ in ids])
    out.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t, _ in ids])
    out.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in spec["merges"]])
    out.add_bos_token_id(tok.token_to_id(PAD))
    out.add_eos_token_id(tok.token_to_id(END))
    out.add_eot_token_id(tok.token_to_id(END))
    out.add_pad_token_id(tok.token_to_id(PAD))
    out.add_add_bos_token(False)
    out.add_chat_template(TEMPLATE)

    for name, tensor in w.items():
        values = tensor.detach().numpy().astype(np.float32)
        kind = "F32" if values.ndim == 1 else embedding if name == "token_embd.weight" else matrix
        if kind == "F32":
            out.add_tensor(name, values)
        else:
            kind = gguf.GGMLQuantizationType[kind]
            out.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def read_gguf(path):
    """-> (weights dequantized to float32, tokenizer rebuilt from the metadata)"""
    reader = gguf.GGUFReader(path)
    w = {t.name: torch.from_numpy(gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)) for t in reader.tensors}
    field = lambda key: reader.fields[f"tokenizer.ggml.{key}"].contents()
    vocab = {t: i for i, t in enumerate(field("tokens"))}
    return w, build_tokenizer(vocab, [tuple(m.split(" ")) for m in field("merges")])
