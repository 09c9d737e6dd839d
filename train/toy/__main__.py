"""Makes the toy model and all that is committed about it. Goes on where it was stopped."""

import argparse
import json
import shutil
from pathlib import Path

from . import agreement, data, evaluate, export, learn, record, vocabulary
from .model import Config

ROOT = Path(__file__).parents[2]
SEED = 6
TOKENS = 1464
STEPS = 3600

HEAD = ["| skill | effort | right | right calls | well-formed turns | tokens of reasoning |", "|---|---|---|---|---|---|"]


def vocabulary_at(path):
    """What is chosen at the beginning stays, even if the data change before the run goes on."""
    if not path.exists():
        chosen = vocabulary.choose(data.texts(SEED, 20000), TOKENS)
        path.write_text(json.dumps([token.decode("latin-1") for token in chosen.tokens]))
    return vocabulary.Vocabulary([token.encode("latin-1") for token in json.loads(path.read_text())])


def main():
    parser = argparse.ArgumentParser(prog="python -m toy", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the state of the training and the checkpoints")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cases", type=int, default=evaluate.CASES, help="held-out prompts for each skill and effort")
    parser.add_argument("--engine", type=Path, default=ROOT / "target/release/examples/answer",
                        help="built by: cargo build --release -p ossicle-host --example answer")
    parser.add_argument("--keep", action="store_true", help="replaces what is committed by what was made")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    words = vocabulary_at(out / "vocabulary.json")
    config = Config(vocabulary=len(words))
    learn.run(out, config, words, arguments.steps, SEED)

    model = learn.load(out, config)
    file, checkpoint, log = out / "toy.gguf", out / "hugging-face", out / "log.jsonl"
    export.write_gguf(file, model, words)
    export.write_hugging_face(checkpoint, model, words)
    difference = agreement.write(out / "agreement", checkpoint, model, words)
    lines, total = evaluate.table(arguments.engine, file, words, arguments.cases)
    rate = total["well-formed"] / total["turns"]
    lines += ["", f"Of all {total['turns']} turns, {total['well-formed']} ({rate:.2%}) were well-formed."]
    summary = record.summary(log) | {"file size": file.stat().st_size, "largest difference from transformers": difference}
    (out / "record.json").write_text(json.dumps(summary, indent=2) + "\n")
    record.draw(log, out / "loss.png")
    (out / "scores.md").write_text("\n".join(HEAD + lines) + "\n")

    if arguments.keep:
        shutil.copy(file, ROOT / "cli/data/toy.gguf")
        shutil.copytree(out / "agreement", ROOT / "tests/data/toy", dirs_exist_ok=True)
        for name in ("loss.png", "log.jsonl", "record.json"):
            (ROOT / "train/record").mkdir(exist_ok=True)
            shutil.copy(out / name, ROOT / "train/record" / name)
        record.put_scores(ROOT / "train/MODEL_CARD.md", HEAD + lines)


if __name__ == "__main__":
    main()
