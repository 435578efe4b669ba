//! What a backend's config says of its traffic, kept on each HAProxy.

mod answers;
mod faults;
mod pages;
mod sticky;
mod tls;

use std::net::SocketAddr;

use anyhow::Result;
use integration::http::{self, Answer};
use integration::scenario::Scenario;

/// One request, with these headers besides.
async fn get(front: SocketAddr, path: &str, headers: &str) -> Result<Answer> {
    http::ask(front, "GET", path, &format!("host: {front}\r\n{headers}")).await
}

/// How often HAProxy was reloaded.
async fn reloads(stage: &Scenario) -> Result<u64> {
    Ok(stage.controller.status().await?.counter("reloads"))
}

/// The value of a header of an answer, in small letters.
fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let mut lines = answer.head.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim())
}
