//! Verdict to bytes; one file per format. Computes nothing.
