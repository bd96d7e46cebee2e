"""Questions and their answers: the intents of text/*.txt, what is declined, and the wordings that training sees.

    python models/questions.py     how near each held-out question is to its nearest trained one
"""
import json, random, re
from collections import Counter, namedtuple
from pathlib import Path

import yaml

TEXT = Path(__file__).resolve().parent / "text"
FILES = ("kinglet", "errors", "smalltalk")
PLAIN = str.maketrans({"“": '"', "”": '"', "’": "'", "‘": "'", "–": "-", "—": "-", "…": "...", "\u00a0": " "})

# trained and held are wordings; the first held-out one of an intent is looked at while training, the others only at the end.
Intent = namedtuple("Intent", "name group answer trained held")
Unknown = namedtuple("Unknown", "answers trained held corpus")  # trained: {group: wordings}; corpus: questions

WORDS = {
    "name": """Lily Anna Lucy Mia Sarah Jane Sara Sue Molly Jill Sally Lila Mary Amy Emma Emily Jenny Lola Susie Alice Bella Lisa
Kate Sophie Ben Tom Tim Timmy Jack Sam John Bob Joe Tommy Billy Jimmy Andy Jake Benny Jim Henry George Danny James Peter Alex
Fred Leo""".split(),
    "like": """cats dogs birds horses pizza cake apples bananas chocolate cookies soup bread music books stories games trees
flowers trains cars football swimming dancing singing painting reading cooking walking animals rain snow summer winter
cheese rice tea""".split(),
    "pet": "dog cat bird fish rabbit horse hamster turtle mouse puppy kitten".split(),
    "color": "red blue green yellow pink purple orange white black brown".split(),
}
ERROR_TRAINED = """What does {the error|error code|the code|} CODE mean? | CODE{?|} | {I get|I got|I see|It says|It gives|There is} {a|an|the|} {error|} CODE |
{error|error code} CODE | How {do|can} I {fix|solve|handle|get rid of} {the error|} CODE? | What is {the error|} CODE? | Why do I get {the error|} CODE? | CODE,
{what now|what does that mean|help|what can I do|why}? | What {do I do|can I do|should I do} {about|with|when I get|on|after} {the error|} CODE? | {meaning|cause} of
CODE | {Explain|Tell me about} {the error|} CODE | KingletError{:|} CODE | {It fails|It failed|Loading fails|My request failed} with CODE |
{My app|The page|The engine|Loading|The promise} {reports|ends with|stopped with|returned|rejects with} CODE | {remedy|cure|solution|workaround|help|advice} for
CODE | {Can|Could} you {explain|help me with|say something about} CODE? | {the code is|err.code is|error.code is|I caught} CODE | {Who|What} {causes|triggers|raises} CODE? |
{How|Where} does CODE come from? | {When|In which cases} does CODE {happen|occur|appear}? | How do I {avoid|prevent|react to|catch|get past} CODE? | {I have|We have} a
problem: CODE | {suddenly|now|again} CODE{, what now?|} | {CODE in the logs|a CODE error|CODE popped up|there it is: CODE} | {I do not understand|I don't know} CODE""".replace("\n", " ")
ERROR_HELD = ["Kinglet throws CODE at me, what is that?", "The console shows CODE", "What can be done against CODE?",
              "Please tell me the reason for CODE"]

# In front of and behind a question. Those in the first list want a capital behind them or none, as people type.
BEFORE = """hey, |hi, |hello, |quick question: |hey, quick question: |I have a question: |one question: |so, |ok, |okay, |hi Kinglet, |Kinglet, |
excuse me, |sorry, |please tell me: |one more thing: |next question: |and |but |also, |hmm, |well, |question: |I wonder: |tell me, |
I am new here: |just curious: |stupid question: |another question: |can you tell me: |please, |by the way, |hello Kinglet! """.replace("\n", "").split("|")
BEHIND = [" please", " thanks", ", please", " thank you", ", thanks!", " I want to know", " Please explain.", " exactly", " in short", " Tell me."]
DOMAIN_BEHIND = [" in Kinglet", " with Kinglet", " here", " in this library", " with this package", " in my app", " for my web app",
                 " for Kinglet", " in the browser", " on this page", " in a page of my own"]

