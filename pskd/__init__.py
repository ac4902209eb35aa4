"""PSKD: prototype-based selective knowledge distillation for zero-shot sketch retrieval."""
