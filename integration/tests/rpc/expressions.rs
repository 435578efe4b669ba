//! Which regular expressions the library lets through, and what real agents say to each.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::{Serf, TestEnv, on_each_serf};
use serf_rpc::{CallError, CallErrorKind, MemberFilter};

/// Expressions that each agent judges.
const COUNT: usize = 3000;

on_each_serf! {
    the_agent_reads_what_passes_and_closes_over_what_is_refused => agree;
}

/// Pieces that a parser may stumble over, in every order.
const PIECES: [&str; 66] = [
    "a",
    "b",
    "-",
    "x",
    "0",
    "1",
    ",",
    ":",
    "<",
    ">",
    "!",
    "&&",
    " ",
    "ä",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "*",
    "+",
    "?",
    "|",
    ".",
    "^",
    "$",
    "\\",
    "{2}",
    "{,2}",
    "{0,0}",
    "{1,}",
    "{3,1}",
    "{1000}",
    "{40}",
    "{01}",
    "(?",
    "(?:",
    "(?i)",
    "(?-s:",
    "(?i-)",
    "(?P<n>",
    "(?P<",
    "(?=",
    "(?#",
    "[^",
    "[a-z]",
    "[z-a]",
    "[[:alpha:]]",
    "[:no:]",
    "\\d",
    "\\W",
    "\\b",
    "\\B",
    "\\C",
    "\\Z",
    "\\Q",
    "\\E",
    "\\p",
    "\\pL",
    "\\PX",
    "\\x",
    "\\x41",
    "\\x{",
    "\\12",
    "\\_",
];

/// The same expressions in every run.
fn expressions() -> impl Iterator<Item = String> {
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    std::iter::repeat_with(move || {
        (0..=random(6))
            .map(|_| PIECES[random(PIECES.len())])
            .collect()
    })
}

async fn agree(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let agent = serf.agent(lab, "a", 1).start().await?;
    let options = serf.connect_options(&agent);
    let mut client = options.connect().await?;
    let (mut passed, mut refused) = (0, 0);
    for expression in expressions().take(COUNT) {
        match client
            .members_filtered(&MemberFilter::new().name(&expression))
            .await
        {
            Ok(_) => passed += 1,
            // This would end the group that the expression is sent in: `a)|(b`.
            Err(CallError {
                kind: CallErrorKind::Filter { message, .. },
                ..
            }) if message == "unexpected )" => {}
            Err(CallError {
                kind: CallErrorKind::Filter { message, .. },
                ..
            }) => {
                refused += 1;
                let closed = closes_over(agent.rpc_addr(), serf.key(), &expression)?;
                ensure!(
                    closed,
                    "the agent reads {expression:?}, refused with {message:?}"
                );
            }
            // Which names there are depends on the version of Go.
            Err(CallError {
                kind: CallErrorKind::Lost { .. },
                ..
            }) if expression.contains(r"\p{") => {
                client = options.connect().await?;
            }
            Err(error) => return Err(error).with_context(|| format!("{expression:?}")),
        }
    }
    eprintln!("{passed} passed, {refused} refused");
    ensure!(passed > COUNT / 10 && refused > COUNT / 10);
    Ok(())
}

/// Whether the agent closes the connection over an expression, sent as the library would.
fn closes_over(agent: SocketAddr, key: Option<&str>, expression: &str) -> Result<bool> {
    let mut socket = TcpStream::connect(agent)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = [&b"\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01"[..]].concat();
    if let Some(key) = key {
        request.extend_from_slice(b"\x82\xa7Command\xa4auth\xa3Seq\x01\x81\xa7AuthKey");
        request.extend(string(key));
    }
    request.extend_from_slice(b"\x82\xa7Command\xb0members-filtered\xa3Seq\x02\x81\xa4Name");
    request.extend(string(&format!("(?:{expression})")));
    socket.write_all(&request)?;
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(true),
            read => seen.extend_from_slice(&buffer[..read]),
        }
        if seen.windows(7).any(|window| window == b"Members") {
            return Ok(false);
        }
    }
}

fn string(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0xda], &len[..], text.as_bytes()].concat()
}
