//! One small file per architecture: metadata -> DecoderSpec and tensor names.
