"""The chunked loss is the plain one: same value, same gradients, no whole logits."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.closeness import assert_close
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from pico_schema import ModelSpec
from pico_train.config.training import TrainingConfig
from pico_train.model.decoder import Decoder
from pico_train.training import loss as losses
from pico_train.training.loss import head_loss, next_token_loss

SPEC = ModelSpec(vocab_size=301, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=64, max_seq_len=64)

ROUNDING = 64
"""Epsilons of the largest number that sums of some hundred terms, in another order, may be apart."""
EPS64 = torch.finfo(torch.float64).eps


def decoder(dtype: torch.dtype = torch.float32) -> Decoder:
    model = Decoder(SPEC)
    model.init_weights(0)
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    return model.to(dtype)


def rows(count: int = 3, length: int = 21) -> torch.Tensor:
    return torch.randint(0, SPEC.vocab_size, (count, length), generator=torch.Generator().manual_seed(0))


def plain(model: Decoder, ids: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    return cross_entropy(model(ids[:, :-1]).flatten(0, 1).float(), ids[:, 1:].flatten(), reduction=reduction)


def gradients(model: Decoder, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("chunk", [0, 1, 7, 20, 60, 1000])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_value_and_gradients_are_the_plain_ones(chunk, reduction):
    model, ids = decoder(), rows()
    expected, loss = plain(model, ids, reduction), next_token_loss(model, ids, chunk=chunk, reduction=reduction)
    assert_close(loss, expected, factor=ROUNDING)
    assert_close(gradients(model, loss), gradients(model, expected), factor=ROUNDING)


@given(
    n=st.integers(1, 9), v=st.integers(2, 30), chunk=st.integers(0, 12), size=st.floats(0, 50), seed=st.integers(0, 99)
)
def test_the_gradient_in_float64_is_exact(n, v, chunk, size, seed):
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, n, 5, generator=g, dtype=torch.float64).requires_grad_()
    head = (size * torch.randn(v, 5, generator=g, dtype=torch.float64)).requires_grad_()
    targets = torch.randint(0, v, (1, n), generator=g)
    expected = cross_entropy((hidden @ head.T)[0], targets[0], reduction="sum")
    wanted = torch.autograd.grad(expected, (hidden, head))
    loss = head_loss(hidden, head, targets_BT=targets, chunk=chunk)
    found = torch.autograd.grad(3 * loss, (hidden, head))
    # The loss is a difference of logits, so its rounding is that of the largest of them.
    logits = (hidden @ head.T).detach().abs().max()
    assert abs(loss.item() - expected.item()) <= n * ROUNDING * EPS64 * max(1.0, logits.item())
    # A gradient is a sum over logits' exponentials, each wrong by the rounding of its exponent.
    for ours, theirs, other in zip(found, wanted, (head, hidden), strict=True):
        allowed = ROUNDING * EPS64 * max(1.0, logits.item()) * n * other.detach().abs().max().item()
        assert (ours - 3 * theirs).abs().max() <= 3 * allowed


def test_gradients_add_up_over_micro_batches():
    model, ids = decoder(), rows(4)
    wanted = gradients(model, plain(model, ids))
    model.zero_grad()
    for part in ids.split(2):
        (next_token_loss(model, part, chunk=8, reduction="sum") / (4 * 20)).backward()
    assert_close({name: parameter.grad for name, parameter in model.named_parameters()}, wanted, factor=ROUNDING)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_is_as_near_to_float32_as_the_plain_loss(dtype):
    model, ids = decoder(), rows()
    exact_loss = plain(model, ids)
    exact = gradients(model, exact_loss)
    with torch.autocast("cpu", dtype):
        expected, loss = plain(model, ids), next_token_loss(model, ids, chunk=16)
    assert loss.dtype == torch.float32
    assert abs(loss.item() - exact_loss.item()) <= 2 * abs(expected.item() - exact_loss.item()) + 1e-3
    wanted, found = gradients(model, expected), gradients(model, loss)
    for name, gradient in exact.items():
        allowed = 1.5 * (wanted[name] - gradient).norm() + 1e-3 * gradient.norm()
        assert (found[name] - gradient).norm() <= allowed, name
        assert found[name].dtype == torch.float32


def test_rare_tokens_have_a_gradient_in_float16():
    # A probability of 1/50,304 lies below float16's normal numbers; unscaled its gradient would lose its precision.
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 4, 8, generator=g)
    head = (1e-3 * torch.randn(50_304, 8, generator=g)).requires_grad_()
    targets = torch.zeros(1, 4, dtype=torch.long)
    wanted = torch.autograd.grad(head_loss(hidden, head, targets_BT=targets, chunk=2), head)[0]
    with torch.autocast("cpu", torch.float16):
        found = torch.autograd.grad(head_loss(hidden, head, targets_BT=targets, chunk=2), head)[0]
    # Each entry is rounded a few times to float16: the norm of the differences is below two epsilons.
    assert (found[1:] - wanted[1:]).norm() / wanted[1:].norm() < 2 * torch.finfo(torch.float16).eps


@pytest.mark.parametrize(("target", "loss"), [(0, 0.0), (1, 1000.0), (2, 2000.0)])
def test_logits_whose_exponentials_no_number_holds_have_a_loss_and_a_gradient(target, loss):
    head = torch.tensor([[1000.0], [0.0], [-1000.0]], requires_grad=True)
    found = head_loss(torch.ones(1, 1, 1), head, targets_BT=torch.tensor([[target]]), chunk=1)
    (gradient,) = torch.autograd.grad(found, head)
    assert found.item() == loss
    assert gradient.flatten().tolist() == [1.0 - (target == 0), -float(target == 1), -float(target == 2)]


def head_gradient_in_float16(hidden, vocab_size):
    """Where all logits are zero, so that every token has the same probability, and all targets are token 0."""
    head = torch.zeros(vocab_size, hidden.shape[2], requires_grad=True)
    targets = torch.zeros(hidden.shape[:2], dtype=torch.long)
    with torch.autocast("cpu", torch.float16):
        return torch.autograd.grad(head_loss(hidden, head, targets_BT=targets, chunk=0), head)[0]


def test_a_probability_below_float16s_normal_numbers_is_rounded_as_a_normal_one():
    """1/50,304 itself would be 334 of float16's smallest steps, which is 0.14 % too much."""
    found = head_gradient_in_float16(torch.ones(1, 1, 1), 50_304)[1:]
    assert (found * 50_304 - 1).abs().max() <= torch.finfo(torch.float16).eps / 2


