"""Encoders trained further on the labels of a task, beside the probes on their frozen features."""
