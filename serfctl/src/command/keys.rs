//! Keys of an encrypted cluster: what is to be done with them in, what the members say out.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serf_rpc::{CallError, KeyReply};

use crate::{cli::AgentArgs, connect::connect, exit::Failure, output, terminal::escape};

/// Change the encryption keys of the whole cluster
///
/// A new key is installed everywhere, then used, then the old one is removed. Keys are 16, 24 or 32 bytes in base64;
/// `serfctl keygen` prints one. Example: serfctl keys --list
#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = false)]
pub(crate) struct KeysArgs {
    /// Add this key to the keyring of every member
    #[arg(long, value_name = "KEY", group = "what")]
    install: Option<String>,

    /// Encrypt with this key, which every member must have
    #[arg(long = "use", value_name = "KEY", group = "what")]
    use_key: Option<String>,

    /// Take this key, which must not be in use, from every member
    #[arg(long, value_name = "KEY", group = "what")]
    remove: Option<String>,

    /// List the keys, and how many members have each
    #[arg(long, group = "what")]
    list: bool,
}

/// The length of a new key.
const KEY_BYTES: usize = 32;

/// A new key.
///
/// # Errors
///
/// The system has no random numbers.
pub(crate) fn generate() -> Result<Vec<u8>, Failure> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| Failure::Runtime(error.into()))?;
    Ok(format!("{}\n", STANDARD.encode(key)).into_bytes())
}

/// Does what is asked for.
///
/// # Errors
///
/// No connection, or members that did not do it.
pub(crate) async fn run(agent: &AgentArgs, args: &KeysArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    if let Some(key) = &args.install {
        output::line("==> Installing key on all members...")?;
        done(
            client.install_key(key).await,
            "installed key",
            "Error installing key",
        )
    } else if let Some(key) = &args.use_key {
        output::line("==> Changing primary key on all members...")?;
        let answer = client.use_key(key).await;
        done(answer, "changed primary key", "Error changing primary key")
    } else if let Some(key) = &args.remove {
        output::line("==> Removing key on all members...")?;
        done(
            client.remove_key(key).await,
            "removed key",
            "Error removing key",
        )
    } else {
        output::line("==> Asking all members for installed keys...")?;
        match client.list_keys().await {
            Ok(reply) => Ok(listed(&reply).into_bytes()),
            Err(error) => Err(refused(error, "Failed to gather member keys")?),
        }
    }
}

fn done(answer: Result<KeyReply, CallError>, done: &str, failed: &str) -> Result<Vec<u8>, Failure> {
    match answer {
        Ok(_) => Ok(format!("==> Successfully {done}!\n").into_bytes()),
        Err(error) => Err(refused(error, failed)?),
    }
}

/// Prints what the members have against it, and makes a failure of the rest.
///
/// # Errors
///
/// Only of stdout.
fn refused(error: CallError, failed: &str) -> Result<Failure, Failure> {
    let (complaints, message) = match error {
        CallError::Keys { message, reply, .. } => (complaints(&reply), message),
        CallError::Agent { message, .. } => (String::new(), message),
        error => return Ok(error.into()),
    };
    output::line(&complaints)?;
    Ok(Failure::Keys(format!("{failed}: {}", escape(&message))))
}

/// Keys with how many of the members have them, aligned.
fn listed(reply: &KeyReply) -> String {
    let mut out = String::from("==> Keys gathered, listing cluster keys...\n\n");
    let width = reply
        .keys
        .keys()
        .map(|key| escape(key).chars().count())
        .max();
    for (key, count) in &reply.keys {
        let (key, width) = (escape(key), width.unwrap_or_default());
        writeln!(out, "{key:<width$}  [{count}/{}]", reply.nodes).unwrap_or_default();
    }
    out
}

fn complaints(reply: &KeyReply) -> String {
    let width = reply
        .messages
        .keys()
        .map(|name| escape(name).chars().count())
        .max();
    let mut out = String::new();
    for (name, message) in &reply.messages {
        let (name, width) = (escape(name), width.unwrap_or_default());
        writeln!(out, "failed:  {name:<width$}  {}", escape(message)).unwrap_or_default();
    }
    out
}
