//! The official SDKs, unmodified, from their registries: each makes a tour of the real binary and asserts every field
//! that it reads. `cargo xtask test` installs them (`crates/xtask/src/sdk.rs`).
//!
//! So that a tour is known to notice what is missing, it is made again through a proxy that takes one field out of
//! the answers, each in its turn: then it must fail.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, unused_imports, reason = "the end-to-end tests use all of it")]
#[path = "../support/mod.rs"]
mod support;

mod dropping;
mod fields;
mod tours;

use tours::{Tour, makes_the_tour, notices_missing_fields};

macro_rules! tours {
    ($($name:ident: $tour:expr),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(makes_the_tour($tour)).await;
            }
        )+
    };
}

tours! {
    javascript: Tour::JAVASCRIPT,
    javascript_previous_major: Tour::JAVASCRIPT_PREVIOUS,
    python: Tour::PYTHON,
    python_previous_major: Tour::PYTHON_PREVIOUS,
    go: Tour::GO,
    rust_sdk: Tour::RUST,
    rust_sdk_previous_major: Tour::RUST_PREVIOUS,
}

#[tokio::test(flavor = "multi_thread")]
async fn javascript_notices_what_is_missing() {
    Box::pin(notices_missing_fields(Tour::JAVASCRIPT)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn python_notices_what_is_missing() {
    Box::pin(notices_missing_fields(Tour::PYTHON)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_notices_what_is_missing() {
    Box::pin(notices_missing_fields(Tour::GO)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_notices_what_is_missing() {
    Box::pin(notices_missing_fields(Tour::RUST)).await;
}
