"""The lazy head against a plain log-softmax, its gradients, and its memory."""

import pytest
import torch

from objectives import TokenLogProbs
from objectives.vocabulary import products
from tests.helpers.rollouts import scored


@pytest.fixture(params=[2**24, 40])
def chunk(request, monkeypatch):
    """One chunk, and many of two rows."""
    monkeypatch.setattr(products, "ELEMENTS", request.param)


def plain(s):
    return torch.log_softmax(s.hidden @ s.weight.T, -1)


def test_everything_equals_log_softmax(chunk):
    s = scored()
    reference = plain(s)
    ids = torch.randint(17, (12, 3))
    assert torch.allclose(s.log_probs, reference.gather(1, s.targets[:, None])[:, 0])
    assert torch.allclose(s.at(ids), reference.gather(1, ids))
    assert torch.allclose(s.entropy, -(reference.exp() * reference).sum(-1))
    assert not s.entropy.requires_grad
    top = reference.topk(4)
    assert torch.equal(s.topk(4)[0], top.indices)
    assert torch.allclose(s.topk(4)[1], top.values)
    assert s.topk(99)[0].shape == (12, 17)
    other = scored(seed=3, grad=False)
    folded = s.fold(lambda a, b: (a.exp() * b).sum(-1), other)
    assert torch.allclose(folded, (reference.exp() * plain(other)).sum(-1))


def test_gradients_match_finite_differences(chunk):
    base = scored(n=4, v=9, d=3, weight_grad=True)
    ids = torch.randint(9, (4, 2))

    def check(f):
        assert torch.autograd.gradcheck(
            lambda h, w: f(TokenLogProbs(h, w, base.targets)), (base.hidden, base.weight), eps=1e-6, atol=1e-7
        )

    check(lambda s: s.log_probs)
    check(lambda s: s.at(ids))
    check(lambda s: s.topk(2)[1])
    check(lambda s: s.fold(lambda a: (a.exp() * a).sum(-1)))
    check(lambda s: s.select(torch.tensor([2, 0])).log_probs)


def test_a_selection_equals_scoring_it_alone():
    s = scored()
    keep = torch.tensor([7, 2, 3])
    early, late = s.select(keep), None
    assert s._known is None and torch.allclose(early.log_probs, plain(s)[keep, s.targets[keep]])
    _ = s.log_probs
    assert s.select(torch.arange(12)) is s
    late = s.select(keep)
    assert late._known is not None and torch.equal(late.index, keep)
    assert torch.allclose(late.log_probs, early.log_probs) and torch.allclose(late.topk(3)[1], early.topk(3)[1])


def test_a_constant_gives_no_gradient_to_a_shared_head():
    student = scored(weight_grad=True)
    teacher = TokenLogProbs(student.hidden.detach(), student.weight, student.targets)
    assert not teacher.log_probs.requires_grad and not teacher.topk(2)[1].requires_grad
    student.fold(lambda a, b: (a * b).sum(-1), teacher).sum().backward()
    assert student.weight.grad is not None


def test_reading_metrics_first_without_gradient_does_not_cut_the_graph():
    s = scored()
    with torch.no_grad():
        _ = s.log_probs, s.entropy
    s.log_probs.sum().backward()
    assert s.hidden.grad.abs().sum() > 0


def test_no_tokens():
    s = scored().select(torch.tensor([], dtype=torch.long))
    assert s.log_probs.shape == (0,) and s.topk(2)[1].shape == (0, 2) and s.fold(lambda a: a.sum(-1)).shape == (0,)
    s.log_probs.sum().backward()


@pytest.mark.parametrize("grad", [True, False])
def test_the_order_of_questions_does_not_matter(grad):
    ids = torch.randint(17, (12, 2))
    questions = {
        "log_probs": lambda s: s.log_probs,
        "entropy": lambda s: s.entropy,
        "at": lambda s: s.at(ids),
        "two": lambda s: s.topk(2)[1],
        "four": lambda s: s.topk(4)[1],
        "part": lambda s: s.select(ids[:, 0] % 12).topk(3)[1],
    }
    expected = {name: ask(scored(grad=grad)) for name, ask in questions.items()}
    for first in questions:
        s = scored(grad=grad)
        for name in (first, *questions):
            assert torch.allclose(questions[name](s), expected[name])
            if grad and name != "entropy":
                slopes = [slope(questions[name], x) for x in (scored(), s)]
                assert torch.allclose(*slopes)


