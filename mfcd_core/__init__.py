"""The shared vocabulary of MFCD and its on-disk contract: NumPy, numba and HDF5; no torch, no ffmpeg."""