def test_the_scale_of_float16_is_exact_and_leaves_room_for_a_sum_of_eight_thousand():
    assert head_gradient_in_float16(torch.ones(1, 1, 1), 3)[1].item() == torch.tensor(1 / 3).half().item()
    found = head_gradient_in_float16(torch.ones(1, 8100, 1), 50)[0].item()
    assert_close(found, 8100 * (1 / 50 - 1), factor=2, dtype=torch.float16)


def test_a_token_that_every_position_predicts_does_not_overflow_float16():
    hidden = torch.full((1, 512, 4), 3.0)
    head = torch.zeros(50, 4, requires_grad=True)
    targets = torch.zeros(1, 512, dtype=torch.long)
    with torch.autocast("cpu", torch.float16):
        (found,) = torch.autograd.grad(head_loss(hidden, head, targets_BT=targets, chunk=512), head)
    assert_close(found[0], torch.full((4,), 512 * 3.0 * (1 / 50 - 1)), factor=2, dtype=torch.float16)


def test_weights_in_bfloat16_get_gradients_in_bfloat16():
    model, ids = decoder(torch.bfloat16), rows()
    wanted = gradients(model, plain(model, ids))
    for name, gradient in gradients(model, next_token_loss(model, ids, chunk=16)).items():
        assert gradient.dtype == torch.bfloat16
        assert (gradient - wanted[name]).float().norm() <= 0.02 * wanted[name].float().norm(), name