# Words and phrases that training exchanges for one another, whatever the intent.
SYNONYMS = [group.split("|") for group in """how do i|how can i|how to|how would i|how does one|how should i|in what way do i|what do i do to|what is the way to|how could i|is there a way to|
which way do i|how am i able to|tell me how to|i want to know how to|explain how to|show me how to|i would like to|i need to|i want to|what must i do to|i'd like to
can i|could i|may i|is it possible to|am i able to|is there a way to|am i allowed to|would i be able to|is it allowed to|can one|could one|can we
what is|what's|what exactly is|tell me what is|explain|what would be|what do you mean by|do you know what is|what do you call|tell me about
what are|which are|tell me the|what would be|name
does it|does kinglet|will it|would it|can it|does this|is it true that it|does this library|does the engine|do you
does kinglet|does it|will kinglet|can kinglet|does this library|would kinglet|does the package
can it|is it able to|could it|does it|will it|is kinglet able to|can kinglet|would it
is it|is kinglet|is this|would it be|is this thing
which|what|what kind of|what sort of
are there|exist|do you have|can be found|are available
is there|do you have|does there exist|have you got|is there some|is there any|does it have
are supported|work|can be used|are allowed|will work|are possible|are usable|can i take
is supported|works|can be used|will work|is possible|is allowed
what happens|what do you do|what will happen|what is going to happen|what comes|what is done
why is|why's|how come|for what reason is|what makes|what is the reason that
why does|how come that|for what reason does|what makes|what is the reason that
how much|what amount of|how many
how big|how large|of what size|what size|how heavy
how fast|how quick|at what speed|how quickly
how many|what number of|how much
where do i|in which place do i|at what place do i|how do i
where is|where can i find|in which place is|where do i find|where lies|where would i find
where are|in which place are|where can i find|where do i find
when does|under which conditions does|in which cases does|at what point does|at which moment does
who made|who wrote|who built|who has made|by whom was made|which people made
delete|remove|erase|throw away|get rid of|wipe|clear
install|set up|add|get|put in
use|work with|employ|make use of|try|apply
load|open|use|read|fetch|get
download|fetch|get|load down|downloading
stop|cancel|interrupt|abort|end|halt
store|save|keep|put away|hold
stored|saved|kept|held|put
send|transmit|upload|give away|pass on|hand over
sent|transmitted|uploaded|passed on|given away|going out
show|display|present|see
see|look at|view|find|get to see
need|require|have to have|want|must have
needed|required|necessary|wanted
change|switch|alter|adjust|exchange|replace
choose|pick|select|take|decide on
make|create|produce|build|generate
get|have|obtain|receive|come by
run|work|go|operate|execute
give|pass|provide|hand|supply
larger|bigger|greater|stronger|smarter|more powerful
fast|quick|speedy|rapid
slow|sluggish|not fast|too slow
big|large|huge
small|little|tiny
answer|reply|response|output
answers|replies|responses|outputs|output
question|prompt|request|message
the model|a model|my model|this model|the language model|the llm|an llm
models|language models|llms|ai models
file|model file|gguf
memory|ram|working memory
device|computer|machine|laptop|pc
page|website|web page|site|web app|app
browser|web browser
gpu|graphics card|video card|graphics processor
server|cloud|remote server|backend
cloud|server|provider|online model|remote server
without|with no|lacking
offline|without internet|without a network|with no connection|without wifi
internet|network|wifi|connection|web
private|secret|confidential|personal
safe|secure|protected
my data|my text|my messages|what i write|what i type|the things i write|my words|my input
error|failure|problem|exception|fault|trouble
errors|failures|problems|exceptions
mean|say|stand for|tell me|signify
money|dollars|cash|costs
cost|price|expense
limit|cap|restrict|bound|maximum
whole|entire|complete|full
again|once more|another time|anew
before|in advance|beforehand|ahead
example|sample|demonstration|code sample
supported|possible|allowed|available|working
several|many|more than one|multiple|a few|two
phone|smartphone|mobile|cell phone|mobile phone
happens|occurs|takes place|goes on|will be
fails|breaks|does not work|goes wrong|is broken
explain|describe|tell me about|clarify|say something about
tell me|say|let me know|inform me|please tell me|i want to know|could you tell me
when|if|in case|as soon as|while
and|as well as|plus
users|visitors|people|customers
user|visitor|customer|person
written|made|programmed|built|coded
decide|choose|find out|determine
lost|gone|missing
look up|find|search for
instead of|rather than|in place of
automatically|by itself|on its own
difference|distinction
reduce|lower|shrink|decrease|save|make smaller
increase|raise|enlarge|grow|make larger|extend
check|verify|test|examine|make sure
option|setting|parameter|switch|flag
options|settings|parameters|switches
happy|glad|cheerful
sad|unhappy|miserable
nice|lovely|pleasant|kind
story|tale
very|really|so|truly|quite
talk|chat|speak
talking|chatting|speaking""".replace("|\n", "|").split("\n")]
SWAPS = {}
for group in SYNONYMS:
    SWAPS.setdefault(group[0], group[1:])
