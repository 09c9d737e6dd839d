"""The trained model as a GGUF file and as a Hugging Face checkpoint, with the same weights: experts in MXFP4, all else in BF16."""

import json

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from . import mxfp4
from .harmony import END_OF_TEXT, RETURN, SPECIAL
from .vocabulary import SPLIT, Below, merge

NAME = "Ossicle's toy model"

# The alphabet in which both formats write bytes: printable ones stand for themselves, the others for characters from U+0100.
_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
ALPHABET = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(0x100 + index) for index, byte in enumerate(_OTHERS)}


def spelled(token):
    return "".join(ALPHABET[byte] for byte in token)


def token_names(vocabulary):
    """The names of all rows, and ggml's types: 1 ordinary, 3 control, 5 unused."""
    ordinary = [spelled(token) for token in vocabulary.tokens]
    unused = [f"[PAD{index}]" for index in range(len(ordinary) + len(SPECIAL), len(vocabulary))]
    return ordinary + SPECIAL + unused, [1] * len(ordinary) + [3] * len(SPECIAL) + [5] * len(unused)


def merges(vocabulary):
    """What each token is merged from, in the order of the ranks."""
    for rank, token in enumerate(vocabulary.tokens):
        if len(token) > 1:
            parts = merge(token, Below(vocabulary.ranks, rank))
            if len(parts) == 2:
                yield [spelled(part) for part in parts]


def blocks(weights):
    """The rows of an MXFP4 tensor as GGUF holds them: a scale, then value j and value j + 16 in each of 16 bytes."""
    codes, exponents = mxfp4.quantize(weights)
    nibbles = codes[..., :16] | codes[..., 16:] << 4
    return torch.cat((exponents[..., None], nibbles), dim=-1).flatten(-2).numpy()


def write_gguf(path, model, vocabulary):
    config = model.config
    writer = gguf.GGUFWriter(path, "gpt-oss")
    writer.add_name(NAME)
    writer.add_license("apache-2.0")
    writer.add_description("Trained from scratch by the project Ossicle on texts of its own; not gpt-oss, only its architecture")
    writer.add_file_type(38)
    writer.add_quantization_version(2)
    writer.add_block_count(config.layers)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.hidden)
    writer.add_feed_forward_length(config.intermediate)
    writer.add_expert_feed_forward_length(config.intermediate)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.epsilon)
    writer.add_sliding_window(config.window)
    writer.add_expert_count(config.experts)
    writer.add_expert_used_count(config.experts_per_token)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(config.yarn_factor)
    writer.add_rope_scaling_orig_ctx_len(config.original_context)
    writer.add_rope_scaling_yarn_beta_fast(config.yarn_beta_fast)
    writer.add_rope_scaling_yarn_beta_slow(config.yarn_beta_slow)
    names, types = token_names(vocabulary)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-4o")
    writer.add_token_list(names)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges(vocabulary)])
    writer.add_eos_token_id(vocabulary.special[RETURN])
    writer.add_pad_token_id(vocabulary.special[END_OF_TEXT])
    writer.add_add_bos_token(False)

    def matrix(name, weights):
        bits = weights.detach().bfloat16().view(torch.int16).numpy().view(np.uint8)
        writer.add_tensor(name, bits, raw_dtype=gguf.GGMLQuantizationType.BF16)

    def vector(name, weights):
        writer.add_tensor(name, weights.detach().bfloat16().float().numpy())

    def experts(name, weights):
        writer.add_tensor(name, blocks(weights), raw_dtype=gguf.GGMLQuantizationType.MXFP4)

    matrix("token_embd.weight", model.embedding.weight)
    matrix("output.weight", model.unembedding.weight)
    vector("output_norm.weight", model.norm.gain)
    for index, layer in enumerate(model.layers):
        block = f"blk.{index}."
        vector(block + "attn_norm.weight", layer.attention_norm.gain)
        vector(block + "post_attention_norm.weight", layer.experts_norm.gain)
        attention, of = layer.attention, layer.experts
        for name, linear in (("q", attention.q), ("k", attention.k), ("v", attention.v), ("output", attention.out)):
            matrix(f"{block}attn_{name}.weight", linear.weight)
            vector(f"{block}attn_{name}.bias", linear.bias)
        vector(block + "attn_sinks.weight", attention.sinks)
        vector(block + "ffn_gate_inp.weight", of.router.weight)
        vector(block + "ffn_gate_inp.bias", of.router.bias)
        for place, name in enumerate(("gate", "up")):
            experts(f"{block}ffn_{name}_exps.weight", of.gate_up.chunk(2, dim=1)[place].contiguous())
            vector(f"{block}ffn_{name}_exps.bias", of.gate_up_bias.chunk(2, dim=1)[place].contiguous())
        experts(block + "ffn_down_exps.weight", of.down)
        vector(block + "ffn_down_exps.bias", of.down_bias)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleaved(halves):
    """Gate and up rows in turn, as in the published checkpoints."""
    return torch.stack(halves.chunk(2, dim=1), dim=2).flatten(1, 2)


