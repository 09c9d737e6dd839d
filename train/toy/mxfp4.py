"""MXFP4: blocks of 32 values of 4 bits with a power of two as their scale."""

import torch

LEVELS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
# Halfway between neighbours.
BORDERS = (LEVELS[1:] + LEVELS[:-1]) / 2


def quantize(weights):
    """Codes [..., blocks, 32] and the exponents of the scales, plus 127, [..., blocks]."""
    blocks = weights.detach().float().unflatten(-1, (-1, 32))
    most = blocks.abs().amax(-1).clamp_min(2.0**-100)
    # The largest value comes to lie between 3.5 and 7, where 6 is the largest level.
    exponent = torch.floor(torch.log2(most / 3.5))
    scaled = blocks / torch.exp2(exponent)[..., None]
    codes = torch.bucketize(scaled.abs(), BORDERS, right=True) | ((scaled < 0) * 8)
    return codes.to(torch.uint8), (exponent + 127).to(torch.uint8)


def dequantize(codes, exponents):
    values = torch.cat((LEVELS, -LEVELS))[codes.long()]
    return (values * torch.exp2(exponents.float() - 127)[..., None]).flatten(-2)


def rounded(weights):
    return dequantize(*quantize(weights))
