"""Self-distillation with masked image modelling: heads, losses, centering, and the task that joins them."""

from raddino.ssl.task import SelfDistillation, SslConfig, Views

__all__ = ["SelfDistillation", "SslConfig", "Views"]
