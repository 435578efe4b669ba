//! Turns Serf membership into HAProxy backends.
//!
//! One line, each arrow a function of owned values: a `Snapshot` of the membership, through [`select`] to a
//! [`model::Model`], through [`guard`] and [`pace`] to decisions, through [`render`] to a text, through [`plan`] to
//! steps, which [`haproxy`] executes. [`reconcile`] is the loop around it.

mod account;
pub mod admission;
pub mod check;
pub mod config;
pub mod control;
mod encoding;
pub mod epoch;
pub mod freshness;
pub mod given;
pub mod guard;
pub mod haproxy;
pub mod here;
pub mod history;
pub mod model;
pub mod notify;
mod others;
mod owner;
pub mod pace;
pub mod pending;
pub mod plan;
pub mod preview;
pub mod probe;
pub mod reconcile;
pub mod render;
pub mod select;
pub mod state;
pub mod status;
