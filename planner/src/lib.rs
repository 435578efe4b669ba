//! Decides what HAProxy is to run: members and evidence in, a text and steps out.
//!
//! Nothing here reads a file, a socket or a clock, and nothing waits: time is an argument. `clippy.toml` beside
//! `Cargo.toml` refuses what would.

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests may take any time as their start"
    )
)]

pub mod admission;
pub mod config;
pub mod debounce;
pub mod encoding;
pub mod guard;
pub mod migrate;
pub mod model;
pub mod pending;
pub mod pipeline;
pub mod plan;
pub mod render;
pub mod review;
pub mod route;
pub mod runtime;
pub mod select;
pub mod services;
pub mod stamp;
pub mod syntax;
