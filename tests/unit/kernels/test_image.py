import numpy as np
import pytest

from servekit.kernels import image

PHOTO = np.random.default_rng(4).integers(0, 256, (2, 37, 41, 3), dtype=np.uint8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalised(photo, mean, std, channels):
    """As everybody writes it in NumPy."""
    return ((photo[..., channels].astype(np.float64) / 255 - mean) / std).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("channels", [(0, 1, 2), (2, 1, 0)], ids=["RGB", "BGR"])
def test_normalise_is_the_formula(channels):
    bound = image.normalise.bind(mean=MEAN, std=STD, channels=channels)
    ours = bound.run_compiled(image=PHOTO).outputs["pixels"]
    assert np.abs(ours - normalised(PHOTO, MEAN, STD, channels)).max() < 2e-6


def test_without_options_bytes_become_zero_to_one():
    ours = image.normalise.run_compiled(image=PHOTO).outputs["pixels"]
    assert (ours.min(), ours.max()) == (0, 1)


def test_grey_needs_no_more_than_its_channel():
    grey = PHOTO[..., :1]
    ours = image.normalise.bind(channels=[0]).run_compiled(image=grey).outputs["pixels"]
    np.testing.assert_allclose(ours, normalised(grey, 0, 1, (0,)), atol=2e-6)


def test_centre_crop_is_the_middle():
    bound = image.centre_crop.bind(crop_height=20, crop_width=11)
    ours = bound.run_compiled(image=PHOTO).outputs["cropped"]
    assert (ours == PHOTO[:, 8:28, 15:26]).all()
    whole = image.centre_crop.bind(crop_height=37, crop_width=41)
    assert (whole.run_compiled(image=PHOTO).outputs["cropped"] == PHOTO).all()


def test_an_image_that_is_too_small_is_refused():
    bound = image.centre_crop.bind(crop_height=20, crop_width=11)
    ran = bound.run_compiled(image=PHOTO[:, :19])
    assert [bound.messages[fault - 1] for fault in ran.faults] == ["the image is smaller than the crop"] * 2


def test_letterbox_puts_bars_around():
    bound = image.letterbox.bind(box_height=64, box_width=48, fill=7)
    expected = np.pad(PHOTO, ((0, 0), (13, 14), (3, 4), (0, 0)), constant_values=7)
    assert (bound.run_compiled(image=PHOTO).outputs["padded"] == expected).all()
    too_wide = np.zeros((1, 10, 49, 3), np.uint8)
    assert bound.run_compiled(image=too_wide).faults.tolist() == [1]