def slope(question, s):
    return torch.autograd.grad(question(s).square().sum(), s.hidden, retain_graph=True)[0]


def test_extreme_logits_stay_finite():
    s = TokenLogProbs(torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True), torch.eye(3), torch.tensor([1]))
    s.log_probs.sum().backward()
    assert s.log_probs.item() == -2e4 and s.entropy.item() == 0 and s.hidden.grad.tolist() == [[-1.0, 1.0, 0.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_float32_log_probs(dtype):
    low = scored(n=64, v=301, d=32, dtype=dtype, scale=0.5)
    exact = TokenLogProbs(low.hidden.double(), low.weight.double(), low.targets)
    assert low.log_probs.dtype == torch.float32 and (low.log_probs <= 0).all()
    assert torch.allclose(low.log_probs.double(), exact.log_probs, atol=1e-4)
    low.log_probs.sum().backward()
    assert low.hidden.grad.dtype == dtype


@pytest.mark.parametrize("head_trains", [False, True])
def test_autocast_changes_nothing(head_trains):
    ids = torch.randint(17, (12, 3))
    found = []
    for enabled in (False, True):
        s = scored(dtype=torch.float32, weight_grad=head_trains)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = s.log_probs.sum() + s.at(ids).sum() + s.fold(lambda a: (a.exp() * a).sum(-1)).sum()
            loss.backward()
        found.append([loss, s.hidden.grad] + ([s.weight.grad] if head_trains else []))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def largest_tensor(work):
    """Elements of the largest tensor that any operation of `work` makes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for value in torch.utils._pytree.tree_leaves(out):
                if isinstance(value, torch.Tensor):
                    self.largest = max(self.largest, value.numel())
            return out

    with Watch() as watch:
        work()
    return watch.largest


@pytest.mark.parametrize("n", [64, 256])
@pytest.mark.parametrize("head_trains", [False, True])
def test_no_tensor_grows_with_tokens_times_vocabulary(n, head_trains, monkeypatch):
    monkeypatch.setattr(products, "ELEMENTS", 3000)
    student = scored(n=n, v=1000, d=4, dtype=torch.float32, weight_grad=head_trains)
    teacher = scored(n=n, v=1000, d=4, seed=2, dtype=torch.float32, grad=False)
    ids = torch.randint(1000, (n, 8))

    def work():
        loss = student.log_probs.sum() + student.topk(8)[1].sum() + student.at(ids).sum()
        loss = loss + student.fold(lambda a, b: (a.exp() * (a - b)).sum(-1), teacher).sum() + teacher.topk(8)[1].sum()
        loss.backward()

    assert largest_tensor(work) <= max(4000, n * 8)


def test_a_kernel_gives_the_log_probs_and_nothing_else():
    asked = []

    def kernel(hidden, weight, targets):
        asked.append(len(targets))
        return torch.log_softmax(hidden @ weight.T, -1).gather(1, targets[:, None])[:, 0]

    def build(n=12):
        base = scored(n)
        return TokenLogProbs(base.hidden, base.weight, base.targets, base.index, kernel)

    reference = plain(scored())
    mine = build()
    chosen = mine.select(torch.tensor([7, 2, 3]))
    assert torch.allclose(chosen.log_probs, reference[[7, 2, 3], mine.targets[[7, 2, 3]]]) and chosen.log_probs.grad_fn
    assert torch.allclose(mine.log_probs, reference.gather(1, mine.targets[:, None])[:, 0])
    assert mine.log_probs is mine.log_probs and asked == [3, 12] and mine._known is None
    assert torch.equal(mine.topk(4)[0], reference.topk(4).indices) and asked == [3, 12]
    # A pass over V has met the targets' logits: the kernel would be one more.
    late = build()
    _ = late.topk(4)
    assert torch.allclose(late.log_probs, mine.log_probs) and asked == [3, 12]
    assert not len(build(0).log_probs) and asked == [3, 12]
