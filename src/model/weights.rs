//! Streams a checkpoint's tensors, in file order, into a backend.
