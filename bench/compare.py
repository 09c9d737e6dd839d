"""Measures for compare.sh: the engines in turn, so that a machine which slows down slows both; medians over the rounds."""

import json
import os
import statistics
import subprocess
import sys
import time

ossicle, llama_bench, model, threads, rounds = sys.argv[1:]


def run(*command):
    """Standard output as JSON, seconds, and peak resident memory in GB."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return json.loads(output), time.monotonic() - start, usage.ru_maxrss * 1024 / 1e9


def run_ossicle(threads, prompt, generate, warm_up):
    """Tokens a second of the prompt and of decoding, seconds in all, memory."""
    result, seconds, memory = run(
        ossicle, "bench", "--json", "--model", model, "--threads", threads, "--depth", "128" if warm_up else "0",
        "--prompt", prompt, "--batch", prompt, "--generate", generate)
    return result["prefill_tokens_per_second"], result["decode_tokens_per_second_median"], seconds, memory


def run_llama(threads, prompt, generate, warm_up):
    results, seconds, memory = run(
        llama_bench, "-o", "json", "-m", model, "-t", threads, "-fa", "1", "-r", "1", "-p", prompt, "-n", generate,
        *([] if warm_up else ["--no-warmup"]))
    speeds = [next((r["avg_ts"] for r in results if r[kind] > 0), 0) for kind in ("n_prompt", "n_gen")]
    return *speeds, seconds, memory


engines = {"Ossicle": run_ossicle, "llama.cpp": run_llama}
found = {engine: {} for engine in engines}
for number in range(int(rounds)):
    for engine, measure in engines.items():
        print(f"round {number + 1}: {engine}", file=sys.stderr)
        # Whatever the other engine has pushed out of the page cache comes back first.
        subprocess.run(["cat", model], stdout=subprocess.DEVNULL, check=True)
        note = lambda name, value: found[engine].setdefault(name, []).append(value)
        note("until the first token, s", measure(threads, "1", "0", warm_up=False)[2])
        prompt, decode, _, memory = measure(threads, "128", "16", warm_up=True)
        note("prompt of 128, tokens/s", prompt)
        note("decode, tokens/s", decode)
        note("peak memory, GB", memory)
        note("prompt of 512, tokens/s", measure(threads, "512", "0", warm_up=True)[0])
        prompt, decode, _, _ = measure("1", "128", "8", warm_up=True)
        note("prompt of 128, one thread", prompt)
        note("decode, one thread", decode)

print(f"{threads} threads, medians of {rounds} rounds\n")
print("| | Ossicle | llama.cpp | ratio |\n|---|---|---|---|")
for name in found["Ossicle"]:
    ours, theirs = (statistics.median(found[engine][name]) for engine in engines)
    print(f"| {name} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
