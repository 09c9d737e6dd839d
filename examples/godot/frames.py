"""Draws how long frames took: frames.py FRAMES.csv PICTURE.png. Needs matplotlib."""

import csv
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

with open(sys.argv[1]) as file:
    frames = list(csv.DictReader(file))
picture, panels = plt.subplots(2, 1, figsize=(7, 5), layout="constrained")
for panel, field, title in zip(
    panels, ("frame_us", "think_us"), ("from one frame to the next (60 Hz are 16.7 ms)", "of it the character, with a budget of 2 ms")
):
    times = [int(frame[field]) / 1000 for frame in frames]
    panel.hist(times, bins=60)
    panel.set(title=title, xlabel=f"ms; median {sorted(times)[len(times) // 2]:.2f}, longest {max(times):.2f}", ylabel="frames")
    panel.set_yscale("log")
picture.savefig(sys.argv[2], dpi=80)
