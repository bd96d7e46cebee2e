"""The embedded model's training data: stories, questions and rewriting -> documents -> batches of token ids."""
import random, re
from collections import Counter, namedtuple

import numpy as np
import torch

from model import CONTEXT, END, PAD, SEED, START
from questions import WORDS, Questions, clean
from rewrite import rewriting

BATCH_TOKENS, SHORT_WEIGHT, ASKED_WEIGHT = 3072, 3, 0.1
GRIM = re.compile(r"\b(bombs?|guns?|kill\w*|died|dead|death|blood|bloody|passed away|drown\w*)\b", re.I)

Data = namedtuple("Data", "stories held_stories made questions")


def read_stories(path):
    whole = path.read_text().split("<|endoftext|>")[:-1]  # the last one is cut off in the sample
    return sorted({clean(re.sub(r"\s*\n\s*", "\n", s)) for s in whole if len(s.strip()) > 200 and not GRIM.search(s)})


def load(corpora, made):
    """5 % of the sample's stories are held out."""
    stories = read_stories(corpora / "tinystories-sample.txt")
    random.Random(SEED).shuffle(stories)
    held = len(stories) // 20
    return Data(stories[held:], stories[:held], read_stories(made) if made.exists() else [], Questions(corpora))


GIRLS, BOYS = WORDS["name"][:23], WORDS["name"][23:]
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
             "Another story, please.", "Tell me a bedtime story.", "Write a story for children.", "a story please", "Another one"]
STORY_ABOUT = ["Tell me a story about {}.", "Tell me a story about {}", "Write a story about {}.", "Write a short story about {}.",
               "Can you tell me a story about {}?", "Please write a story about {}.", "I want a story about {}.",
               "Tell me a short story about {}.", "Could you write a story about {}?", "Story about {}", "A story about {}, please.",
               "tell me a story about {}", "Make up a story about {}."]
CONTINUE = ["Continue this story: ", "Go on with this story: ", "How does this story go on? ", "Finish this story: "]
SYSTEM = ["You are a helpful assistant.", "You are Kinglet, a small language model that runs in the browser.",
          "You are a helpful assistant. Answer in short sentences.", "You tell stories.", "Be brief."]


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


def epoch(data, rng, stories, made=0):
    """One pass: `stories` of the sample and `made` others (as text or as an answer), every intent in some wordings, what is declined,
    and rewriting.

    A document is a list of (text, weight) pieces; the weight is the text's share in the loss."""
    texts, talks, ask = [], [], data.questions
    for story in rng.sample(data.stories, stories) + rng.sample(data.made, min(made, len(data.made))):
        if rng.random() < 0.5:
            story = swap_names(story, rng)
        if rng.random() < 0.3:
            texts.append([(PAD, 0)] * rng.randrange(2) + [(story + END, 1)])
        else:
            talks.append(list(story_chat(story, rng)))
    short = []
    for intent in ask.intents:
        talks += [list(ask.intent(intent, rng)) for _ in range(6)]
        short += [begun(*ask.intent(intent, rng)) for _ in range({"small talk": 40, "errors": 40}.get(intent.group, 60))]
    talks += [list(ask.declined(rng)) for _ in range(600)]
    short += [begun(*ask.declined(rng)) for _ in range(4200)]
    talks += [list(rewriting(rng)[1:]) for _ in range(900)]
    rng.shuffle(talks)
    docs, turns = texts + short, []
    while talks:  # nearly half of the exchanges follow another one in the same conversation
        turns += talks.pop()
        if rng.random() < 0.6 or sum(map(len, turns)) > 1200:
            docs.append(pieces(turns, rng.choice(SYSTEM) if rng.random() < 0.08 else None))
            turns = []
    return docs + ([pieces(turns)] if turns else [])


def begun(question, reply):
    """Only the beginning of the answer, which is where it is decided; the rest is the same every time and soon known by heart."""
    asked, answered, _ = pieces([question, reply])
    return [asked, (" ".join(reply.split(" ")[:5]), answered[1])]


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
