import torch

from fedvssl.evaluation.pixels import MeanFrame


def test_each_cell_is_its_mean_over_time_and_pixels():
    clips = torch.randn(2, 3, 5, 24, 32)
    features = MeanFrame()(clips)
    assert features.shape == (2, MeanFrame.out_channels, 1, 1, 1) and MeanFrame.out_channels == 192
    cells = features.view(2, 3, 8, 8)
    torch.testing.assert_close(cells[1, 2, 3, 7], clips[1, 2, :, 9:12, 28:32].mean())


def test_of_a_picture_each_cell_is_its_mean():
    pictures = torch.randn(2, 3, 16, 32)
    features = MeanFrame()(pictures)
    assert features.shape == (2, MeanFrame.out_channels, 1, 1)
    torch.testing.assert_close(features.view(2, 3, 8, 8)[1, 2, 3, 7], pictures[1, 2, 6:8, 28:32].mean())


def test_motion_does_not_change_it():
    clips = torch.randn(1, 3, 6, 16, 16)
    torch.testing.assert_close(MeanFrame()(clips.flip(2)), MeanFrame()(clips))


def test_it_has_no_weights_and_its_text_names_the_grid():
    assert not MeanFrame().state_dict() and repr(MeanFrame()) == "MeanFrame(cells=8)"
