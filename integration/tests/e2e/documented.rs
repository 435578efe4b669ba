//! What docs/operations.md shows, held against what is printed: a text and the name of a situation in, whether they agree out.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use integration::Controller;
use regex::Regex;

/// What `serf-haproxy COMMAND` prints for people, with its exit code; what is wrong stands before the rest.
pub(crate) async fn said(controller: &mut Controller, command: &str) -> Result<(String, i32)> {
    let output = controller.options().run(command, &[]).await?;
    let text = String::from_utf8([output.stderr, output.stdout].concat())?;
    let code = output.status.code().context("it was killed")?;
    Ok((text, code))
}

/// Makes sure that the document shows this text for a situation: the first block that is fenced below the heading with
/// these words and begins with this command. Times, process ids, stamps and places are those of the day. With a directory
/// in OPERATIONS_DIR the text is written there instead, for whoever changes the document.
pub(crate) fn documented(situation: &str, command: &str, text: &str) -> Result<()> {
    if let Some(dir) = std::env::var_os("OPERATIONS_DIR") {
        let path = PathBuf::from(dir).join(situation.replace(' ', "-"));
        return Ok(std::fs::write(path, format!("$ {command}\n{text}"))?);
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let document = std::fs::read_to_string(&path).unwrap_or_default();
    let told = format!("the text as it is printed now:\n\n    $ {command}\n{text}");
    let (_, rest) = document
        .split_once(&format!("{situation}\n"))
        .with_context(|| format!("no heading ends in {situation:?}; {told}"))?;
    let rest = rest.split("\n## ").next().unwrap_or(rest);
    let (_, block) = rest
        .split_once(&format!("```\n$ {command}\n"))
        .with_context(|| format!("no block of `{command}` below {situation:?}; {told}"))?;
    let (block, _) = block.split_once("\n```").context("a block without end")?;
    let (shown, printed) = (normal(block), normal(text));
    ensure!(
        shown == printed,
        "{situation}: docs/operations.md shows\n{shown}\nand printed is\n{printed}\n{told}"
    );
    Ok(())
}

/// A text without what differs from day to day and place to place.
pub(crate) fn normal(text: &str) -> String {
    let rules = [
        (r"127\.\d+\.\d+\.1\b", "10.0.0.1"),
        (r"127\.\d+\.\d+\.1(\d\d)\b", "10.0.0.1$1"),
        (r"/(?:[\w.-]+/)+([\w.-]+)", "$1"),
        (r"\.serf-haproxy-\w+", ".STAGED"),
        (r"\b(cfg|j2|toml)(?::\d+)+", "$1:LINE"),
        (r"\b\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"\b[0-9a-f]{16}\b", "STAMP"),
        (r"\b[0-9a-f]{8}\b", "DIGEST"),
        (r"\bworker \d+", "worker PID"),
        (r"version \d+\.\d+", "version X"),
        (r"\bHAProxy \d+\.\d+", "HAProxy X"),
        (r"\b\d+[smhd]\b", "AGE"),
        (r"\bnever\b", "AGE ago"),
        (r"\b\d+(?:\.\d+)? ms\b", "N ms"),
        (r"revision \d+", "revision N"),
        (r"(?m)^done .*$", "done"),
        // Said where it is late, as on a busy machine.
        (
            r"(?m)^(haproxy  running, .*?), (?:its checks|read) AGE ago.*$",
            "$1",
        ),
        (r"(?m)[ \t]+$", ""),
        (r"[ \t]+", " "),
    ];
    let mut text = text.trim_end().to_owned();
    for (pattern, with) in rules {
        if let Ok(pattern) = Regex::new(pattern) {
            text = pattern.replace_all(&text, with).into_owned();
        }
    }
    text
}
