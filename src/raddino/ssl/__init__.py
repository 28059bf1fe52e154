"""Self-distillation with masked image modelling: heads, losses, centering, and the task that joins them."""

from raddino.ssl.task import Network, SelfDistillation, SslConfig, Views

__all__ = ["Network", "SelfDistillation", "SslConfig", "Views"]
