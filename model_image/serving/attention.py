"""Attention of a step in which several requests run together, on a CPU: each request's queries meet its own keys only.

transformers' own lets all queries meet all keys and masks away what is another request's: work and memory that grow
with the square of the number of requests.
"""

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.generation.continuous_batching import PagedAttentionCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward


def use_by_request() -> None:
    """Let models with the attention `sdpa` use `by_request`; whoever does not run requests together sees no change."""
    AttentionInterface.register("sdpa", by_request)


def by_request(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cache: PagedAttentionCache | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers.

    Args:
        query, key, value: (1, heads, tokens, width); the tokens of all requests one after the other.
        attention_mask: (1, 1, tokens, keys of all requests).
        cache: where the requests' earlier keys and values are; None in an ordinary forward pass.
        kwargs: with a cache, `cu_seq_lens_q` and `cu_seq_lens_k`, where each request's tokens and keys begin.

    Returns (1, tokens, heads, width).
    """
    if not isinstance(cache, PagedAttentionCache) or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, cache=cache, **kwargs)
    key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs)
    parts = []
    for tokens, keys in zip(_spans(kwargs["cu_seq_lens_q"]), _spans(kwargs["cu_seq_lens_k"]), strict=True):
        own = query[:, :, tokens], key[:, :, keys], value[:, :, keys]
        if tokens.stop - tokens.start == 1:
            parts.append(_last_token(*own, kwargs.get("scaling")))
        else:
            mask = None if attention_mask is None else attention_mask[:, :, tokens, keys]
            parts.append(sdpa_attention_forward(module, *own, mask, **kwargs)[0])
    return torch.cat(parts, dim=1), None


def _last_token(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """Of a single query, which sees all keys that there are: nothing to mask."""
    grouped = query.shape[1] != key.shape[1]
    return scaled_dot_product_attention(query, key, value, scale=scaling, enable_gqa=grouped).transpose(1, 2)


def _spans(edges: torch.Tensor) -> list[slice]:
    return [slice(start, end) for start, end in pairwise(edges.tolist())]
