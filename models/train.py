#!/usr/bin/env python3
"""Trains Kinglet's embedded model from scratch on a CPU and writes it as GGUF.

    python models/train.py --minutes 60 --threads 2          train, export models/kinglet-tiny.gguf, report
    python models/train.py --resume target/embedded/last.pt  go on from a checkpoint, at its place in the schedule
    python models/train.py --export target/embedded/last.pt  export a checkpoint
    python models/train.py --measure target/embedded/final.pt  its held-out loss, by quantization
    python models/train.py --golden                          write models/golden.json from the written file
    python models/train.py --sample "Tell me a story."       greedy answer of the written file

The data is read from ../shared/data/corpora beside the repository (--corpora).
"""
import argparse, json, math, random, re, time
from collections import Counter
from pathlib import Path

import gguf
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).resolve().parent
SEED = 20
VOCAB, CONTEXT = 2048, 512
HIDDEN, LAYERS, HEADS, KV_HEADS, FFN = 192, 4, 3, 1, 512
HEAD_DIM, ROPE_BASE, NORM_EPS = HIDDEN // HEADS, 10000.0, 1e-5
BATCH_TOKENS = 3072
MUON_LR, ADAM_LR, WEIGHT_DECAY, SHORT_WEIGHT = 0.008, 1.5e-3, 0.1, 3
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# ---------------------------------------------------------------- data

# The other chatterbot files are rude, opinionated, or claim an identity that is not Kinglet's.
CHATTERBOT = ["greetings", "conversations", "computers", "tech_support", "trivia"]
GRIM = re.compile(r"\b(bombs?|guns?|kill\w*|died|dead|death|blood|bloody|passed away|drown\w*)\b", re.I)
PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "…": "...", "\u00a0": " "})


def clean(text):
    return re.sub(r"[ \t]+", " ", str(text).translate(PLAIN)).strip()


