#!/usr/bin/env python3
"""Writes prompts.json (committed): texts that SmolLM2's tokenizer turns into exactly N ids, cut from tiny Shakespeare.

    python make_prompts.py ../../../shared/data      # needs `tokenizers` from PyPI
"""

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

COUNTS = {16: 1, 32: 1, 128: 6}  # first token, warm-up, measured

data = Path(sys.argv[1])
tokenizer = Tokenizer.from_file(str(data / "tokenizers/smollm2/tokenizer.json"))
source = (data / "corpora/tinyshakespeare.txt").read_text(encoding="utf8")
prompts, at = {}, 1000
for n, count in COUNTS.items():
    found = prompts[n] = []
    while len(found) < count:
        ids = tokenizer.encode(source[at : at + n * 8], add_special_tokens=False).ids[:n]
        text = tokenizer.decode(ids, skip_special_tokens=False)
        at += 4001
        if tokenizer.encode(text, add_special_tokens=False).ids == ids:
            found.append({"text": text, "ids": ids})
Path(__file__).with_name("prompts.json").write_text(json.dumps(prompts) + "\n", encoding="utf8")
