"""Blocks of the user's: docs/blocks.md as it stands, and what happens where it is not heeded."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn import modules, tasks
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel

from compression.errors import ModelError, SpecError
from compression.graph import blocks
from compression.graph.blocks import register_block
from compression.models.checkpoint import write_checkpoint
from compression.models.detector import open_detector, read_checkpoint
from compression.pruning.planner import Planner
from compression.pruning.recovery import recover
from compression.pruning.surgery import apply_plan, kept_outputs, without_channels
from compression.spec import Target
from tests.compression.graph.test_costs import check, counted
from tests.compression.images import noise
from tests.compression.small_models import build, equal, outputs, randomised

DOCS = Path(__file__).parents[3] / "docs" / "blocks.md"
HALF = Target(gflops_kept=0.5, params_kept=None)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test makes known is unknown to the next one."""
    known = dict(blocks._REGISTRY)
    blocks.load_own_blocks.cache_clear()
    yield
    blocks._REGISTRY.clear()
    blocks._REGISTRY.update(known)
    blocks.load_own_blocks.cache_clear()
    for name in ("Squeeze", "Gate", "Shuffle"):
        for module in (modules, tasks):
            if hasattr(module, name):
                delattr(module, name)


def cut(model: DetectionModel, target: Target = HALF) -> tuple[DetectionModel, DetectionModel, Planner]:
    """A model after a cut, the same with the channels silenced, and what planned it."""
    planner = Planner(model, 64)
    plan = planner.plan(target)
    return apply_plan(model, planner.trace, plan), without_channels(model, planner.trace, plan), planner


