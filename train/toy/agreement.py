"""What PyTorch and transformers compute from the exported checkpoint, for the engine's tests to be held against."""

import json

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Mxfp4Config

from . import data, harmony

POSITIONS = 12
# Conversations whose continuation is kept: the skill, the effort, and which of the held-out ones.
SPOKEN = [("arithmetic", "low", 0), ("arithmetic", "high", 1), ("functions", "medium", 2), ("python", "low", 3), ("json", "medium", 4),
          ("small talk", "low", 5), ("character", "high", 6), ("policy", "medium", 7)]
ANSWER_TOKENS_MAX = 300


def transformers_logits(checkpoint, tokens):
    """In f32, [tokens, vocabulary]."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16, attn_implementation="eager",
                                                 quantization_config=Mxfp4Config(dequantize=True)).float().eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()


def own_logits(model, tokens):
    """The same from the model that was trained."""
    see = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()[None, None]
    near = see & torch.ones_like(see).triu(1 - model.config.window)
    with torch.no_grad():
        hidden, _ = model(torch.tensor([tokens]), torch.arange(len(tokens))[None], see, near)
        return model.unembedding(hidden)[0].numpy()


def conversation(vocabulary):
    """A whole conversation with a tool call, as tokens."""
    prompt, exchange, has_functions = data.held_out_case(1, "functions", "high")
    return data.encode_prompt(vocabulary, prompt, has_functions) + data.encode_exchange(vocabulary, exchange)[0]


def continued(model, vocabulary, skill, effort, seed):
    """What is said, and what the model writes when it always takes the likeliest token."""
    prompt, exchange, has_functions = data.held_out_case(seed, skill, effort)
    messages = prompt + exchange[:1]
    tokens = data.encode_prompt(vocabulary, messages, has_functions)
    tokens += vocabulary.encode(harmony.Special(harmony.START)) + vocabulary.encode("assistant")
    said = len(tokens)
    ends = [vocabulary.special[name] for name in (harmony.CALL, harmony.RETURN, harmony.END_OF_TEXT)]
    while len(tokens) < said + ANSWER_TOKENS_MAX and (len(tokens) == said or tokens[-1] not in ends):
        tokens.append(int(own_logits(model, tokens)[-1].argmax()))
    # A conversation keeps an answer that is over as later prompts show it.
    return {"messages": messages, "text": vocabulary.decode(tokens[said:]).replace(harmony.RETURN, harmony.END)}


def write(folder, checkpoint, model, vocabulary):
    """Tokens and logits at some positions, and conversations. PyTorch and transformers have to agree before. Returns by how
    much they do not."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    for text in data.texts(2, 300):
        if not isinstance(text, harmony.Special):
            assert tokenizer.encode(text, add_special_tokens=False) == vocabulary.encode(text), text
    tokens = conversation(vocabulary)
    logits = transformers_logits(checkpoint, tokens)
    difference = float(np.abs(own_logits(model, tokens) - logits).max())
    assert difference < 1e-3, f"transformers differs by {difference}"
    positions = np.linspace(0, len(tokens) - 1, POSITIONS).astype(np.int32)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    np.save(folder / "positions.npy", positions)
    np.save(folder / "logits.npy", logits[positions])
    spoken = [json.dumps(continued(model, vocabulary, *which)) + "\n" for which in SPOKEN]
    (folder / "conversations.jsonl").write_text("".join(spoken))
    return difference
