"""DCAM, the cross-modal attention of CMAG (IEEE TCSVT 2026, Eq. 16-20) over class tokens.

Reconstructed from the published formulas. A token attends to the tokens of the other modality, and
the result is added to it through a gate that starts closed. Used in training only; the backbone is
unchanged.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from torch import Tensor, nn

Scope = Literal["batch_tokens", "paired_tokens", "batch"]


class CrossAttention(nn.Module):
    """One attention head from tokens to those of the other modality, and a residual fusion.

    The weights are shared over tokens and directions.

    Args:
        dim: width of a token.
        reduction: of queries and keys.
        scope: keys of a token: all tokens of all images of the other modality; the tokens of one
            image of the same label; or the token with the same number of all images.
        gate: initial value of the learned factor of the residual.
        full_value: values as wide as a token, or as narrow as the keys.
    """

    def __init__(
        self,
        dim: int,
        reduction: int = 8,
        scope: Scope = "batch_tokens",
        gate: float = 0.0,
        full_value: bool = True,
    ) -> None:
        super().__init__()
        width = max(dim // reduction, 1)
        self.query = nn.Linear(dim, width, bias=False)
        self.key = nn.Linear(dim, width, bias=False)
        value_width = dim if full_value else width
        self.value = nn.Linear(dim, value_width, bias=False)
        self.mix = nn.Sequential(nn.Linear(dim + value_width, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.gate = nn.Parameter(torch.tensor(gate))
        self.scope = scope

    def forward(self, tokens_BND: Tensor, others_MND: Tensor, partner_B: Tensor) -> Tensor:
        """Enhanced tokens.

        Args:
            tokens_BND: (B, N, D) of one modality.
            others_MND: (M, N, D) of the other, M > 0.
            partner_B: (B,) image of the other modality with the same label, -1 for none; read by
                the scope "paired_tokens" alone, where an image without one is left unchanged.

        Returns:
            (B, N, D).
        """
        query, key, value = self.query(tokens_BND), self.key(others_MND), self.value(others_MND)
        scale = query.shape[-1] ** -0.5
        match self.scope:
            case "batch_tokens":
                read = (scale * query @ key.flatten(0, 1).T).softmax(-1) @ value.flatten(0, 1)
            case "paired_tokens":
                chosen = partner_B.clamp(min=0)
                read = (scale * query @ key[chosen].transpose(1, 2)).softmax(-1) @ value[chosen]
            case "batch":
                weights = torch.einsum("bnd,mnd->bnm", scale * query, key).softmax(-1)
                read = torch.einsum("bnm,mnd->bnd", weights, value)
            case _:
                assert_never(self.scope)
        added = self.gate * self.mix(torch.cat([tokens_BND, read], dim=2))
        if self.scope == "paired_tokens":
            added = added * (partner_B >= 0)[:, None, None]
        out: Tensor = tokens_BND + added
        return out


def partners_in_batch(labels: Tensor, others: Tensor) -> Tensor:
    """(B,) the first of the others with the same label, -1 for none."""
    same = labels[:, None] == others
    return torch.where(same.any(dim=1), same.float().argmax(dim=1), -1)