def test_without_a_gradient_nothing_is_kept():
    model, ids = decoder(), rows()
    with torch.no_grad():
        loss = next_token_loss(model, ids, chunk=16)
    assert not loss.requires_grad
    assert_close(loss, plain(model, ids), factor=ROUNDING)


def test_the_loss_of_fresh_weights_is_the_logarithm_of_the_vocabulary():
    model = Decoder(SPEC)
    model.init_weights(0)
    assert next_token_loss(model, rows(8, 65)).item() == pytest.approx(math.log(SPEC.vocab_size), abs=0.05)


class Made(TorchDispatchMode):
    """Keeps every tensor that is made, so that no memory is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[torch.Tensor] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.tensors += [out] if isinstance(out, torch.Tensor) else []
        return out

    @property
    def largest(self) -> int:
        return max(tensor.numel() for tensor in self.tensors)

    def places(self, size: int) -> int:
        """How many places in memory hold tensors of this size."""
        return len({tensor.untyped_storage().data_ptr() for tensor in self.tensors if tensor.numel() == size})


def test_logits_never_exist_for_more_than_a_chunk():
    hidden = torch.randn(1, 512, 4, requires_grad=True)
    head = torch.randn(1000, 4, requires_grad=True)
    with Made() as made:
        head_loss(hidden, head, targets_BT=torch.zeros(1, 512, dtype=torch.long), chunk=32).backward()
    assert made.largest == 32 * 1000


def test_without_a_setting_a_chunk_is_512_positions():
    model, ids = decoder(), rows(1, 601)
    with Made() as made, torch.no_grad():
        next_token_loss(model, ids[:, :601])
    assert made.places(512 * SPEC.vocab_size) and made.largest == 512 * SPEC.vocab_size


@pytest.mark.parametrize(("frozen", "places"), [("nothing", 3), ("hidden", 3), ("head", 1)])
def test_the_heads_gradient_takes_a_sum_and_one_buffer_however_many_chunks_there_are(frozen, places):
    """Fresh memory of that size costs as much as a pass over it. The third place is the head's own."""
    hidden = torch.randn(1, 24, 5, requires_grad=frozen != "hidden")
    head = torch.randn(100, 5, requires_grad=frozen != "head")
    with Made() as made:
        head_loss(hidden, head, targets_BT=torch.zeros(1, 24, dtype=torch.long), chunk=4)
    assert made.places(100 * 5) == places


@pytest.mark.parametrize("numbers", [100, SPEC.vocab_size, 3 * SPEC.vocab_size, 7 * SPEC.vocab_size + 5])
def test_blocks_of_a_chunk_change_nothing(monkeypatch, numbers):
    """On a CPU a chunk is worked on a few rows at a time, at least one: small vocabularies fit whole, unless forced."""
    model, ids = decoder(), rows()
    wanted, loss = gradients(model, plain(model, ids)), plain(model, ids)
    monkeypatch.setattr("pico_train.training.loss._CPU_BLOCK", numbers)
    found = next_token_loss(model, ids, chunk=16)
    assert_close(found, loss, factor=ROUNDING)
    assert_close(gradients(model, found), wanted, factor=ROUNDING)


@pytest.mark.parametrize("chunk", [0, 1, 7, 60])
def test_the_loss_of_each_token_is_told(chunk):
    model, ids = decoder(), rows()
    each = torch.full((3, 20), float("nan"))
    total = next_token_loss(model, ids, chunk=chunk, reduction="sum", each_BT=each)
    expected = cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:], reduction="none")
    assert_close(each, expected, factor=ROUNDING)
    assert_close(each.sum(), total, factor=ROUNDING)