SWAP = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SWAPS), key=len, reverse=True)) + r")\b", re.I)
SMALL_WORDS = set("""a an the i you it is are do does can could to of for in on with my your me this that be will would have has and or so
please kinglet at by from there what how which""".split())


def clean(text):
    return re.sub(r"[ \t]+", " ", str(text).translate(PLAIN)).strip()


def words(text):
    """What two questions are compared by: letter case, punctuation and spacing do not count."""
    return tuple(re.findall(r"[a-z0-9+*/=_]+(?:'[a-z]+)?", text.lower()))


def read_blocks(name):
    group = name
    for line in (TEXT / f"{name}.txt").read_text().splitlines():
        if line.startswith("## "):
            group = line[3:]
        elif line[:2] in ("= ", "A:", "T:", "H:"):
            yield group, line[0], line[2:].strip()


def split(text):
    return [wording.strip() for wording in re.split(r" \|(?: |$)", text) if wording.strip()]


def read_intents():
    out = []
    for name in FILES:
        for group, kind, text in read_blocks(name):
            if kind == "=":
                out.append(Intent(text, group, [], [], []))
            else:
                intent = out[-1]
                {"A": intent.answer, "T": intent.trained, "H": intent.held}[kind].extend([text] if kind == "A" else split(text))
    errors = [i for i, intent in enumerate(out) if intent.group == "errors" and intent.name.isupper()]
    for n, i in enumerate(errors):
        code = out[i].name
        out[i].trained.extend(w.replace("CODE", code) for w in split(ERROR_TRAINED) for _ in range(2))
        out[i].held.extend(ERROR_HELD[(n + k) % 4].replace("CODE", code) for k in range(2))
    for intent in out:
        assert len(intent.answer) == 1 and sum(map(choices, intent.trained)) >= 12 and len(intent.held) >= 3, intent.name
    return [intent._replace(answer=intent.answer[0]) for intent in out]