def write_hugging_face(folder, model, vocabulary):
    config = model.config
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}

    def put(name, weights):
        tensors[name] = weights.detach().bfloat16().contiguous()

    def put_experts(name, weights):
        codes, exponents = mxfp4.quantize(weights)
        tensors[name + "_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).contiguous()
        tensors[name + "_scales"] = exponents.contiguous()

    put("model.embed_tokens.weight", model.embedding.weight)
    put("lm_head.weight", model.unembedding.weight)
    put("model.norm.weight", model.norm.gain)
    for index, layer in enumerate(model.layers):
        block = f"model.layers.{index}."
        put(block + "input_layernorm.weight", layer.attention_norm.gain)
        put(block + "post_attention_layernorm.weight", layer.experts_norm.gain)
        attention, of = layer.attention, layer.experts
        for name, linear in (("q", attention.q), ("k", attention.k), ("v", attention.v), ("o", attention.out)):
            put(f"{block}self_attn.{name}_proj.weight", linear.weight)
            put(f"{block}self_attn.{name}_proj.bias", linear.bias)
        put(block + "self_attn.sinks", attention.sinks)
        put(block + "mlp.router.weight", of.router.weight)
        put(block + "mlp.router.bias", of.router.bias)
        put_experts(block + "mlp.experts.gate_up_proj", interleaved(of.gate_up))
        put(block + "mlp.experts.gate_up_proj_bias", interleaved(of.gate_up_bias))
        put_experts(block + "mlp.experts.down_proj", of.down)
        put(block + "mlp.experts.down_proj_bias", of.down_bias)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    settings = {
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "attention_bias": True, "attention_dropout": 0.0,
        "vocab_size": config.vocabulary, "hidden_size": config.hidden, "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers, "num_attention_heads": config.heads, "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim, "num_local_experts": config.experts, "num_experts_per_tok": config.experts_per_token,
        "experts_per_token": config.experts_per_token, "sliding_window": config.window, "hidden_act": "silu",
        "layer_types": [("sliding_attention", "full_attention")[index % 2] for index in range(config.layers)],
        "swiglu_limit": config.swiglu_limit, "rms_norm_eps": config.epsilon, "rope_theta": config.rope_theta,
        "rope_scaling": {"rope_type": "yarn", "factor": config.yarn_factor, "beta_fast": config.yarn_beta_fast,
                         "beta_slow": config.yarn_beta_slow, "original_max_position_embeddings": config.original_context,
                         "truncate": False},
        "initial_context_length": config.original_context, "max_position_embeddings": config.context,
        "eos_token_id": vocabulary.special[RETURN], "pad_token_id": vocabulary.special[END_OF_TEXT],
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]},
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
    names, _ = token_names(vocabulary)
    count = len(vocabulary.tokens)
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [{"id": count + index, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True} for index, name in enumerate(SPECIAL)],
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": SPLIT.pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {name: index for index, name in enumerate(names[:count])}, "merges": list(merges(vocabulary))},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n")
