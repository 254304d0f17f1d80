"""Video captioning with spatio-temporal object graphs and knowledge distillation, in JAX."""
