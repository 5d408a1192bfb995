"""Rotary position embedding: rotation frequencies by config, tables by position, the rotation.

T tokens, H heads, D head size, P positions. Halves are rotated as (x[:D/2], x[D/2:]), the layout
of Hugging Face checkpoints.
"""

import math

import torch

from ramify.runtime.models.config import ModelConfig, RopeConfig


def rope_tables(config: ModelConfig, num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin, each [num_positions, head_dim / 2] float32 on the CPU."""
    inv_freq, scale = _frequencies(config.rope, config.head_dim)
    angles = torch.arange(num_positions, dtype=torch.float32)[:, None] * inv_freq[None, :]
    return angles.cos() * scale, angles.sin() * scale


def apply_rope(x_THD: torch.Tensor, cos_TD: torch.Tensor, sin_TD: torch.Tensor) -> torch.Tensor:
    """Rotate each head by its token's position; cos and sin are [T, D / 2] float32."""
    first, second = x_THD.float().chunk(2, dim=-1)
    cos, sin = cos_TD[:, None], sin_TD[:, None]
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x_THD.dtype)


def _frequencies(rope: RopeConfig, head_dim: int) -> tuple[torch.Tensor, float]:
    """Radians per position of each pair, [head_dim / 2] float32, and the scale of cos and sin."""
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    inv_freq = 1.0 / rope.theta**exponent
    if rope.type == "linear":
        return inv_freq / rope.factor, 1.0
    if rope.type == "llama3":
        return _llama3(rope, inv_freq), 1.0
    if rope.type == "yarn":
        return _yarn(rope, inv_freq, head_dim), _yarn_scale(rope)
    return inv_freq, 1.0


def _llama3(rope: RopeConfig, inv_freq: torch.Tensor) -> torch.Tensor:
    """Llama 3.1: slow turns are stretched by `factor`, fast ones kept, a ramp between them."""
    turns = rope.original_max_position * inv_freq / (2 * math.pi)
    kept = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    kept = kept.clamp(0.0, 1.0)
    return inv_freq * kept + inv_freq / rope.factor * (1.0 - kept)


def _yarn(rope: RopeConfig, inv_freq: torch.Tensor, head_dim: int) -> torch.Tensor:
    """YaRN (arXiv 2309.00071, 3.2): a ramp over dimensions between kept and stretched turns."""

    def dimension(turns: float) -> float:
        stretch = rope.original_max_position / (turns * 2 * math.pi)
        return head_dim * math.log(stretch) / (2 * math.log(rope.theta))

    low, high = dimension(rope.beta_fast), dimension(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    width = high - low if high != low else 0.001
    index = torch.arange(head_dim // 2, dtype=torch.float32)
    stretched = ((index - low) / width).clamp(0.0, 1.0)
    return inv_freq / rope.factor * stretched + inv_freq * (1.0 - stretched)


def _yarn_scale(rope: RopeConfig) -> float:
    def magnitude(mscale: float) -> float:
        return 0.1 * mscale * math.log(rope.factor) + 1.0 if rope.factor > 1.0 else 1.0

    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.mscale and rope.mscale_all_dim:
        return magnitude(rope.mscale) / magnitude(rope.mscale_all_dim)
    return magnitude(1.0)