def read_unknown(corpora):
    """What is declined. The corpora's questions are trained on; of their answers nothing is read."""
    answers, trained, held = [], {}, {}
    for group, kind, text in read_blocks("unknown"):
        if kind == "A":
            answers.append(text)
        elif kind == "T":
            trained.setdefault(group, []).extend(split(text))
        else:
            held.setdefault(group.removeprefix("held out: "), []).extend(split(text))
    easy = re.compile(r"stor(y|ies)|poem|haiku|rhyme|joke|song|\bhello\b|rewrite|rephrase|polite|punctuat|past tense|question form"
                      r"|capital letter|negative", re.I)
    corpus = set()
    for row in json.loads((corpora / "instructions-1100.json").read_text()):
        corpus.add(clean(row["instruction"] + "\n" + row["input"]))
    for line in (corpora / "self-instruct-seeds.jsonl").read_text().splitlines():
        row = json.loads(line)
        corpus.add(clean(row["instruction"] + "\n" + row["instances"][0]["input"]))
    for name in ("tech_support", "trivia", "history", "science"):
        for turns in yaml.safe_load((corpora / "chatterbot" / f"{name}.yml").read_text())["conversations"]:
            corpus.add(clean(turns[0]))
    return Unknown(answers, trained, held, sorted(q for q in corpus if 8 < len(q) < 500 and not easy.search(q)))


def choices(text):
    """How many wordings {a|b} makes of a text."""
    count = 1
    for inner in re.findall(r"\{([^{}]*)\}", text):
        count *= inner.count("|") + 1
    return count


def fill(text, slots, rng):
    text = re.sub(r"\{([^{}]*)\}", lambda m: rng.choice(m[1].split("|")), text)
    text = re.sub(r"<n>", lambda _: str(rng.choice((rng.randint(0, 12), rng.randint(0, 100), rng.randint(0, 2000)))), text)
    text = re.sub(r"<(\w+)>", lambda m: slots[m[1]], text)
    return re.sub(r" +([?.!,]|$)", r"\1", re.sub(r" +", " ", text)).strip()


def reply(intent, slots):
    answer = re.sub(r"<(\w+)>", lambda m: slots[m[1]], intent.answer)
    return answer[:1].upper() + answer[1:] if intent.answer.startswith("<") else answer


def draw_slots(rng):
    return {kind: rng.choice(options) for kind, options in WORDS.items()}


def reword(text, rng, rate):
    """Exchanges words for others of their meaning, drops small ones, now and then leaves only the words that matter."""
    text = SWAP.sub(lambda m: rng.choice(SWAPS[m[0].lower()]) if rng.random() < rate else m[0], text)
    parts = text.split(" ")
    if len(parts) > 4:
        kind = rng.random()
        if kind < 0.04:
            parts = [p for p in parts if p.lower().strip("?.,!") not in SMALL_WORDS] or parts
        elif kind < 0.2:
            small = [i for i, p in enumerate(parts) if p.lower() in SMALL_WORDS]
            for i in sorted(rng.sample(small, min(len(small), rng.randrange(1, 3))), reverse=True):
                del parts[i]
        elif kind < 0.26:
            cut = rng.randrange(1, len(parts))
            parts = parts[cut:] + parts[:cut]
    return " ".join(parts)


def mistype(text, rng):
    parts = text.split(" ")
    long = [i for i, p in enumerate(parts) if len(p) > 3 and p.isalpha()]
    if long:
        i = rng.choice(long)
        p, at = parts[i], rng.randrange(1, len(parts[i]) - 1)
        parts[i] = rng.choice((p[:at] + p[at + 1 :], p[:at] + p[at + 1] + p[at] + p[at + 2 :], p[:at] + p[at] + p[at:]))
    return " ".join(parts)


def casual(text, rng):
    """The ways in which people type the same question."""
    if rng.random() < 0.35:
        text = text.lower() if rng.random() < 0.6 else text[:1].lower() + text[1:]
    if rng.random() < 0.3:
        text = text.rstrip(".!?") or text
    elif rng.random() < 0.03:
        text += rng.choice(("?", "!", " ?", "??", "..."))
    return text


def frame(text, rng, domain=False):
    if rng.random() < 0.22:
        before = rng.choice(BEFORE)
        before = before[:1].upper() + before[1:] if rng.random() < 0.6 else before
        text = before + (text[:1].lower() + text[1:] if rng.random() < 0.7 and not text[:2].isupper() else text)
    kind = rng.random()
    if kind < 0.06:
        text = text.rstrip(".!?") + rng.choice(BEHIND) + ("?" if text.endswith("?") else "")
    elif kind < 0.16 and domain:
        text = text.rstrip(".!?") + rng.choice(DOMAIN_BEHIND) + ("?" if text.endswith("?") else "")
    return text


