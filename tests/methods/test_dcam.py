"""Cross-modal attention: who is asked in each reading, and a closed gate that changes nothing."""

import pytest
import torch

from visir.methods.cmag.dcam import CrossAttention, partners_in_batch


def tokens(count, seed):
    return torch.randn(count, 3, 16, generator=torch.Generator().manual_seed(seed))


SCOPES = ["batch_tokens", "paired_tokens", "batch"]


@pytest.fixture(params=SCOPES)
def attention(request):
    torch.manual_seed(0)
    return CrossAttention(16, reduction=4, scope=request.param)


def test_a_closed_gate_leaves_tokens_as_they_are_but_can_open(attention):
    own, other = tokens(5, 1), tokens(4, 2)
    out = attention(own, other, torch.tensor([0, 1, -1, 3, 3]))
    assert torch.equal(out, own)
    (out**2).sum().backward()
    assert attention.gate.grad.abs() > 0
    assert not attention.query.weight.grad.any()


def test_every_reading_asks_whom_it_says(attention):
    own, other, partner = tokens(5, 1), tokens(4, 2), torch.tensor([0, 1, -1, 3, 3])
    attention.gate.data.fill_(0.7)
    found = attention(own, other, partner)
    for b in range(5):
        for n in range(3):
            if attention.scope == "batch_tokens":
                asked = other.reshape(12, 16)
            elif attention.scope == "paired_tokens":
                asked = other[partner[b]]
            else:
                asked = other[:, n]
            keys, values = attention.key(asked), attention.value(asked)
            weights = (keys @ attention.query(own[b, n]) / 4**0.5).softmax(0)
            heard = weights @ values
            expected = own[b, n] + 0.7 * attention.mix(torch.cat([own[b, n], heard]))
            if attention.scope == "paired_tokens" and partner[b] < 0:
                expected = own[b, n]
            assert torch.allclose(found[b, n], expected, atol=1e-5)


def test_an_open_gate_trains_every_weight(attention):
    attention.gate.data.fill_(0.5)
    (attention(tokens(5, 1), tokens(4, 2), torch.tensor([0, 1, -1, 3, 3])) ** 2).sum().backward()
    for name, weight in attention.named_parameters():
        assert weight.grad is not None and weight.grad.any(), name


def test_a_narrow_value_is_as_wide_as_the_keys():
    narrow = CrossAttention(16, reduction=4, gate=0.5, full_value=False)
    assert narrow.value.out_features == narrow.key.out_features == 4
    assert narrow(tokens(5, 1), tokens(4, 2), torch.zeros(5).long()).shape == (5, 3, 16)


def test_partners_are_the_first_of_the_same_label():
    own, other = torch.tensor([4, 7, 9]), torch.tensor([9, 4, 4, 1])
    assert partners_in_batch(own, other).tolist() == [1, -1, 0]