def load(corpora):
    """Returns (stories, chats, dialogues); the first two as (train, held out), 5 % held out of each."""
    rng = random.Random(SEED)
    text = (corpora / "tinystories-sample.txt").read_text()
    whole = text.split("<|endoftext|>")[:-1]  # the last one is cut off in the sample
    stories = sorted({clean(re.sub(r"\s*\n\s*", "\n", s)) for s in whole if len(s.strip()) > 200 and not GRIM.search(s)})

    chats = {}  # prompt -> answers; one prompt is never on both sides of the split
    for row in json.loads((corpora / "instructions-1100.json").read_text()):
        chats.setdefault(clean(row["instruction"] + "\n" + row["input"]), []).append([clean(row["output"])])
    for line in (corpora / "self-instruct-seeds.jsonl").read_text().splitlines():
        row = json.loads(line)
        one = row["instances"][0]
        chats.setdefault(clean(row["instruction"] + "\n" + one["input"]), []).append([clean(one["output"])])
    for name in CHATTERBOT:
        for turns in yaml.safe_load((corpora / "chatterbot" / f"{name}.yml").read_text())["conversations"]:
            turns = [clean(t) for t in turns]
            if name == "computers":  # there, every line after the question is an answer of its own
                rest = [[t] for t in turns[1:]]
            else:
                rest = [turns[1 : len(turns) // 2 * 2]]
            chats.setdefault(turns[0], []).extend(rest)
    chats = [(p, [t for t in alts if t and all(t)]) for p, alts in sorted(chats.items())]
    chats = [(p, [list(t) for t in dict.fromkeys(map(tuple, alts))]) for p, alts in chats if alts and p]
    chats = [(p, [t for t in alts if len(p) + sum(map(len, t)) < 1200]) for p, alts in chats]
    chats = [(p, alts) for p, alts in chats if alts]

    dialogues = []
    for block in (HERE / "dialogues.txt").read_text().split("\n\n"):
        lines = "\n".join(line for line in block.splitlines() if not line.startswith("#"))
        turns = re.findall(r"^([UA]): (.*?)(?=\n[UA]: |\Z)", lines.strip(), re.S | re.M)
        assert [who for who, _ in turns] == ["U", "A"] * (len(turns) // 2), block
        if turns:
            dialogues.append([text.strip().split(" | ") for _, text in turns])

    def split(items):
        rng.shuffle(items)
        held = len(items) // 20
        return items[held:], items[:held]

    return split(stories), split(chats), dialogues


GIRLS = """Lily Anna Lucy Mia Sarah Jane Sara Sue Molly Jill Sally Lila Mary Amy Emma Emily Jenny Lola Susie Alice Bella Lisa
Kate Sophie""".split()
BOYS = """Ben Tom Tim Timmy Jack Sam John Bob Joe Tommy Billy Jimmy Andy Jake Benny Jim Henry George Danny James Peter Alex
Fred Leo""".split()
NOUNS = """dog cat bird fish bear rabbit bunny mouse frog duck horse cow pig lion tiger monkey elephant fox wolf bee ant
butterfly spider squirrel turtle snake dragon dinosaur owl chicken sheep goat puppy kitten crab whale shark worm bug robot
princess prince king queen fairy witch wizard monster giant pirate doctor teacher farmer chef baby boy girl man woman
tree flower garden forest park beach sea lake river pond mountain hill castle house farm school store zoo moon sun star
cloud rain snow rainbow wind ball doll toy truck car train boat ship plane bike kite balloon box book letter picture
cake cookie apple banana orange pie soup bread cheese ice pumpkin carrot candy hat dress shoe coat ring crown key door
treasure magic bed blanket bell drum guitar piano rock stick leaf nest egg swing slide sandwich potato mailman clown""".split()
NAME = re.compile(r"\b(" + "|".join(GIRLS + BOYS) + r")\b")

ANY_STORY = ["Tell me a story.", "Tell me a story", "Tell me a short story.", "Can you tell me a story?", "Write a story.",
             "Write a short story.", "Please tell me a story.", "I want to hear a story.", "Tell me another story.", "story",
             "Another story, please.", "Tell me a bedtime story.", "Write a story for children.", "One more!", "a story please"]
STORY_ABOUT = ["Tell me a story about {}.", "Tell me a story about {}", "Write a story about {}.", "Write a short story about {}.",
               "Can you tell me a story about {}?", "Please write a story about {}.", "I want a story about {}.",
               "Tell me a short story about {}.", "Could you write a story about {}?", "Story about {}", "A story about {}, please.",
               "tell me a story about {}", "Make up a story about {}."]
CONTINUE = ["Continue this story: ", "Go on with this story: ", "How does this story go on? ", "Finish this story: "]
SYSTEM = ["You are a helpful assistant.", "You are Kinglet, a small language model that runs in the browser.",
          "You are a helpful assistant. Answer in short sentences.", "You tell stories.", "Be brief."]
CAPITALS = dict(re.findall(r"(\S+)=(\S+)", """France=Paris Germany=Berlin Italy=Rome Spain=Madrid England=London Japan=Tokyo
China=Beijing India=Delhi Russia=Moscow Canada=Ottawa Egypt=Cairo Greece=Athens Austria=Vienna Portugal=Lisbon Norway=Oslo
Sweden=Stockholm Finland=Helsinki Poland=Warsaw Ireland=Dublin Denmark=Copenhagen Australia=Canberra Turkey=Ankara Cuba=Havana
Peru=Lima Chile=Santiago Kenya=Nairobi Hungary=Budapest Belgium=Brussels Thailand=Bangkok"""))
OPPOSITES = """big=small hot=cold happy=sad fast=slow day=night up=down good=bad light=dark old=young rich=poor full=empty
open=closed wet=dry hard=soft loud=quiet long=short high=low near=far left=right early=late strong=weak""".split()


def swap_names(text, rng):
    """The same story about other children: names are exchanged within girls and within boys."""
    present = set(NAME.findall(text))
    swap = {}
    for names in (GIRLS, BOYS):
        free = [n for n in names if n not in present]
        rng.shuffle(free)
        swap.update({n: free.pop() for n in sorted(present & set(names)) if free})
    return NAME.sub(lambda m: swap.get(m[0], m[0]), text)


def subjects(story):
    """What the story is about: nouns and names that it says at least twice, as they would stand in a request."""
    words = Counter(re.findall(r"[a-z]+", story.lower()))
    nouns = [n for n in NOUNS if words[n] + words[n + "s"] >= 2]
    found = [("an " if n[0] in "aeiou" else "a ") + n for n in nouns if n not in ("rain", "snow", "ice", "magic", "bread")]
    names = [n for n, c in Counter(NAME.findall(story)).items() if c >= 2]
    return found + names + [("a girl named " if n in GIRLS else "a boy named ") + n for n in names]


def story_chat(story, rng):
    """(request, answer) for a story; the answer contains what the request asks for."""
    about = subjects(story)
    kind = rng.random()
    if kind < 0.2 and story.count(". ") > 5:
        cut = [m.end() for m in re.finditer(r"[.!?] ", story)][rng.randrange(1, 3)]
        return rng.choice(CONTINUE) + story[:cut].strip(), story[cut:].strip()
    if kind < 0.4 or not about:
        return rng.choice(ANY_STORY), story
    if kind < 0.6 and len(about) > 1:
        return rng.choice(STORY_ABOUT).format(" and ".join(rng.sample(about, 2))), story
    return rng.choice(STORY_ABOUT).format(rng.choice(about)), story


def casual(text, rng):
    """The ways in which people type the same question."""
    if rng.random() < 0.2:
        text = text[:1].lower() + text[1:]
    if rng.random() < 0.2:
        text = text.rstrip(".!?") or text
    return text


def fact(rng):
    kind = rng.randrange(4)
    if kind == 0:
        country, city = rng.choice(sorted(CAPITALS.items()))
        return f"What is the capital of {country}?", f"The capital of {country} is {city}."
    if kind == 1:
        a, b = rng.choice(OPPOSITES).split("=")[:: rng.choice((1, -1))]
        return rng.choice((f"What is the opposite of {a}?", f"What is the opposite of '{a}'?")), f"The opposite of '{a}' is '{b}'."
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    if kind == 2:
        return rng.choice(("What is {} + {}?", "{} + {}", "What is {} plus {}?", "{}+{}?")).format(a, b), f"{a} + {b} = {a + b}."
    a, b = max(a, b), min(a, b)
    return rng.choice(("What is {} - {}?", "What is {} minus {}?")).format(a, b), f"{a} - {b} = {a - b}."


def dialogue(turns, rng):
    picked = [rng.choice(alternatives) for alternatives in turns]
    return [casual(t, rng) if i % 2 == 0 else t for i, t in enumerate(picked)]


def epoch(stories, chats, dialogues, rng, repeat=4):
    """One pass: every story once (as text or as an answer), every chat once, the dialogues `repeat` times.

    A document is a list of (text, weight) pieces; the weight is the text's share in the loss."""
    texts, talks = [], []
    for story in stories:
        if rng.random() < 0.5:
            story = swap_names(story, rng)
        if rng.random() < 0.35:
            texts.append([(PAD, 0)] * rng.randrange(2) + [(story + END, 1)])
        else:
            talks.append(list(story_chat(story, rng)))
    for prompt, alternatives in chats:
        talks.append([prompt] + rng.choice(alternatives))
    for turns in dialogues:  # the first blocks are what newcomers ask first
        talks += [dialogue(turns, rng) for _ in range(3 * repeat if turns in dialogues[:4] else repeat)]
    talks += [list(fact(rng)) for _ in range(200)]
    rng.shuffle(talks)
    docs, turns = texts, []
    while talks:  # a third of the exchanges follow another one in the same conversation
        turns += talks.pop()
        if rng.random() < 0.67 or sum(map(len, turns)) > 1200:
            docs.append(pieces(turns, rng.choice(SYSTEM) if rng.random() < 0.1 else None))
            turns = []
    return docs + ([pieces(turns)] if turns else [])


def pieces(turns, system=None):
    """A conversation as pieces. What the user says is read but not learned; a short answer counts more, because the
    stories, which are most of the text, would drown it."""
    out = [(f"{START}system\n{system}{END}\n", 0)] if system else []
    for i, text in enumerate(turns):
        if i % 2 == 0:
            out.append((f"{START}user\n{text}{END}\n{START}assistant\n", 0))
        else:
            out += [(text + END, SHORT_WEIGHT if len(text) < 200 else 1), ("\n", 0)]
    return out


# ---------------------------------------------------------------- tokenizer


def train_tokenizer(docs):
    """Byte-level BPE with GPT-2's pre-tokenizer, so that every engine that knows "gpt-2" tokenizes alike."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, show_progress=False, special_tokens=[PAD, START, END],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    special = re.compile("|".join(map(re.escape, (PAD, START, END))))
    tok.train_from_iterator((part for doc in docs for text, _ in doc for part in special.split(text)), trainer)
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, START, END)])
    return tok


def encode_docs(tok, docs):
    """-> [(ids, weights)] as arrays of equal length, cut at the context length."""
    flat = [piece for doc in docs for piece in doc]
    ids = iter(tok.encode_batch([text for text, _ in flat], add_special_tokens=False))
    out = []
    for doc in docs:
        parts = [(next(ids).ids, weight) for _, weight in doc]
        tokens = [t for part, _ in parts for t in part][: CONTEXT + 1]
        weights = [weight for part, weight in parts for _ in part][: CONTEXT + 1]
        out.append((np.array(tokens), np.array(weights)))
    return out


def batches(encoded, rng):
    """Documents of like length together, so that each starts at position 0 and little is padding."""
    order = sorted(encoded, key=lambda d: len(d[0]) + rng.random() * 8)
    out, start = [], 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and len(order[stop][0]) * (stop + 1 - start) <= BATCH_TOKENS:
            stop += 1
        group = order[start:stop]
        longest = max(len(t) for t, _ in group)
        x = np.zeros((len(group), longest), np.int64)
        weight = np.zeros((len(group), longest), np.float32)
        for row, (tokens, weights) in enumerate(group):
            x[row, : len(tokens)], weight[row, : len(tokens)] = tokens, weights
        out.append((torch.from_numpy(x), torch.from_numpy(weight)))
        start = stop
    rng.shuffle(out)
    return out


# ---------------------------------------------------------------- model


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
        if len(shape) == 1:
            w = torch.ones(shape)
        else:
            last = "attn_output" in name or "ffn_down" in name
            w = torch.randn(shape) * (0.02 / math.sqrt(2 * LAYERS) if last else 0.02)
        out[name] = w.requires_grad_()
    return out


def rotate(x, cos, sin):
    """RoPE on neighbouring pairs, the layout of GGUF's `llama`; cos/sin are [T, HEAD_DIM / 2]."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


def forward(w, ids, keep=None):
    """Token ids [B, T] -> logits [B, T, VOCAB], or [kept, VOCAB] where the mask `keep` [B, T] is set."""
    b, t = ids.shape
    angle = torch.outer(torch.arange(t).float(), ROPE_BASE ** (-torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM))
    cos, sin = angle.cos(), angle.sin()
    x = F.embedding(ids, w["token_embd.weight"])
    for i in range(LAYERS):
        p = lambda name: w[f"blk.{i}.{name}.weight"]
        h = F.rms_norm(x, (HIDDEN,), p("attn_norm"), NORM_EPS)
        heads = lambda name, n: (h @ p(name).T).view(b, t, n, HEAD_DIM).transpose(1, 2)
        q, k, v = rotate(heads("attn_q", HEADS), cos, sin), rotate(heads("attn_k", KV_HEADS), cos, sin), heads("attn_v", KV_HEADS)
        k, v = (z.repeat_interleave(HEADS // KV_HEADS, 1) for z in (k, v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, HIDDEN)
        x = x + h @ p("attn_output").T
        h = F.rms_norm(x, (HIDDEN,), p("ffn_norm"), NORM_EPS)
        x = x + (F.silu(h @ p("ffn_gate").T) * (h @ p("ffn_up").T)) @ p("ffn_down").T
    x = x if keep is None else x[keep]
    return F.rms_norm(x, (HIDDEN,), w["output_norm.weight"], NORM_EPS) @ w["token_embd.weight"].T


# ---------------------------------------------------------------- training


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
            u = u / (u.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                s = u @ u.mT
                u = 3.4445 * u + (-4.7750 * s + 2.0315 * s @ s) @ u
            u = u.mT if rows > cols else u
            for p, update in zip(ps, u):
                p.mul_(1 - lr * WEIGHT_DECAY).add_(update, alpha=-lr * max(1, rows / cols) ** 0.5)


def loss_sum(w, x, weight):
    """-> (weighted sum of nats, sum of weights)"""
    weight, mask = weight[:, 1:], weight[:, 1:] > 0
    nats = F.cross_entropy(forward(w, x[:, :-1], mask), x[:, 1:][mask], reduction="none")
    return (nats * weight[mask]).sum(), weight.sum()


@torch.no_grad()
def held_out(w, tok, data):
    """Held-out loss of stories (as plain text) and of chat answers: nats per token and per UTF-8 byte."""
    (_, stories), (_, chats), _ = data
    sets = {"stories": [[(PAD, 0), (s + END, 1)] for s in stories],
            "chat answers": [pieces([p] + alts[0]) for p, alts in chats]}
    out = {}
    for name, docs in sets.items():
        encoded = encode_docs(tok, docs)
        total = [loss_sum(w, x, (weight > 0).float()) for x, weight in batches(encoded, random.Random(0))]
        nats, tokens = (sum(map(float, column)) for column in zip(*total))
        size = sum(len(tok.decode(ids[weights > 0]).encode()) for ids, weights in encoded)
        out[name] = {"nats_per_token": nats / tokens, "nats_per_byte": nats / size, "tokens": int(tokens), "bytes": size}
    return out


def train(args, data):
    (stories, _), (chats, _), dialogues = data
    rng = random.Random(SEED)
    if args.resume:
        saved = torch.load(args.resume)
        log, tok = saved["log"], Tokenizer.from_str(saved["tokenizer"])
        w = {n: p.requires_grad_() for n, p in saved["weights"].items()}
        rng.seed(SEED + log[-1]["step"])
    else:
        saved, log = {}, [{"step": 0, "tokens": 0, "epochs": 0, "minutes": 0}]
        tok, w = train_tokenizer(epoch(stories, chats, dialogues, rng)), init_weights()
    matrices = [p for n, p in w.items() if p.ndim == 2 and n != "token_embd.weight"]
    others = [p for n, p in w.items() if p.ndim == 1 or n == "token_embd.weight"]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, lr=ADAM_LR, betas=(0.9, 0.98), weight_decay=0.01)
    print(f"{sum(p.numel() for p in w.values()):,} parameters, {len(stories)} stories, {len(chats)} chats, {len(dialogues)} dialogues")
    if "adam" in saved:
        adam.load_state_dict(saved["adam"])
        muon.momentum = saved["momentum"]
    step, tokens, epochs = (log[-1][key] for key in ("step", "tokens", "epochs"))
    began, written = time.time() - 60 * log[-1]["minutes"], time.time()
    queue = []

    def checkpoint(name):
        losses = held_out(w, tok, data)
        minutes = round((time.time() - began) / 60, 1)
        log.append({"step": step, "tokens": tokens, "epochs": round(epochs, 2), "minutes": minutes, "held_out": losses})
        print(f"      held out: {losses['stories']['nats_per_token']:.4f} nats/token in stories, "
              f"{losses['chat answers']['nats_per_token']:.4f} in chat answers", flush=True)
        state = {"weights": {n: p.detach() for n, p in w.items()}, "momentum": muon.momentum, "adam": adam.state_dict()}
        torch.save(state | {"tokenizer": tok.to_str(), "log": log}, args.out / name)

    while True:
        if not queue:
            queue = batches(encode_docs(tok, epoch(stories, chats, dialogues, rng, args.repeat)), rng)
            per_epoch = len(queue)
        done = step / args.steps if args.steps else (time.time() - began) / (60 * args.minutes)
        if done >= 1:
            break
        # warm up, stay, and come down linearly to nothing over the last 70 %
        rate = min(1, (step + 1) / 40, (1 - done) / 0.7)
        x, weight = queue.pop()
        nats, count = loss_sum(w, x, weight)
        (nats / count).backward()
        muon.step(MUON_LR * rate)
        for group in adam.param_groups:
            group["lr"] = ADAM_LR * rate
        adam.step()
        for p in w.values():
            p.grad = None
        step, tokens, epochs = step + 1, tokens + x.numel(), epochs + 1 / per_epoch
        if step % 25 == 0:
            print(f"step {step} epoch {epochs:.2f} loss {nats.item() / count:.3f} rate {rate:.2f} "
                  f"{tokens / (time.time() - began):.0f} tokens/s", flush=True)
        if time.time() - written > 420:
            checkpoint("last.pt")
            written = time.time()
    checkpoint("final.pt")
    return args.out / "final.pt"


# ---------------------------------------------------------------- GGUF


def export(w, tok, path, matrix="Q8_0", embedding="Q8_0"):
    out = gguf.GGUFWriter(path, "llama")
    out.add_type("model")
    out.add_name("Kinglet Tiny")
    out.add_description("Small story and chat model trained from scratch by the Kinglet project (models/train.py)")
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
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[tuple(m.split(" ")) for m in field("merges")]))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in (PAD, START, END)])
    assert tok.get_vocab_size() == VOCAB
    return w, tok


@torch.no_grad()
def greedy(w, tok, prompt, limit):
    """-> (prompt ids, generated ids with the end token, gap of the two best logits at each)"""
    ids = tok.encode(prompt, add_special_tokens=False).ids
    start, gaps = len(ids), []
    while len(gaps) < limit and len(ids) < CONTEXT:
        best = forward(w, torch.tensor([ids]))[0, -1].topk(2)
        ids.append(int(best.indices[0]))
        gaps.append(round(float(best.values[0] - best.values[1]), 5))
        if ids[-1] == tok.token_to_id(END):
            break
    return ids[:start], ids[start:], gaps


def chat_prompt(text):
    return f"{START}user\n{text}{END}\n{START}assistant\n"


def golden(path, target):
    w, tok = read_gguf(path)
    rows = []
    for kind, text in [("raw", "Once upon a time, there was a little"), ("chat", "Tell me a story about a dog."),
                       ("chat", "Hello! Who are you?")]:
        prompt = text if kind == "raw" else chat_prompt(text)
        ids, generated, gaps = greedy(w, tok, prompt, 64)
        row = {"kind": kind, "text": text, "rendered": prompt, "prompt_ids": ids, "greedy_ids": generated, "logit_gaps": gaps,
               "greedy_text": tok.decode(generated, skip_special_tokens=True), "ended": generated[-1] == tok.token_to_id(END)}
        rows.append(row)
    note = ("Made by train.py --golden: ids by Hugging Face tokenizers, greedy ids by a float32 forward pass of the file's "
            "dequantized weights; greedy_ids end with the end token if `ended`. logit_gaps: best minus second-best logit.")
    body = ",\n".join(json.dumps(row) for row in rows)
    target.write_text('{"note": %s,\n"model": "%s",\n"prompts": [\n%s\n]}\n' % (json.dumps(note), path.name, body))


def measure(w, tok, data, out):
    """Held-out loss of the float weights and of each quantization, with the file's size."""
    rows = [("float32", None, held_out(w, tok, data))]
    for matrix, embedding in [("Q8_0", "Q8_0"), ("Q5_1", "Q8_0"), ("Q5_0", "Q8_0"), ("Q4_1", "Q8_0"), ("Q4_0", "Q8_0"), ("Q4_0", "Q4_0")]:
        path = out / f"{matrix}-{embedding}.gguf"
        export(w, tok, path, matrix, embedding)
        rows.append((f"{matrix}, embedding {embedding}", path.stat().st_size, held_out(*read_gguf(path), data)))
    for name, size, losses in rows:
        print(f"| {name} | {size or '-'} | " + " | ".join(f"{v['nats_per_token']:.4f} | {v['nats_per_byte']:.4f}" for v in losses.values()) + " |")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--minutes", type=float, default=60, help="training time; the learning rate follows the clock")
    args.add_argument("--steps", type=int, help="a number of steps instead, which makes the run repeatable")
    args.add_argument("--repeat", type=int, default=4, help="times that one epoch says each dialogue of dialogues.txt")
    args.add_argument("--threads", type=int, default=2)
    args.add_argument("--corpora", type=Path, default=HERE.parent / "../shared/data/corpora")
    args.add_argument("--out", type=Path, default=HERE.parent / "target/embedded", help="folder for checkpoints")
    args.add_argument("--model", type=Path, default=HERE / "kinglet-tiny.gguf", help="the GGUF to write or read")
    args.add_argument("--resume", type=Path, metavar="CHECKPOINT")
    args.add_argument("--export", type=Path, metavar="CHECKPOINT")
    args.add_argument("--measure", type=Path, metavar="CHECKPOINT", help="held-out losses of a checkpoint, by quantization")
    args.add_argument("--golden", action="store_true")
    args.add_argument("--sample", metavar="TEXT", action="append", help="greedy answer to a chat message (repeatable)")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    if args.golden:
        return golden(args.model, HERE / "golden.json")
    if args.sample:
        w, tok = read_gguf(args.model)
        for text in args.sample:
            _, ids, _ = greedy(w, tok, chat_prompt(text), 300)
            print(f"> {text}\n{tok.decode(ids, skip_special_tokens=False)}\n")
        return
    data = load(args.corpora)
    checkpoint = args.measure or args.export or train(args, data)
    saved = torch.load(checkpoint)
    w, tok = saved["weights"], Tokenizer.from_str(saved["tokenizer"])
    if args.measure:
        return measure(w, tok, data, args.out)
    export(w, tok, args.model)
    back, tok_back = read_gguf(args.model)
    print(f"{args.model.name}: {args.model.stat().st_size:,} bytes", json.dumps(saved["log"][-1]))
    print("held out, as written:", json.dumps(held_out(back, tok_back, data)))


if __name__ == "__main__":
    main()
