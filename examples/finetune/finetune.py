"""Trains a LoRA adapter for a GGUF model from questions and answers, on a CPU.

    pip install torch transformers gguf peft
    python finetune.py pebble.jsonl --out adapter [--ask held-out.jsonl]

Each line of the data is {"question": ..., "answer": ...}. Writes adapter/adapter_model.safetensors and adapter_config.json,
which `engine.loadAdapter` and `kinglet run --lora adapter` take. `--ask` answers the questions of another file with and without
the adapter, and counts the answers that contain what its lines say they should.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

EMBEDDED = Path(__file__).parent / "../../models/kinglet-tiny.gguf"


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines() if line.strip()]


def prompt(tokenizer, question):
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return tokenizer(text, add_special_tokens=False).input_ids


def batch(tokenizer, examples):
    """Token ids and what is to be learned: the answers and their end, not the questions."""
    rows = []
    for example in examples:
        asked = prompt(tokenizer, example["question"])
        answer = tokenizer(example["answer"], add_special_tokens=False).input_ids + [tokenizer.eos_token_id]
        rows.append((asked + answer, [-100] * len(asked) + answer))
    longest = max(len(ids) for ids, _ in rows)
    pad = lambda row, filler: row + [filler] * (longest - len(row))
    ids = torch.tensor([pad(ids, tokenizer.eos_token_id) for ids, _ in rows])
    labels = torch.tensor([pad(labels, -100) for _, labels in rows])
    mask = torch.tensor([pad([1] * len(ids), 0) for ids, _ in rows])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train(model, tokenizer, examples, epochs, rate, size=8):
    weights = [w for w in model.parameters() if w.requires_grad]
    steps = epochs * -(-len(examples) // size)
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    started = time.time()
    model.train()
    for epoch in range(epochs):
        order, total = torch.randperm(len(examples)).tolist(), 0.0
        for start in range(0, len(order), size):
            loss = model(**batch(tokenizer, [examples[i] for i in order[start:start + size]])).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            total += loss.item()
        if epoch % 10 == 9 or epoch == epochs - 1:
            mean = total / -(-len(order) // size)
            print(f"epoch {epoch + 1} of {epochs}: loss {mean:.3f} after {time.time() - started:.0f} s", flush=True)
    model.eval()


@torch.no_grad()
def answer(model, tokenizer, question):
    ids = torch.tensor([prompt(tokenizer, question)])
    out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
    return tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)


def ask(model, tokenizer, questions, show):
    right = 0
    for question in questions:
        reply = answer(model, tokenizer, question["question"])
        good = question["contains"].lower() in reply.lower()
        right += good
        if show:
            print(f"  {'+' if good else '-'} {question['question']} {reply}")
    return f"{right} of {len(questions)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="JSONL of question and answer")
    parser.add_argument("--base", type=Path, default=EMBEDDED, help="GGUF file of the base model")
    parser.add_argument("--out", default="adapter")
    parser.add_argument("--ask", help="JSONL of question and contains")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rate", type=float, default=3e-3)
    options = parser.parse_args()

    torch.manual_seed(1)
    where = {"pretrained_model_name_or_path": options.base.resolve().parent, "gguf_file": options.base.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    base = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(r=options.rank, lora_alpha=2 * options.rank, lora_dropout=0.05,
                                            target_modules="all-linear", task_type="CAUSAL_LM"))
    model.print_trainable_parameters()
    if options.ask:
        with model.disable_adapter():
            print("base:", ask(model, tokenizer, lines(options.ask), show=False))
    train(model, tokenizer, lines(options.data), options.epochs, options.rate)
    if options.ask:
        print("adapted:", ask(model, tokenizer, lines(options.ask), show=True))
    for name, weights in model.named_parameters():
        if "lora_" in name:
            # Half the download, and more precise than needed.
            weights.data = weights.data.half()
    model.peft_config["default"].base_model_name_or_path = options.base.name
    model.save_pretrained(options.out)
    print(f"wrote {options.out}")
