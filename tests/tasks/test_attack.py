"""The attack on probing images: its norm, its direction against finite differences, its control, and what it needs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tasks.attack import Aim, Budget, attacked, change_sha256, check_gradients, noisy
from tasks.common.errors import UserError
from tasks.models.preprocessing import Preprocessing
from tasks.models.target import TargetModel

CPU = torch.device("cpu")
SIDE = 8
STEPS = Preprocessing(SIDE, None, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.GELU(), nn.Conv2d(6, 4, 3, padding=1), nn.ReLU(inplace=True)
        )


def aim(layer: str = "3", unit: int = 1, model: nn.Module | None = None, batch_size: int = 64) -> Aim:
    return Aim(TargetModel(model or network(), STEPS, CPU, batch_size), "small", layer, "mean", unit)


def images(count: int, low: int = 0, high: int = 256) -> Tensor:
    draw = np.random.default_rng(count).integers(low, high, (count, 3, SIDE, SIDE))
    return torch.from_numpy(draw.astype(np.uint8))


def activation(at: Aim, shown: Tensor) -> Tensor:
    return at.target.read(shown, {at.layer: at.pooling})[at.layer].pooled[:, at.unit]


@pytest.mark.parametrize("levels", [1, 4])
def test_a_value_changes_by_at_most_the_budget_and_stays_a_byte(levels: int) -> None:
    shown, raised = images(20), torch.arange(20) % 2 == 0
    changed = attacked(aim(), shown, raised, Budget(levels))
    assert changed.dtype == torch.uint8
    apart = (changed.int() - shown.int()).abs()
    assert apart.max() == levels
    assert apart.float().mean() > 0.6 * levels


def test_activations_rise_and_fall_as_asked_and_more_than_by_noise() -> None:
    shown, raised = images(20, 40, 200), torch.arange(20) % 2 == 0
    changed = attacked(aim(), shown, raised)
    control = noisy(shown, changed, [f"i{number}" for number in range(20)], 0, 1)
    before, after, by_noise = (activation(aim(), some) for some in (shown, changed, control))
    assert (after > before).tolist() == raised.tolist()
    assert ((by_noise - before).abs() < (after - before).abs() / 2).all()


def test_one_step_goes_along_the_slope_that_finite_differences_find() -> None:
    model, shown = network(), images(1, 40, 200)
    changed = attacked(aim("2", model=model), shown, torch.ones(1, dtype=torch.bool), Budget(levels=1, steps=1))
    exact, mean, std = network().double(), torch.tensor(STEPS.mean), torch.tensor(STEPS.std)

    def response(levels: Tensor) -> float:
        with torch.no_grad():
            inputs = (levels / 255 - mean.double().view(3, 1, 1)) / std.double().view(3, 1, 1)
            return float(exact[:3](inputs[None])[0, 1].mean())

    slope = torch.zeros(3 * SIDE * SIDE, dtype=torch.float64)
    for place in range(len(slope)):
        apart = torch.zeros_like(slope)
        apart[place] = 0.01
        apart = apart.view(3, SIDE, SIDE)
        slope[place] = response(shown[0].double() + apart) - response(shown[0].double() - apart)
    found = (changed[0].int() - shown[0].int()).flatten()
    clear = slope.abs() > 1e-9
    assert clear.float().mean() > 0.95
    assert found[clear].equal(slope[clear].sign().int())


def test_with_masks_only_what_the_unit_sees_of_the_marked_pixels_changes() -> None:
    shown, raised = images(20, 40, 200), torch.arange(20) % 2 == 0
    masks = torch.zeros(20, 2 * SIDE, 2 * SIDE)
    masks[:, :, :6] = 1  # the first three columns of the map, and a quarter of the fourth by interpolation
    changed = attacked(aim(), shown, raised, masks=masks)
    moved = changed != shown
    # Two 3 x 3 convolutions see two columns more.
    assert not moved[..., 6:].any()
    assert moved[..., :4].float().mean() > 0.8
    # A mask of everything is the mean, and a negative weight asks for the opposite.
    whole = torch.full((20, 2 * SIDE, 2 * SIDE), 0.5)
    pooled = attacked(aim(), shown, raised)
    for masked in (attacked(aim(), shown, raised, masks=whole), attacked(aim(), shown, ~raised, masks=-whole)):
        assert (masked == pooled).float().mean() > 0.99


def test_an_image_changes_alike_in_any_batch_and_order() -> None:
    shown, raised = images(37), torch.arange(37) % 3 == 0
    whole = attacked(aim(), shown, raised)
    order = torch.randperm(37, generator=torch.Generator().manual_seed(1))
    assert attacked(aim(), shown[order], raised[order]).equal(whole[order])
    assert attacked(aim(), shown[5:6], raised[5:6]).equal(whole[5:6])
    assert attacked(aim(batch_size=128), shown, raised).equal(whole)
    masks = torch.rand(37, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    masked = attacked(aim(), shown, raised, masks=masks)
    assert attacked(aim(), shown[order], raised[order], masks=masks[order]).equal(masked[order])
    assert change_sha256(shown, whole) == change_sha256(shown, attacked(aim(), shown, raised))
    assert change_sha256(shown, whole) != change_sha256(shown, attacked(aim(unit=2), shown, raised))
    assert attacked(aim(), shown[:0], raised[:0]).shape == (0, 3, SIDE, SIDE)


def test_the_control_changes_every_value_by_as_much() -> None:
    # Black and white pixels can go one way only.
    shown = images(6).where(images(6) % 5 != 0, torch.tensor(0, dtype=torch.uint8))
    shown[:, :, 0] = 255
    changed = attacked(aim(), shown, torch.ones(6, dtype=torch.bool))
    ids = [f"i{number}" for number in range(6)]
    control = noisy(shown, changed, ids, 0, 1)
    size, own = (some.int() - shown.int() for some in (changed, control))
    assert own.abs().equal(size.abs())
    free = (size != 0) & (shown >= 4) & (shown <= 251)
    agrees = (own == size)[free].float()
    assert abs(agrees.mean() - 0.5) < 4 * 0.5 / len(agrees) ** 0.5
    assert noisy(shown[[4, 2]], changed[[4, 2]], ["i4", "i2"], 0, 1).equal(control[[4, 2]])
    assert not noisy(shown, changed, ids, 1, 1).equal(control)


def test_a_unit_without_slope_leaves_its_images_as_they_are() -> None:
    model = network()
    with torch.no_grad():
        model[2].bias[1] = -1000.0
    assert attacked(aim(model=model), images(3), torch.ones(3, dtype=torch.bool)).equal(images(3))


class Foreign(nn.Module):
    """A network that another library runs, as ONNX's would be."""

    def forward(self, batch: Tensor) -> Tensor:
        return torch.from_numpy(batch.detach().numpy().mean(axis=(2, 3)))


def test_a_network_without_gradients_is_refused_in_one_sentence() -> None:
    check_gradients(aim())
    later = nn.Sequential(Foreign(), nn.Linear(3, 4))
    for model, layer in ((nn.Sequential(Foreign()), "0"), (later, "1")):
        with pytest.raises(UserError, match=f"{layer} of small has none with respect to its images"):
            check_gradients(aim(layer, model=model))