@pytest.mark.parametrize("frozen", ["hidden", "head"])
def test_what_needs_no_gradient_gets_none_and_the_other_stays_right(frozen):
    g = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(1, 9, 5, generator=g), torch.randn(11, 5, generator=g)
    targets = torch.randint(0, 11, (1, 9), generator=g)
    learned = head if frozen == "hidden" else hidden
    learned.requires_grad_()
    wanted = torch.autograd.grad(cross_entropy((hidden @ head.T)[0], targets[0], reduction="sum"), learned)
    found = torch.autograd.grad(head_loss(hidden, head, targets_BT=targets, chunk=4), learned)
    assert_close(found[0], wanted[0], factor=ROUNDING)


def test_the_mean_is_over_the_predicted_tokens():
    model, ids = decoder(), rows(2, 11)
    mean, total = (next_token_loss(model, ids, reduction=kind).item() for kind in ("mean", "sum"))
    assert_close(total, mean * 2 * 10, factor=4, dtype=torch.float32)


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        self.count += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
        return func(*args, **(kwargs or {}))


def test_where_no_gradient_is_asked_for_none_is_computed() -> None:
    """A chunk is one product then, that of its logits: evaluation paid for the gradient of the head before."""
    model, ids = decoder(), rows(3, 17)
    head, hidden = model.lm_head.weight, torch.randn(3, 16, SPEC.d_model)
    assert head.requires_grad
    found = []
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), Products() as products:
            each = torch.empty(3, 16)
            total = head_loss(hidden, head, targets_BT=ids[:, 1:], chunk=8, each_BT=each)
        found.append((products.count, total.requires_grad, total.detach(), each))
    (with_it, _, total, each), (without, needs, other, others) = found
    assert (with_it, without, needs) == (2 * 6, 6, False)
    assert torch.equal(total, other) and torch.equal(each, others)


@given(n=st.integers(1, 9), v=st.integers(2, 30), size=st.floats(0, 800), seed=st.integers(0, 99))
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1.0), (torch.float64, 1.0), (torch.float16, 8.0)])
def test_what_a_gpu_compiles_is_what_a_cpu_does_step_by_step(dtype, scale, n, v, size, seed):
    """As one expression; what a compiler makes of it on a GPU is compared there (`test_cuda`)."""
    g = torch.Generator().manual_seed(seed)
    logits = (size * torch.randn(n, v, generator=g)).clamp(-60_000, 60_000).to(dtype)
    targets, wide = torch.randint(0, v, (n,), generator=g), torch.promote_types(dtype, torch.float32)
    expected = cross_entropy(logits.double(), targets, reduction="none")
    wanted = logits.double().softmax(1) - torch.nn.functional.one_hot(targets, v)
    for asked in (scale, None):
        given_logits = logits.clone()
        found = losses._softmax_gradient_at_once_(given_logits, targets, asked, wide)
        # A loss is a difference of logits.
        allowed = ROUNDING * torch.finfo(wide).eps * max(1.0, logits.double().abs().max().item())
        assert (found - expected).abs().max() <= allowed
        if asked is None:
            assert torch.equal(given_logits, logits)
        else:
            assert (given_logits.double() / scale - wanted).abs().max() <= torch.finfo(dtype).eps + allowed
    by_steps = losses._softmax_gradient_(logits.clone(), targets, None, wide)
    assert (by_steps - found).abs().max() <= allowed


def test_a_chunk_is_what_the_device_and_the_precision_bear():
    def at_once(device, **changes):
        return TrainingConfig(**changes).logits_at_once(100_000, device=device)

    assert (at_once("cpu"), at_once("cuda"), at_once("mps")) == (512, 4096, 4096)
    assert at_once("cuda", precision="16-mixed") == 512, "a sum of float16's scaled gradients would overflow"
    assert (at_once("cuda", loss_chunk=0), at_once("cpu", loss_chunk=0), at_once("cuda", loss_chunk=7)) == (
        100_000,
        100_000,
        7,
    )
