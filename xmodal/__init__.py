"""XModalViT: cross-modal fusion distillation for fine-grained sketch-based image retrieval."""
