import numpy as np
import pytest
from PIL import Image

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


def weights(start, end, count, length, antialias):
    """What each of `length` pixels weighs in each of `count`, as triangles around their middles."""
    step = (end - start) / count
    reach = max(step, 1) if antialias else 1
    middles = start + (np.arange(count) + 0.5) * step
    found = np.clip(1 - np.abs(np.arange(length) + 0.5 - middles[:, None]) / reach, 0, None)
    return found / found.sum(1, keepdims=True)


def naive_crop(photo, box, height, width, antialias):
    (left, top), (right, bottom) = np.clip(np.reshape(box, (2, 2)), 0, photo.shape[1::-1])
    down = weights(top, bottom, height, photo.shape[0], antialias)
    across = weights(left, right, width, photo.shape[1], antialias)
    return np.einsum("yh,xw,hwc->yxc", down, across, photo.astype(np.float64))


BOXES = np.array(
    [
        [0, 0, 41, 37],
        [3.25, 4.5, 30.75, 9],
        [8, 8, 9, 9],
        [5.2, 5.1, 5.3, 30],
        [-9, -2.5, 12, 60],
        [40.5, 36.5, 99, 99],
    ],
    np.float32,
)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(12, 9), (50, 64), (1, 1)])
def test_crops_are_the_formula(height, width, antialias):
    bound = image.crops.bind(height=height, width=width, antialias=antialias)
    ours = bound.run_compiled(image=PHOTO, boxes=np.stack([BOXES, BOXES[::-1]])).outputs["crops"]
    for photo, boxes, found in zip(PHOTO, (BOXES, BOXES[::-1]), ours, strict=True):
        expected = np.stack([naive_crop(photo, box.astype(float), height, width, antialias) for box in boxes])
        assert np.abs(found - expected).max() < 0.5 + 1e-4


def test_crops_are_those_of_pillow():
    ours = image.crops.bind(height=16, width=11).run_compiled(image=PHOTO[:1], boxes=BOXES[None, :4]).outputs["crops"]
    picture = Image.fromarray(PHOTO[0])
    for box, found in zip(BOXES, ours[0], strict=False):
        theirs = picture.resize((11, 16), Image.Resampling.BILINEAR, box=tuple(box))
        assert np.abs(np.asarray(theirs).astype(int) - found).max() <= 1


def test_a_box_as_large_as_its_crop_is_copied():
    bound = image.crops.bind(height=5, width=7)
    ours = bound.run_compiled(image=PHOTO, boxes=np.full((2, 1, 4), [20, 30, 27, 35], np.float32)).outputs["crops"]
    assert (ours[:, 0] == PHOTO[:, 30:35, 20:27]).all()


def test_a_box_without_a_picture_is_zeros():
    sides = [[5, 5, 5, 9], [9, 9, 5, 5], [41, 0, 50, 9], [-9, 0, 0, 9], [0, np.nan, 9, 9], [0, 0, np.inf, 9]]
    sides += [[-np.inf, 0, 9, 9], [0, 0, 0, 0], [2, 2, 9, 9]]
    given = np.array([sides], np.float32)
    ours = image.crops.bind(height=3, width=3).run_compiled(image=PHOTO[:1] | 1, boxes=given).outputs["crops"][0]
    assert not ours[:-1].any()
    assert ours[-1].all()
    none = image.crops.bind(height=3, width=0).run_compiled(image=PHOTO[:, :0], boxes=np.zeros((2, 4, 4), np.float32))
    assert (none.outputs["crops"].shape, none.faults.tolist()) == ((2, 4, 3, 0, 3), [0, 0])
