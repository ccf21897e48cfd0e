"""How families.json was made, from the root of the repository: python tests/models/bert/golden/make_families.py > families.json

The reference is PyTorch, in an environment of its own: torch 2.13.0, transformers 5.24.0, sentence-transformers 6.2.0. Kept are
the unit vectors, by mean pooling, of tiny checkpoints that `tests/models/bert/families.py` writes.
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import AutoModel

sys.path.insert(0, str(Path(__file__).parents[4]))
from tests.models.bert.families import CONFIGS, write_family, write_sentence_modules  # noqa: E402

TEXTS = ["heat", "Toys story: a film, 我 ไทย", "heat toys ②  unknownß", " ".join(["toy"] * 12)]


def digits(values: torch.Tensor) -> list[float]:
    return [round(v, 6) for v in values.tolist()]


def main() -> None:
    found: dict[str, object] = {"texts": TEXTS}
    with tempfile.TemporaryDirectory() as root:
        for family in CONFIGS:
            directory = write_family(Path(root, family), family)
            own, model = Tokenizer.from_file(str(directory / "tokenizer.json")), AutoModel.from_pretrained(directory).eval()
            vectors = []
            for text in TEXTS:
                with torch.no_grad():
                    states = model(input_ids=torch.tensor([own.encode(text).ids])).last_hidden_state[0]
                vectors.append(digits(torch.nn.functional.normalize(states.mean(0), dim=0)))
            found[family] = vectors
        whole = SentenceTransformer(str(write_sentence_modules(Path(root, "sentence"))), device="cpu")
        found["query"] = [digits(v) for v in torch.tensor(whole.encode_query(TEXTS))]
        found["item"] = [digits(v) for v in torch.tensor(whole.encode_document(TEXTS))]
    print("{" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found.items()) + "}")


main()
