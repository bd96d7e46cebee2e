"""Small rewriting tasks whose answer is known: a sentence of simple words and what becomes of it."""
import re, zlib

from questions import WORDS

# verb as "he ...", "to ...", "he ... (past)", and what it takes.
VERBS = [line.split(": ") for line in """sees see saw: dog cat bird ball boat frog car kite star house tree cake
finds find found: key ball book coin hat stick shell toy map ring egg nest
likes like liked: cake soup bread milk dog cat song ball book garden
wants want wanted: cake ball kite hat boat toy book apple cookie drum
makes make made: cake soup kite hat boat drum bed nest toy box
takes take took: book ball hat key box apple cup bag coat map
eats eat ate: apple cake cookie soup bread egg pear carrot plum pie
opens open opened: door box book window bag gate letter jar
paints paint painted: house door boat wall fence box picture gate
reads read read: book letter map story note sign
helps help helped: dog cat bird girl boy man frog farmer king
loves love loved: dog cat bird song garden horse rabbit sea
brings bring brought: book cake ball letter box cup hat flower
washes wash washed: car dog cup hat window coat apple
carries carry carried: box bag stone ball cat basket log
hides hide hid: key ball coin box ring egg cookie
draws draw drew: tree house cat star bird map boat
throws throw threw: ball stone stick hat shell
catches catch caught: ball fish bird frog bus
buys buy bought: hat cake book bike lamp apple
breaks break broke: cup stick toy egg window
drops drop dropped: cup ball key book hat
cleans clean cleaned: room cup table window car
feeds feed fed: dog cat bird duck horse rabbit
hears hear heard: bird song bell drum dog
builds build built: house boat nest tower wall""".splitlines()]
ADJECTIVES = "big small red blue old new nice little green white happy funny soft long round".split()
PLACES = """in the garden|in the park|at home|at school|near the river|under the tree|by the lake|on the hill|in the house|in the
morning|after lunch|in the forest|on the beach|in the kitchen|at night|today""".replace("\n", " ").split("|")
MANNER = "very slowly|with great joy|as fast as possible|all alone|once again|with a smile|very happily".split("|")
WHO = WORDS["name"] + ["the boy", "the girl", "the dog", "the old man", "my friend", "the farmer", "the teacher", "the king", "she", "he"]

# task: (instructions to train on, held out). The sentence stands behind them.
TASKS = {
    "past": ("Put this in the past tense: |Past tense: |Rewrite in the past tense: |Change this to the past: |In the past tense: |Put it into the past: |"
             "Make this past tense: |Write this in the past: ", "Please say this in the past tense: |How is this in the past tense? "),
    "question": ("Make this a question: |Turn this into a question: |Rewrite as a question: |Ask it as a question: |As a question: |Question form: |"
                 "Change this into a question: |Make a question of this: ", "Please make a question out of this: |Can you turn this into a question? "),
    "negative": ("Make this negative: |Negate this: |Put this in the negative: |Say the opposite with not: |Negative: |Rewrite with not: |"
                 "Turn this into the negative: |Add not to this: ", "Please make this sentence negative: |How is this in the negative? "),
    "capitals": ("Fix the capitals: |Fix the punctuation: |Correct this: |Fix this sentence: |Fix capitals and punctuation: |Correct the sentence: |"
                 "Fix the capital letters: |Correct the capitals and the full stop: ", "Please correct this sentence: |Can you fix the capitals here? "),
    "polite": ("Make this polite: |Make this more polite: |Say it politely: |Rewrite politely: |Polite: |Ask this politely: |Be more polite: |"
               "Turn this into a polite request: ", "Please put this more politely: |How do I say this politely? "),
    "shorter": ("Make this shorter: |Shorten this: |Shorter: |Say it shorter: |Make it short: |Shorten the sentence: |Cut this down: |"
                "Rewrite this shorter: ", "Please make this sentence shorter: |Can you shorten this? "),
    "future": ("Put this in the future: |Future tense: |Rewrite in the future tense: |Change this to the future: |In the future tense: |"
               "Make this future tense: |Write this in the future: ", "Please say this in the future tense: |How is this in the future tense? "),
}


def sentence(task, rng):
    """-> (sentence, what the task makes of it)"""
    forms, nouns = rng.choice(VERBS)
    now, base, past = forms.split()
    noun, who = rng.choice(nouns.split()), rng.choice(WHO)
    adjective = rng.choice(ADJECTIVES) + " " if rng.random() < 0.4 else ""
    thing = rng.choice(("the ", "a ", "the ")) + adjective + noun
    thing = re.sub(r"^a (?=[aeiou])", "an ", thing)
    place = " " + rng.choice(PLACES) if rng.random() < 0.45 else ""
    big = who[:1].upper() + who[1:]
    plain = f"{big} {now} {thing}{place}."
    if task == "past":
        return plain, f"{big} {past} {thing}{place}."
    if task == "future":
        return plain, f"{big} will {base} {thing}{place}."
    if task == "question":
        return plain, f"Does {who} {base} {thing}{place}?"
    if task == "negative":
        return plain, f"{big} does not {base} {thing}{place}."
    if task == "capitals":
        return plain.lower().rstrip("."), plain
    if task == "polite":
        order = f"{base} {thing}{place}"
        return order[:1].upper() + order[1:] + ".", f"Could you please {order}?"
    manner = rng.choice(MANNER)
    return f"{big} {now} {thing}{place} {manner}.", f"{big} {now} {thing}."


def is_held(text):
    """One sentence of eight is never trained."""
    return zlib.crc32(text.lower().encode()) % 8 == 0


def rewriting(rng, held=False):
    """-> (task, request, answer); the held-out ones have other instructions and other sentences."""
    task = rng.choice(sorted(TASKS))
    while True:
        text, answer = sentence(task, rng)
        if is_held(text) == held:
            break
    instruction = rng.choice(TASKS[task][held].split("|"))
    if not held:
        kind = rng.random()
        if kind < 0.15:
            instruction = instruction.lower()
        elif kind < 0.25:
            instruction = "Please " + instruction[:1].lower() + instruction[1:]
        elif kind < 0.3:
            instruction = "Can you " + instruction[:1].lower() + instruction[1:].rstrip(": ") + "? "
        elif kind < 0.4:
            instruction = instruction.rstrip(" ") + "\n"
    return task, instruction + text, answer
