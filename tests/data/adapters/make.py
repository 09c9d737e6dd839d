"""Makes the adapters here and the logits that they lead to, with PEFT: python make.py ../tiny-a/hf ../tiny-a/ref/manifest.json

transformers 5.24.0, peft 0.21.2, torch 2.15.0, gguf 0.19.0; all in float32 on the CPU, experts dequantized.
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, Mxfp4Config

HERE = Path(__file__).parent
CHECKPOINT, MANIFEST = sys.argv[1:]
TOKENS = torch.tensor([json.loads(Path(MANIFEST).read_text())["sequences"]["s64"]["tokens"][:32]])
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
CONFIGS = {
    "attention": LoraConfig(r=8, lora_alpha=16, target_modules=ATTENTION),
    "everything": LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=ATTENTION,
        target_parameters=["mlp.router.weight", "mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    ),
    "one-layer": LoraConfig(r=3, lora_alpha=3, target_modules=[], target_parameters=["2.mlp.experts.down_proj"]),
}


def base():
    config = Mxfp4Config(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(
        CHECKPOINT, quantization_config=config, dtype=torch.float32, attn_implementation="eager"
    )


@torch.no_grad()
def logits(model, name):
    found = model(TOKENS).logits[0].numpy()
    np.save(HERE / f"{name}.npy", found.astype(np.float32))
    return found


@torch.no_grad()
def make(name, seed):
    torch.manual_seed(seed)
    model = get_peft_model(base(), CONFIGS[name])
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            # As if trained: neither half is zero.
            size = 0.5 if "lora_A" in parameter_name else 0.2
            parameter.copy_((torch.randn_like(parameter) * size / parameter.shape[1] ** 0.5).bfloat16().float())
    model.save_pretrained(HERE / name)
    (HERE / name / "README.md").unlink(missing_ok=True)
    return logits(model.eval(), name)


@torch.no_grad()
def both():
    """`attention`, and half of `everything`."""
    model = PeftModel.from_pretrained(base(), HERE / "attention").merge_and_unload()
    model = PeftModel.from_pretrained(model, HERE / "everything")
    for module in model.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling["default"] *= 0.5
    return logits(model.merge_and_unload().eval(), "both")


def to_gguf():
    """`everything`, under the names and in the shapes that llama.cpp's adapters have: experts outermost, gates and linear parts
    apart. Half precision, which holds these numbers exactly but for the smallest."""
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
    tensors = load_file(HERE / "everything" / "adapter_model.safetensors")
    experts, rank = 8, 4
    writer = gguf.GGUFWriter(HERE / "everything.gguf", "gpt-oss")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    # llama.cpp divides by the rank, PEFT with use_rslora by its root.
    writer.add_float32("adapter.lora.alpha", 6 / rank**0.5 * rank)

    def add(layer, name, a, b):
        for half, tensor in (("a", a), ("b", b)):
            writer.add_tensor(f"blk.{layer}.{name}.weight.lora_{half}", tensor.numpy().astype(np.float16))

    for name, a in sorted(tensors.items()):
        if ".lora_A." not in name:
            continue
        b = tensors[name.replace(".lora_A.", ".lora_B.")]
        layer = name.split(".layers.")[1].split(".")[0]
        if ".experts." in name:
            a = a.reshape(experts, rank, -1)
            b = b.reshape(b.shape[0], rank, experts).permute(2, 0, 1).contiguous()
            if ".base_layer." in name:
                add(layer, "ffn_gate_exps", a, b[:, 0::2].contiguous())
                add(layer, "ffn_up_exps", a, b[:, 1::2].contiguous())
            else:
                add(layer, "ffn_down_exps", a, b)
        elif ".router." in name:
            add(layer, "ffn_gate_inp", a, b)
        else:
            add(layer, names[name.split(".")[-3]], a, b)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


before = logits(base(), "none")
for seed, name in enumerate(CONFIGS):
    change = np.abs(make(name, seed) - before)
    print(f"{name}: logits change by {change.mean():.2f}, at most {change.max():.2f}")
both()
to_gguf()
(HERE / "none.npy").unlink()
