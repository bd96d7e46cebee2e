"""The embedded model's training data: corpora and dialogues -> documents -> batches of token ids."""
import json, random, re
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np
import torch
import yaml
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from model import CONTEXT, END, PAD, SEED, START, VOCAB

HERE = Path(__file__).resolve().parent
BATCH_TOKENS, SHORT_WEIGHT, ASKED_WEIGHT = 3072, 3, 0.3
GRIM = re.compile(r"\b(bombs?|guns?|kill\w*|died|dead|death|blood|bloody|passed away|drown\w*)\b", re.I)
PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "…": "...", "\u00a0": " "})
# Questions of these kinds are answered in dialogues.txt or by a story, not declined.
EASY = re.compile(r"stor(y|ies)|poem|haiku|rhyme|joke|song|capital of|opposite|antonym|colou?r|\bname (three|3)|seasons?\b|days"
                  r"|months|\bplus\b|\bhello\b|fastest|largest|highest|tallest|biggest", re.I)

Data = namedtuple("Data", "stories held_stories made hard held_hard dialogues declines")


def clean(text):
    return re.sub(r"[ \t]+", " ", str(text).translate(PLAIN)).strip()


def read_stories(path):
    whole = path.read_text().split("<|endoftext|>")[:-1]  # the last one is cut off in the sample
    return sorted({clean(re.sub(r"\s*\n\s*", "\n", s)) for s in whole if len(s.strip()) > 200 and not GRIM.search(s)})


def hard_questions(corpora):
    """What a model of this size cannot answer. Only the questions are read; it learns to say so."""
    out = set()
    for row in json.loads((corpora / "instructions-1100.json").read_text()):
        out.add(clean(row["instruction"] + "\n" + row["input"]))
    for line in (corpora / "self-instruct-seeds.jsonl").read_text().splitlines():
        row = json.loads(line)
        out.add(clean(row["instruction"] + "\n" + row["instances"][0]["input"]))
    for name in ("tech_support", "trivia", "history", "science"):
        for turns in yaml.safe_load((corpora / "chatterbot" / f"{name}.yml").read_text())["conversations"]:
            out.add(clean(turns[0]))
    return sorted(q for q in out if 8 < len(q) < 300 and not EASY.search(q))


