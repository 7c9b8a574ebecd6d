"""The kernels of binary products: a library for ONNX Runtime's CPU provider and for PyTorch, and one for CUDA."""
