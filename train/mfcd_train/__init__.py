"""From a store to a trained and evaluated MFNet-3D: assemble, train, evaluate, report."""
