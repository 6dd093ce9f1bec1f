"""RoFormers on a CPU in fewer passes over memory: the published transformers with the same weights, to about 1e-6.

A norm's gain is multiplied into the layer behind it, so that the norm is one product. Layers take their tokens as rows
of one matrix, which the mathematical library handles best. Queries and keys are turned by their positions in place.
Mask estimators go band by band: no copies of their weights side by side, a third of the memory.
"""

from __future__ import annotations

from typing import Any


def make_lean(network: Any) -> None:
    """Replace what a RoFormer's layers do, in place. Layers of other kinds (PoPE, shared biases) stay as they are."""
    for estimator in network.mask_estimators:
        estimator.use_grouped_forward = False
    tables: dict[tuple[int, int], Any] = {}
    for pair in network.layers:
        for transformer in pair:
            for attention, feed_forward in transformer.layers:
                if attention.to_qkv.bias is None and attention.rotary_embed is not None:
                    _lean_attention(attention, tables)
                _lean_feed_forward(feed_forward)


def _rows(tensor: Any) -> Any:
    """The tensor as a matrix with a token in each row."""
    return tensor.reshape(-1, tensor.shape[-1])


def _unit(tokens: Any) -> Any:
    """Tokens (rows) of length 1; silence stays silence."""
    import torch

    return tokens * torch.linalg.vector_norm(tokens, dim=1, keepdim=True).clamp_min_(1e-12).reciprocal_()


def _absorb(norm: Any, *layers: Any) -> None:
    """Multiply a norm's gain into the layers behind it."""
    for layer in layers:
        layer.weight.mul_(norm.gamma * norm.scale)


def _lean_attention(attention: Any, tables: dict[tuple[int, int], Any]) -> None:
    import torch

    heads = attention.heads
    _absorb(attention.norm, attention.to_qkv, attention.to_gates)

    def forward(tokens: Any) -> Any:
        batch, length, _ = tokens.shape
        unit = _unit(_rows(tokens))
        query, key, value = attention.to_qkv(unit).view(batch, length, 3, heads, -1).unbind(2)
        turn = _turn(attention.rotary_embed, length, tables)
        query, key = (_turned(vectors, turn) for vectors in (query, key))
        mixed = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        ).transpose(1, 2)
        gates = attention.to_gates(unit).sigmoid_().view(batch, length, heads, 1)
        gated = mixed.mul_(gates).reshape(batch * length, -1)
        return attention.to_out(gated).view(batch, length, -1)

    attention.forward = forward


def _turn(embedding: Any, length: int, tables: dict[tuple[int, int], Any]) -> Any:
    """Complex numbers (length, 1, half) by which vectors at each position are turned."""
    import torch

    key = id(embedding), length
    if key not in tables:
        angles = torch.arange(length, dtype=torch.float32)[:, None] * embedding.freqs
        tables[key] = torch.polar(torch.ones_like(angles), angles)[:, None]
    return tables[key]


def _turned(vectors: Any, turn: Any) -> Any:
    """Vectors (batch, length, heads, size), neighbouring entries as complex numbers, turned; in place in float32."""
    import torch

    if vectors.dtype == torch.float32:
        torch.view_as_complex(vectors.unflatten(-1, (-1, 2))).mul_(turn)
        return vectors
    even, odd = vectors[..., ::2], vectors[..., 1::2]
    pairs = even * turn.real - odd * turn.imag, even * turn.imag + odd * turn.real
    return torch.stack(pairs, dim=-1).flatten(-2).to(vectors.dtype)


def _lean_feed_forward(feed_forward: Any) -> None:
    import torch

    norm, inner, _, _, outer, _ = feed_forward.net
    _absorb(norm, inner)

    def forward(tokens: Any) -> Any:
        hidden = torch.nn.functional.gelu(inner(_unit(_rows(tokens))))
        return outer(hidden).view(tokens.shape)

    feed_forward.forward = forward
