"""Views of an image as a pure function of (image, seed, sample position), on CPU or device with one meaning."""

from raddino.views.multicrop import Multicrop, ViewPlan, ViewsConfig

__all__ = ["Multicrop", "ViewPlan", "ViewsConfig"]
