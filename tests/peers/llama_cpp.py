"""Logits of llama.cpp after each token, beside those that `ossicle logits` wrote:

    pip install numpy xllamacpp
    ossicle logits --model MODEL.gguf --tokens TOKENS.json --out LOGITS.npy
    python tests/peers/llama_cpp.py MODEL.gguf TOKENS.json LOGITS.npy [ADAPTER.gguf]
"""

import ctypes
import json
import sys

import numpy as np
import xllamacpp

model_path, tokens_path, logits_path, *adapter_paths = sys.argv[1:]
tokens = json.load(open(tokens_path))
expected = np.load(logits_path)

llama = ctypes.CDLL(xllamacpp.xllamacpp.__file__)


class Parameters(ctypes.Structure):
    """As large as any version's: they come and go by value, in memory, and only the first fields, which have stayed, are set."""

    _fields_ = [("words", ctypes.c_uint32 * 256)]


for name, result, arguments in [
    ("model_default_params", Parameters, []),
    ("context_default_params", Parameters, []),
    ("model_load_from_file", ctypes.c_void_p, [ctypes.c_char_p, Parameters]),
    ("init_from_model", ctypes.c_void_p, [ctypes.c_void_p, Parameters]),
    ("batch_get_one", Parameters, [ctypes.POINTER(ctypes.c_int32), ctypes.c_int32]),
    ("decode", ctypes.c_int32, [ctypes.c_void_p, Parameters]),
    ("adapter_lora_init", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]),
    ("set_adapters_lora", ctypes.c_int32, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]),
    ("get_logits", ctypes.POINTER(ctypes.c_float), [ctypes.c_void_p]),
]:
    function = getattr(llama, f"llama_{name}")
    function.restype, function.argtypes = result, arguments

llama.llama_backend_init()
model = llama.llama_model_load_from_file(model_path.encode(), llama.llama_model_default_params())
parameters = llama.llama_context_default_params()
parameters.words[0] = len(tokens)  # n_ctx
context = model and llama.llama_init_from_model(model, parameters)
if not context:
    sys.exit(f"{model_path}: llama.cpp does not load it")
for path in adapter_paths:
    adapter = llama.llama_adapter_lora_init(model, path.encode())
    if not adapter:
        sys.exit(f"{path}: llama.cpp does not load it")
    llama.llama_set_adapters_lora(context, (ctypes.c_void_p * 1)(adapter), 1, (ctypes.c_float * 1)(1.0))

found = np.empty_like(expected)
for position, token in enumerate(tokens):
    if llama.llama_decode(context, llama.llama_batch_get_one(ctypes.c_int32(token), 1)) != 0:
        sys.exit(f"llama.cpp fails at token {position}")
    found[position] = np.ctypeslib.as_array(llama.llama_get_logits(context), expected.shape[1:])


def probabilities(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


ours, theirs = probabilities(expected), probabilities(found)
divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
same = (expected.argmax(axis=1) == found.argmax(axis=1)).mean()
print(
    f"xllamacpp {xllamacpp.__version__}, {len(tokens)} tokens: largest difference of a logit {np.abs(found - expected).max():.2g} "
    f"(logits from {found.min():.1f} to {found.max():.1f}), mean KL {divergence.mean():.1g}, same first {same:.1%}"
)
