//! What the tests of every crate share. A dev-dependency only.
#![forbid(unsafe_code)]
