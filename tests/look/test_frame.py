import numpy as np
import pytest
import torch

from raddino.encoders.floors import Pixels
from raddino.encoders.preparation import Preparation
from raddino.look.frame import frame


class Prepared:
    def __init__(self, covered=None, **settings) -> None:
        self.preparation = Preparation(mean=(0.0,), std=(1.0,), **settings)
        if covered:
            self.covered = covered

    def preprocess(self, images) -> torch.Tensor:
        return self.preparation("prepared", images)


@pytest.mark.parametrize("shape", [(120, 120), (120, 183), (201, 120), (40, 90)])
@pytest.mark.parametrize(
    "settings",
    [
        {"resize": 60, "crop": 60, "crop_start": "down"},
        {"resize": 70, "crop": 56},
        {"resize": (60, 60), "crop": None},
        {"resize": 48, "crop": 64, "backend": "pil"},
        {"resize": 60, "crop": 60, "covered": (56, 56)},
    ],
    ids=str,
)
def test_a_bright_spot_lies_where_the_frame_says(shape, settings) -> None:
    encoder = Prepared(**settings)
    covered = getattr(encoder, "covered", encoder.preparation.size)
    image = np.zeros(shape, np.uint8)
    y, x = int(shape[0] * 0.45), int(shape[1] * 0.55)
    image[y - 3 : y + 4, x - 3 : x + 4] = 255
    seen = encoder.preprocess([image])[0, 0, : covered[0], : covered[1]].numpy()
    rows, columns = np.indices(seen.shape)
    weights = seen / seen.sum()
    where = frame(encoder, shape)
    found = (
        where.top + ((rows + 0.5) * weights).sum() / covered[0] * where.height,
        where.left + ((columns + 0.5) * weights).sum() / covered[1] * where.width,
    )
    np.testing.assert_allclose(found, (y + 0.5, x + 0.5), atol=1.5)


def test_an_encoder_that_squeezes_sees_all() -> None:
    where = frame(Pixels(), (50, 80))
    assert (where.top, where.left, where.height, where.width) == (0, 0, 50, 80)
