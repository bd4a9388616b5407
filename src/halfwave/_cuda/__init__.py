"""The CUDA kernels, one module a family: what is launched over which grid. CuPy is imported late."""