def read_dialogues():
    """-> (dialogues, answers of the block whose question is `*`). A dialogue is a list of turns, a turn a list of wordings."""
    dialogues, declines = [], None
    for block in (HERE / "dialogues.txt").read_text().split("\n\n"):
        lines = "\n".join(line for line in block.splitlines() if not line.startswith("#"))
        turns = re.findall(r"^([UA]): (.*?)(?=\n[UA]: |\Z)", lines.strip(), re.S | re.M)
        assert [who for who, _ in turns] == ["U", "A"] * (len(turns) // 2), block
        turns = [text.strip().split(" | ") for _, text in turns]
        if turns and turns[0] == ["*"]:
            declines = turns[1]
        elif turns:
            dialogues.append(turns)
    return dialogues, declines


def load(corpora, made):
    """5 % of the sample's stories and of the hard questions are held out."""
    rng = random.Random(SEED)

    def split(items):
        rng.shuffle(items)
        held = len(items) // 20
        return items[held:], items[:held]

    return Data(*split(read_stories(corpora / "tinystories-sample.txt")), read_stories(made) if made.exists() else [],
                *split(hard_questions(corpora)), *read_dialogues())


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
# Words for the <places> of dialogues.txt.
WORDS = {
    "name": GIRLS + BOYS,
    "like": """cats dogs birds horses pizza cake apples bananas chocolate cookies soup bread music books stories games trees
flowers trains cars football swimming dancing singing painting reading cooking walking animals rain snow summer winter
cheese rice tea""".split(),
    "pet": "dog cat bird fish rabbit horse hamster turtle mouse puppy kitten".split(),
    "color": "red blue green yellow pink purple orange white black brown".split(),
}

ANY_STORY = ["Tell me a story.", "Tell me a story", "Tell me a short story.", "Can you tell me a story?", "Write a story.",
             "Write a short story.", "Please tell me a story.", "I want to hear a story.", "Tell me another story.", "story",
             "Another story, please.", "Tell me a bedtime story.", "Write a story for children.", "One more!", "a story please",
             "Yes", "Yes, please.", "Yes!", "Sure", "OK", "Go on", "Another one"]  # Kinglet often asks: would you like a story?
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
    """What the story is about: nouns and names that it says soon and at least twice, as they would stand in a request."""
    words, soon = (Counter(re.findall(r"[a-z]+", text.lower())) for text in (story, story[:200]))
    nouns = [n for n in NOUNS if soon[n] + soon[n + "s"] and words[n] + words[n + "s"] >= 2]
    found = [("an " if n[0] in "aeiou" else "a ") + n for n in nouns if n not in ("rain", "snow", "ice", "magic", "bread")]
    names = [n for n in sorted(set(NAME.findall(story[:200]))) if story.count(n) >= 2]
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
        return rng.choice(("What is the opposite of {}?", "What is the opposite of '{}'?")).format(a), f"The opposite of '{a}' is '{b}'."
    a, b = rng.randint(0, 10), rng.randint(0, 10)
    if kind == 2:
        return rng.choice(("What is {} + {}?", "{} + {}", "What is {} plus {}?", "{}+{}?")).format(a, b), f"{a} + {b} = {a + b}."
    a, b = max(a, b), min(a, b)
    return rng.choice(("What is {} - {}?", "What is {} minus {}?")).format(a, b), f"{a} - {b} = {a - b}."


def choices(text):
    """How many wordings {a|b} makes of a text."""
    count = 1
    for inner in re.findall(r"\{([^{}]*)\}", text):
        count *= inner.count("|") + 1
    return count


def dialogue(turns, rng):
    """One wording: " | " and {a|b} are choices, <name> and the like the same word in all turns."""
    words = {kind: rng.choice(options) for kind, options in WORDS.items()}
    out = []
    for i, wordings in enumerate(turns):
        text = rng.choices(wordings, [choices(t) ** 0.5 for t in wordings])[0]
        while "{" in text:
            text = re.sub(r"\{([^{}]*)\}", lambda m: rng.choice(m[1].split("|")), text)
        text = re.sub(r"<(\w+)>", lambda m: words[m[1]], text)
        text = re.sub(r" +", " ", text).strip()
        text = text[:1].upper() + text[1:] if i % 2 else text
        out.append(text if i % 2 else casual(text, rng))
    return out


def epoch(data, rng, made=0, repeat=1.0):
    """One pass: every story of the sample and `made` others (as text or as an answer), dialogues and facts.

    A document is a list of (text, weight) pieces; the weight is the text's share in the loss."""
    texts, talks = [], []
    for story in data.stories + rng.sample(data.made, min(made, len(data.made))):
        if rng.random() < 0.5:
            story = swap_names(story, rng)
        if rng.random() < 0.3:
            texts.append([(PAD, 0)] * rng.randrange(2) + [(story + END, 1)])
        else:
            talks.append(list(story_chat(story, rng)))
    for question in rng.sample(data.hard, 300):
        talks.append([casual(question, rng), dialogue([["?"], data.declines], rng)[1]])
    for turns in data.dialogues:  # what can be asked in many ways is said often
        often = min(40, max(4, sum(map(choices, turns[0])) / 4))
        talks += [dialogue(turns, rng) for _ in range(round(often * repeat))]
    talks += [list(fact(rng)) for _ in range(200)]
    rng.shuffle(talks)
    docs, turns = texts, []
    while talks:  # nearly half of the exchanges follow another one in the same conversation
        turns += talks.pop()
        if rng.random() < 0.55 or sum(map(len, turns)) > 1200:
            docs.append(pieces(turns, rng.choice(SYSTEM) if rng.random() < 0.1 else None))
            turns = []
    return docs + ([pieces(turns)] if turns else [])


def pieces(turns, system=None):
    """A conversation as pieces. A short answer counts more, because the stories, which are most of the text, would
    drown it; what the user says counts less."""
    out = [(f"{START}system\n{system}{END}\n", 0)] if system else []
    for i, text in enumerate(turns):
        if i % 2 == 0:
            out.append((f"{START}user\n{text}{END}\n{START}assistant\n", ASKED_WEIGHT))
        else:
            out += [(text + END, SHORT_WEIGHT if len(text) < 200 else 1), ("\n", 0)]
    return out


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
