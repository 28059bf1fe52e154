"""The vision transformer: token-list forward, attention behind one function, weight formats."""

from raddino.vit.model import TokenFeatures, VisionTransformer, VitConfig

__all__ = ["TokenFeatures", "VisionTransformer", "VitConfig"]