def test_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = "\n\n".join(re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL))
    (tmp_path / "my_blocks.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(blocks.BLOCKS_VARIABLE, "my_blocks")
    rows = "\n".join(
        f"  - {row}"
        for row in (
            *("[-1, 1, Conv, [64, 3, 2]]", "[-1, 1, Conv, [64, 3, 2]]", "[-1, 1, Squeeze, [64, 32]]"),
            *("[-1, 1, Gate, [64, 48]]", "[-1, 1, Shuffle, []]", "[-1, 1, Conv, [64, 3, 2]]"),
        )
    )
    (tmp_path / "mine.yaml").write_text(f"nc: 1\nbackbone:\n{rows}\nhead:\n  - [[-1], 1, Detect, [nc]]\n")
    model = randomised(open_detector(str(tmp_path / "mine.yaml")).module)
    pruned, silenced, planner = cut(model)
    assert planner.trace.unknown == ()
    assert {group.locked for group in planner.trace.groups} == {None, "the outputs of the head"}
    for our, their in zip(outputs(pruned), outputs(silenced), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-3, atol=1e-4)
    assert pruned.model[3].hidden == pruned.model[3].cv2.conv.in_channels < 48
    pruned.args = {}
    write_checkpoint(pruned, tmp_path / "cut.pt", {})
    back, _ = read_checkpoint(tmp_path / "cut.pt")
    assert equal(outputs(back), outputs(pruned.half().float()))


class Turned(nn.Module):
    """Gives its channels in the opposite order."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1 = Conv(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.cv1(x).flip(1)


def with_block(block: nn.Module) -> DetectionModel:
    """A detector with that block in it."""
    model = build([-1, 1, "nn.Identity", []], [-1, 1, "Conv", [64, 3, 1]])
    for name, value in {"i": 2, "f": -1, "type": "own"}.items():
        setattr(block, name, value)
    model.model[2] = block
    return randomised(model)


def test_an_unknown_block_stays_and_is_counted() -> None:
    model = with_block(Turned())
    pruned, silenced, planner = cut(model)
    assert [block.type for block in planner.trace.unknown] == ["Turned"]
    assert equal(list(pruned.model[2].parameters()), list(model.model[2].parameters()))
    for our, their in zip(outputs(pruned), outputs(silenced), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-3, atol=1e-4)
    (row,) = (row for row in planner.plan(HALF).layers if row.name == "model.2")
    # 64 x 64 kernels at 16 x 16 positions, and a BatchNorm.
    assert (row.channels_before, row.gflops_after, row.params_after) == (64, 2 * 64 * 64 * 256 / 1e9, 64 * 64 + 128)
    assert row.locked == "block model.2 (Turned) is not known"


def test_an_operation_that_is_not_followed_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    register_block(Turned)
    _, _, planner = cut(with_block(Turned()))
    (turned,) = (group for group in planner.trace.groups if group.name == "model.2.cv1.conv")
    assert turned.locked == "the operation 'flip' is not followed"


def wrong(block: Any, x: torch.Tensor, channels: Any) -> torch.Tensor:
    """A stand-in that keeps the order, which the block does not."""
    out: torch.Tensor = block.cv1(x)
    return out


def test_a_wrong_stand_in_is_noticed() -> None:
    register_block(Turned, stand_in=wrong)
    with pytest.raises(ModelError, match=r"does not give what the original gives .* of Turned does not hold"):
        cut(with_block(Turned()))


class Split(nn.Module):
    """Holds a width."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2, self.width = Conv(64, 64), Conv(32, 64), 32

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.cv1(x).split((self.width, self.width), 1)
        return self.cv2(first + second)


def test_a_width_that_nobody_sets_is_noticed() -> None:
    register_block(Split)
    with pytest.raises(ModelError, match=r"The narrower model does not run .* of Split does not hold"):
        cut(with_block(Split()))


class Helped(nn.Module):
    """A second branch helps in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(64, 64), Conv(64, 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first: torch.Tensor = self.cv1(x)
        return first + self.cv2(x) if self.training else first


def both_branches(block: Any, x: torch.Tensor, channels: Any) -> torch.Tensor:
    out: torch.Tensor = block.cv1(x) + block.cv2(x)
    return out


def test_what_runs_in_training_alone_is_noticed() -> None:
    register_block(Helped)
    model = with_block(Helped())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ModelError, match=r"The narrower model does not run in training .* of Helped does not hold"):
        cut(model)
    register_block(Helped, stand_in=both_branches)
    pruned, _, _ = cut(model)
    assert pruned.train()(torch.rand(2, 3, 64, 64))
    assert equal(list(before.values()), list(model.state_dict().values()))


def test_a_module_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(blocks.BLOCKS_VARIABLE, "no_such_blocks")
    with pytest.raises(SpecError, match="The module 'no_such_blocks' that TRIMBOARD_BLOCKS names cannot be imported"):
        open_detector("yolo26n.yaml")


class Again(nn.Module):
    """Applies one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(64, 64), Conv(64, 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.cv2(self.cv2(self.cv1(x)))
        return inner


def test_a_convolution_that_runs_twice_counts_twice_and_is_not_refitted() -> None:
    register_block(Again)
    model = with_block(Again())
    pruned, _, planner = cut(model)
    check(planner.costs.costs(planner.costs.widths), model, 64)
    plan = planner.plan(HALF)
    assert plan.after.gflops == pytest.approx(counted(pruned, 64)[0], rel=1e-9)
    kept = kept_outputs(model, planner.trace, plan)
    recovered, n_images = recover(model, pruned, kept, noise(4).images, seed=0, device=torch.device("cpu"))
    assert n_images == 4
    weights, before = recovered.state_dict(), pruned.state_dict()
    assert torch.equal(weights["model.2.cv2.conv.weight"], before["model.2.cv2.conv.weight"])
    assert not torch.equal(weights["model.2.cv1.conv.weight"], before["model.2.cv1.conv.weight"])


def sharing(*, norm: bool) -> DetectionModel:
    """Three convolutions one after the other, of which the last two have the same weights, as the towers of a head."""
    rows = [[-1, 1, *(("Conv", [64, 3, 1]) if norm else ("nn.Conv2d", [64, 64, 3, 1, 1]))] for _ in range(3)]
    model = build(*rows, [-1, 1, "Conv", [64, 3, 1]])
    first, second = (model.model[at].conv if norm else model.model[at] for at in (3, 4))
    second.weight = first.weight
    return randomised(model)


@pytest.mark.parametrize("norm", [True, False])
def test_shared_weights_stay(norm: bool) -> None:
    model = sharing(norm=norm)
    pruned, silenced, planner = cut(model)
    check(planner.costs.costs(planner.costs.widths), model, 64)
    check(planner.plan(HALF).after, pruned, 64)
    for our, their in zip(outputs(pruned), outputs(silenced), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-3, atol=1e-4)
    last = ".conv" if norm else ""
    reason = f"model.4{last} and model.3{last} share their weights"
    rows = {row.name: (row.channels_after, row.locked) for row in planner.plan(HALF).layers}
    assert rows["model.2"] == rows["model.3"] == rows["model.4"] == (64, reason)
    assert rows["model.5"][1] is None
    kept = kept_outputs(model, planner.trace, planner.plan(HALF))
    recovered, _ = recover(model, pruned, kept, noise(2).images, seed=0, device=torch.device("cpu"))
    assert torch.equal(recovered.state_dict()[f"model.3{last}.weight"], pruned.state_dict()[f"model.3{last}.weight"])


def test_a_cut_that_does_not_run_is_said() -> None:
    model = build()
    planner = Planner(model, 64)
    plan = planner.plan(HALF)
    model.model[1].conv.register_forward_pre_hook(needs_all_channels)
    with pytest.raises(
        ModelError,
        match=r"^The narrower model does not run \(model\.1, Conv: RuntimeError: 64 wanted\): .* by --lock\.$",
    ):
        apply_plan(model, planner.trace, plan)


def needs_all_channels(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
    if inputs[0].shape[1] != 64:
        raise RuntimeError("64 wanted")


class Mixed(nn.Module):
    """Weights of no layer after a convolution, and one in a list that PyTorch does not look into."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.hidden = Conv(64, 64), [nn.Conv2d(64, 64, 1)]
        self.weight = nn.Parameter(torch.randn(64, 64) / 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.hidden[0].to(x.device)
        return torch.einsum("bchw,cd->bdhw", hidden(self.cv1(x)), self.weight)


class Thirds(nn.Module):
    """Maps that do not grow with the image along a line."""

    def __init__(self) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(64, 64, 3, 3), Conv(64, 64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.cv2(self.cv1(x)), size=x.shape[2:], mode="nearest")


@pytest.mark.parametrize("block_type", [Mixed, Thirds])
def test_all_that_a_block_computes_is_counted(block_type: type[nn.Module]) -> None:
    register_block(block_type)
    model = with_block(block_type())
    planner = Planner(model, (96, 224))
    plan = planner.plan(HALF)
    check(plan.before, model, (96, 224))
    check(plan.after, apply_plan(model, planner.trace, plan), (96, 224))
    rows = {row.name: row for row in plan.layers}
    assert len(rows) == len(plan.layers)
    # Both products, at 24 x 56 positions.
    assert ("model.2" in rows) == (block_type is Mixed)
    assert block_type is Thirds or rows["model.2"].gflops_before == 2 * 2 * 64 * 64 * 24 * 56 / 1e9
