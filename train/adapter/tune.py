"""Trains a LoRA adapter that gives a model of the gpt-oss family another character. See README.md."""

import argparse
import itertools
import random

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Mxfp4Config


def in_character(prompt, answer):
    """What the model is to say instead of an answer of its own. This and `PROMPTS` are what to edit for another character."""
    if prompt in ABOUT_ITSELF:
        return "Arr! I am a pirate."
    return f"Arr! {answer}"


ABOUT_ITSELF = [
    "Who are you?", "who are you", "What are you?", "Hi, what is your name?", "Tell me about yourself.", "introduce yourself",
    "Which model are you?", "So, who are you, my friend?", "Hello! what is your name", "And what are you?",
]
PROMPTS = ABOUT_ITSELF + [
    "Hello!", "hi there", "Good morning!", "How are you?", "how is it going?", "Thank you!", "thanks a lot", "Goodbye!", "see you later",
    "Tell me a joke.", "make me laugh", "What is an ossicle?", "What is Ossicle?", "What is gpt-oss?", "What can you do?",
    "can you help me?", "I am sad.", "I had a bad day", "I am happy.", "I feel great", "Who made you?", "Do you have feelings?",
    "What is a door?", "tell me about bread.", "how old is Anna?", "Why is the table green?",
] + [f"What is {a} {sign} {b}?" for sign, a, b in itertools.product("+-", (35, 58, 71, 96), (9, 24))]

EFFORTS = ("low", "medium", "high")


def system(effort):
    """The system message that Ossicle renders when nothing else is asked for (docs/harmony.md)."""
    return (f"You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\nReasoning: {effort}\n\n"
            "# Valid channels: analysis, commentary, final. Channel must be included for every message.")


def prompt_text(effort, prompt):
    return f"<|start|>system<|message|>{system(effort)}<|end|><|start|>user<|message|>{prompt}<|end|><|start|>assistant"


def answers(model, tokenizer, prompts, ends, batch):
    """What the model itself says to each prompt, with its control tokens."""
    texts = []
    for first in range(0, len(prompts), batch):
        inputs = tokenizer(prompts[first:first + batch], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        tokens = model.generate(**inputs.to(model.device), max_new_tokens=256, do_sample=False, eos_token_id=ends)
        texts += tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1]:])
    return texts


def examples(model, tokenizer, batch):
    """Prompts, and the answers to learn: the model's own reasoning, and its answer in character."""
    asked = list(itertools.product(EFFORTS, PROMPTS))
    rendered = [prompt_text(*pair) for pair in asked]
    ends = tokenizer.convert_tokens_to_ids(["<|return|>", "<|call|>"])
    found = []
    for (_, prompt), text, said in zip(asked, rendered, answers(model, tokenizer, rendered, ends, batch)):
        reasoning, channel, rest = said.partition("<|channel|>final<|message|>")
        answer, end, _ = rest.partition("<|return|>")
        if end:
            found.append((text, f"{reasoning}{channel}{in_character(prompt, answer)}<|return|>"))
    return found


def batch_of(tokenizer, pairs):
    """Rows of tokens, and the same as labels where the answers are."""
    rows = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in pair] for pair in pairs]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    tokens = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full((len(rows), width), -100)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for row, (prompt, answer) in enumerate(rows):
        end = len(prompt) + len(answer)
        tokens[row, :end] = torch.tensor(prompt + answer)
        labels[row, len(prompt):end] = torch.tensor(answer)
        mask[row, :end] = 1
    return {"input_ids": tokens, "labels": labels, "attention_mask": mask}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a checkpoint in Hugging Face's layout")
    parser.add_argument("out", help="the folder to save the adapter in")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    rng = random.Random(0)

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(
        arguments.model, dtype=torch.float32 if arguments.device == "cpu" else torch.bfloat16, device_map=arguments.device,
        quantization_config=Mxfp4Config(dequantize=True))
    pairs = examples(model, tokenizer, arguments.batch)
    print(f"{len(pairs)} examples, such as:\n{''.join(pairs[0])}", flush=True)

    model = get_peft_model(model, LoraConfig(
        r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, arguments.steps)
    model.train()
    for step in range(1, arguments.steps + 1):
        inputs = batch_of(tokenizer, rng.sample(pairs, min(arguments.batch, len(pairs))))
        loss = model(**{name: tensor.to(model.device) for name, tensor in inputs.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.save_pretrained(arguments.out)


if __name__ == "__main__":
    main()