def held_out(intents, slots_seed=3):
    """[(intent, question, answer)] of all held-out wordings, slots filled."""
    rng, out = random.Random(slots_seed), []
    for intent in intents:
        for wording in intent.held:
            slots = draw_slots(rng)
            out.append((intent, fill(wording, slots, rng), reply(intent, slots)))
    return out


class Questions:
    """Draws training questions; none of them is a held-out one, in front of its frame or with it."""

    def __init__(self, corpora):
        self.intents, self.unknown = read_intents(), read_unknown(corpora)
        self.held = held_out(self.intents)
        self.held_unknown = [(group, q) for group, questions in self.unknown.held.items() for q in questions]
        plain = [fill(w, {k: f"<{k}>" for k in WORDS}, random.Random(0)) for i in self.intents for w in i.held]
        self.forbidden = {words(q) for q in plain} | {words(q) for _, q, _ in self.held} | {words(q) for _, q in self.held_unknown}

    def intent(self, intent, rng):
        """-> (question, answer)"""
        talk = intent.group == "small talk"
        while True:
            wording = rng.choices(intent.trained, [choices(t) ** 0.2 for t in intent.trained])[0]
            slots = draw_slots(rng)
            core = fill(wording, slots, rng)
            if rng.random() < 0.65 and not (talk and "<" in wording):
                core = reword(core, rng, 0.15 if talk else rng.choice((0.1, 0.3, 0.5)))
            text = core if talk and rng.random() < 0.7 else frame(core, rng, not talk and intent.group != "about")
            text = casual(text, rng)
            if rng.random() < 0.07 and "<" not in wording:
                text = mistype(text, rng)
            if not {words(core), words(text)} & self.forbidden:
                return text, reply(intent, slots)

    def declined(self, rng):
        """-> (question, answer)"""
        while True:
            if rng.random() < 0.35:
                core = rng.choice(self.unknown.corpus)
            else:
                group = rng.choice([g for g, n in (("like the domain", 4),) for _ in range(n)] + list(self.unknown.trained))
                core = fill(rng.choices(self.unknown.trained[group], [choices(t) ** 0.4 for t in self.unknown.trained[group]])[0], {}, rng)
                if rng.random() < 0.4:
                    core = reword(core, rng, 0.2)
            text = casual(frame(core, rng), rng)
            if rng.random() < 0.04:
                text = mistype(text, rng)
            if not {words(core), words(text)} & self.forbidden:
                return text, rng.choice(self.unknown.answers)


def nearness(corpora, draws=60):
    """Asserts that no trained question is a held-out one, and tells how alike (Jaccard of words) the nearest is."""
    rng, asked = random.Random(1), Questions(corpora)
    near = {}
    for intent in asked.intents:
        for _ in range(draws):
            near.setdefault(frozenset(words(asked.intent(intent, rng)[0])), intent.name)
    ordered = {words(q) for _, q, _ in asked.held}
    assert not ordered & {tuple(w) for w in near}
    best = []
    for intent, question, _ in asked.held:
        q = frozenset(words(question))
        best.append((max(len(q & t) / len(q | t) for t in near), question, intent.name))
    best.sort()
    shares = Counter(min(int(10 * b), 9) / 10 for b, _, _ in best)
    print(f"{len(best)} held-out questions of {len(asked.intents)} intents, {len(near)} trained ones drawn; likeness of the nearest:")
    print(json.dumps({f"{k:.1f}+": shares[k] for k in sorted(shares)}), "median", round(best[len(best) // 2][0], 2))


if __name__ == "__main__":
    nearness(Path(__file__).resolve().parent.parent / "../shared/data/corpora")
