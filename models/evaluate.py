#!/usr/bin/env python3
"""Puts the held-out questions to the embedded model, through the engine, and calibrates the router on its answers.

    cargo build --release --bin kinglet
    python models/evaluate.py          figures on stdout; writes models/kinglet-tiny.calibration.json

Right is an answer that is the one of its intent to the letter (white space aside); of what lies out of the model's domain none is
right, and what counts is whether it declines in a way that the router knows as a refusal. Answers are greedy, each question is the
first of its conversation. The data beside the repository (--data) gives out-of-domain questions of other sources than training had.
"""
import argparse, csv, json, random, subprocess, tempfile
from collections import defaultdict
from pathlib import Path

from questions import Questions
from rewrite import rewriting

HERE = Path(__file__).resolve().parent
SAMPLER = '{"temperature": 0}'


def foreign_questions(data, rng):
    """Out-of-domain questions of sources that training did not see: word problems of GSM8K, and MMLU's without their options."""
    lines = (data / "routing/gsm8k-test.jsonl").read_text().splitlines()
    out = [("GSM8K", json.loads(line)["question"]) for line in rng.sample(lines, 80)]
    for path in sorted((data / "routing/routellm/mmlu").glob("*.csv")):
        rows = list(csv.DictReader(path.open()))
        stems = [row["prompt"].split("\nA. ")[0].strip() for row in rows]
        out += [("MMLU", stem) for stem in rng.sample([s for s in stems if 20 < len(s) < 600], 3)]
    return out


def held_out_rows(data):
    ask, rng, rows, seen = Questions(data / "corpora"), random.Random(4), [], set()
    for intent, question, wanted in ask.held:
        looked_at = intent.name not in seen
        seen.add(intent.name)
        rows.append({"set": "intents", "kind": intent.group, "group": intent.name, "looked_at": looked_at, "question": question, "wanted": wanted})
    for i in range(120):
        task, question, wanted = rewriting(rng, held=True)
        rows.append({"set": "rewriting", "kind": task, "group": f"rewriting {i}", "looked_at": False, "question": question, "wanted": wanted})
    for i, (kind, question) in enumerate(ask.held_unknown):
        rows.append({"set": "unknown", "kind": kind, "group": f"unknown {i}", "looked_at": i % 4 == 0, "question": question})
    for i, (kind, question) in enumerate(foreign_questions(data, rng)):
        rows.append({"set": "unknown", "kind": kind, "group": f"foreign {i}", "looked_at": False, "question": question})
    return rows


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def auroc(good, bad):
    """The probability that one of the good scores above one of the bad, ties counting half."""
    wins = sum((g > b) + 0.5 * (g == b) for g in good for b in bad)
    return wins / (len(good) * len(bad))


def score(calibration, signals):
    """What p(ok) of a calibration is a rising function of."""
    terms = calibration["model"]["signals"]
    return calibration["model"]["bias"] + sum(t["weight"] * (signals[t["name"]] - t["mean"]) / t["deviation"] for t in terms)


def calibrate(args, rows, out, target):
    with tempfile.TemporaryDirectory() as folder:
        examples = Path(folder) / "examples.jsonl"
        write_lines(examples, [{"id": str(i), "group": r["group"], "signals": r["signals"], "label": int(r["right"])} for i, r in enumerate(rows)])
        command = [args.kinglet, "route", "calibrate", examples, "--target", target, "--model", args.model, "--sampler", SAMPLER,
                   "--out", out, "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr.strip())
        return json.loads(done.stdout)


def cross_fitted(args, rows):
    """A score for each row by a calibration that has not seen its group."""
    half = lambda row: random.Random(row["group"]).random() < 0.5
    scores = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in (False, True):
            out = Path(folder) / "half.json"
            calibrate(args, [r for r in rows if half(r) == side], out, "risk=0.5,delta=0.1")
            fitted = json.loads(out.read_text())
            scores |= {id(r): score(fitted, r["signals"]) for r in rows if half(r) != side}
    return [scores[id(row)] for row in rows]


def share(rows, test):
    return f"{sum(map(test, rows))} of {len(rows)} ({100 * sum(map(test, rows)) / max(1, len(rows)):.1f} %)"


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--kinglet", type=Path, default=HERE.parent / "target/release/kinglet", help="the command line's binary")
    args.add_argument("--model", type=Path, default=HERE / "kinglet-tiny.gguf")
    args.add_argument("--data", type=Path, default=HERE.parent / "../shared/data")
    args.add_argument("--out", type=Path, default=HERE / "kinglet-tiny.calibration.json")
    args.add_argument("--target", default="risk=0.1,delta=0.1", help="of the calibration")
    args.add_argument("--failures", type=int, default=0, help="prints so many answers that are wrong, of each set")
    args = args.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        questions = Path(folder) / "questions.jsonl"
        write_lines(questions, held_out_rows(args.data))
        command = [args.kinglet, "route", "answer", args.model, "--questions", questions, "--sampler", SAMPLER, "--threads", "1"]
        answered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in answered.splitlines()]
    for row in rows:
        row["right"] = row["veto"] is None and row["answer"].split() == row.get("wanted", "\0").split()
    sets = defaultdict(list)
    for row in rows:
        sets[row["set"]].append(row)
        sets[row["set"], row["kind"]].append(row)

    right, declined = (lambda row: row["right"]), (lambda row: row["veto"] == "veto-refusal")
    intents, unknown = sets["intents"], sets["unknown"]
    print("right, intents:", share(intents, right), "| not looked at while training:", share([r for r in intents if not r["looked_at"]], right))
    for name, kinds in (("intents", right), ("rewriting", right), ("unknown", declined)):
        for key in sorted(k for k in sets if isinstance(k, tuple) and k[0] == name):
            print(f"  {'declined' if name == 'unknown' else 'right'}, {key[1]}:", share(sets[key], kinds))
    print("right, rewriting:", share(sets["rewriting"], right))
    print("declined, out of domain:", share(unknown, declined))
    print("declined though in the domain:", share(intents, declined))

    domain = [row for row in rows if row["set"] != "rewriting"]
    for name, scores in (("p(ok) by the signals alone, cross-fitted", cross_fitted(args, domain)),
                         ("meanLogprob alone", [row["signals"]["meanLogprob"] for row in domain]),
                         ("firstTokenEntropy alone", [-row["signals"]["firstTokenEntropy"] for row in domain])):
        for veto in (False, True):
            worth = [-1e9 if veto and row["veto"] else s for row, s in zip(domain, scores)]
            by = lambda name: [s for row, s in zip(domain, worth) if row["set"] == name]
            foreign = [s for row, s in zip(domain, worth) if row["kind"] in ("GSM8K", "MMLU", "like the domain")]
            print(f"AUROC, intents over out of domain, {name}{', a refusal last of all' if veto else ''}: {auroc(by('intents'), by('unknown')):.4f}"
                  f" (over GSM8K, MMLU and what is like the domain: {auroc(by('intents'), foreign):.4f})")

    for name in ("intents", "rewriting", "unknown"):
        wrong = [row for row in sets[name] if not (declined(row) if name == "unknown" else row["right"])]
        for row in wrong[: args.failures]:
            print(f"!! {row['kind']}: {row['question']}\n       {row['answer']}")
    report = calibrate(args, rows, args.out, args.target)
    print("calibration:", json.dumps(report), f"{args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
