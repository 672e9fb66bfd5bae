"""torchvision's names, against torchvision; tests/test_export.py compares the features."""

import pytest
from torchvision.models.video import r3d_18

from fedvssl.formats.torchvision_names import to_torchvision
from fedvssl.models.r3d import R3D


def test_every_name_of_torchvision_but_the_classifier_is_made() -> None:
    names = [name for name in r3d_18().state_dict() if not name.startswith("fc.")]
    state = R3D().state_dict()
    renamed = to_torchvision(state)
    assert list(renamed) == names
    assert all(new is old for new, old in zip(renamed.values(), state.values(), strict=True))


@pytest.mark.parametrize(("depth", "width"), [(10, 64), (18, 32), (34, 64)])
def test_another_backbone_is_refused(depth: int, width: int) -> None:
    with pytest.raises(ValueError, match="torchvision has only an R3D of depth 18 and width 64"):
        to_torchvision(R3D(depth, width=width).state_dict())
