//! Keys of an encrypted cluster: what is to be done with them in, what the members say out.

use std::{borrow::Cow, collections::BTreeMap, fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
use serde::Serialize;
use serf_rpc::{BString, CallError, CallErrorKind, KeyReply};

use crate::{
    agent::AgentArgs,
    args::{Format, go_bool},
    connect::connect,
    exit::Failure,
    json::{base64_pair, document_of, line_of},
    output,
    terminal::{escape, lossy},
};

/// The agent waits for all members, the longer the more there are.
const PATIENCE: Duration = Duration::from_secs(90);

/// Change the encryption keys of the whole cluster
///
/// A new key is installed everywhere, then used, then the old one is removed. Keys are 16, 24 or 32 bytes in base64.
/// Exits 1 if a member does not do what it is told.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl keys --install $(serfctl keygen)
  serfctl keys --list --format json")]
pub(crate) struct KeysArgs {
    /// Add this key to the keyring of every member
    #[arg(long, value_name = "KEY")]
    install: Option<String>,

    /// Encrypt with this key, which every member must have
    #[arg(long = "use", value_name = "KEY")]
    use_key: Option<String>,

    /// Take this key, which must not be in use, from every member
    #[arg(long, value_name = "KEY")]
    remove: Option<String>,

    /// List the keys, and how many members have each
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true,
        value_parser = go_bool)]
    list: bool,

    /// How to print what the members say
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What to do.
enum Work<'a> {
    Install(&'a str),
    Use(&'a str),
    Remove(&'a str),
    List,
}

/// What the members say, in JSON.
#[derive(Serialize)]
struct Said<'a> {
    nodes: u64,
    responses: u64,
    errors: u64,
    keys: BTreeMap<Cow<'a, str>, u64>,
    messages: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    messages_base64: BTreeMap<String, String>,
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
/// Not one thing is asked for, no connection, or members that did not do it.
pub(crate) async fn run(agent: &AgentArgs, args: &KeysArgs) -> Result<Vec<u8>, Failure> {
    let work = args.work()?;
    let client = connect(agent)
        .await?
        .with_call_timeout(agent.timeout_or(PATIENCE));
    if args.format == Format::Text {
        output::line(&format!("==> {}...", work.begins()))?;
    }
    let answer = match work {
        Work::Install(key) => client.install_key(key).await,
        Work::Use(key) => client.use_key(key).await,
        Work::Remove(key) => client.remove_key(key).await,
        Work::List => client.list_keys().await,
    };
    let (reply, message) = match answer {
        Ok(reply) => (reply, None),
        Err(CallError {
            kind: CallErrorKind::Keys { message, reply, .. },
            ..
        }) => (*reply, Some(message)),
        Err(error) => return Err(error.into()),
    };
    let said = match args.format {
        Format::Text => text(&work, &reply, message.is_none()).into_bytes(),
        Format::Json => document_of(&Said::of(&reply)),
        Format::Ndjson => line_of(&Said::of(&reply)),
    };
    output::write(&said)?;
    message.map_or(Ok(Vec::new()), |message| Err(work.failed(&message)))
}

impl KeysArgs {
    /// The one thing that is asked for. An empty key is none, as for `serf`: a variable that is not set must not pass
    /// for a key that was removed.
    fn work(&self) -> Result<Work<'_>, Failure> {
        let [install, use_key, remove] = [&self.install, &self.use_key, &self.remove]
            .map(|key| key.as_deref().filter(|key| !key.is_empty()));
        match (install, use_key, remove, self.list) {
            (Some(key), None, None, false) => Ok(Work::Install(key)),
            (None, Some(key), None, false) => Ok(Work::Use(key)),
            (None, None, Some(key), false) => Ok(Work::Remove(key)),
            (None, None, None, true) => Ok(Work::List),
            _ => Err(Failure::Usage(
                "one of --install KEY, --use KEY, --remove KEY and --list is wanted",
            )),
        }
    }
}

impl Work<'_> {
    fn begins(&self) -> &'static str {
        match self {
            Self::Install(_) => "Installing key on all members",
            Self::Use(_) => "Changing primary key on all members",
            Self::Remove(_) => "Removing key on all members",
            Self::List => "Asking all members for installed keys",
        }
    }

    fn done(&self) -> &'static str {
        match self {
            Self::Install(_) => "==> Successfully installed key!\n",
            Self::Use(_) => "==> Successfully changed primary key!\n",
            Self::Remove(_) => "==> Successfully removed key!\n",
            Self::List => "==> Keys gathered, listing cluster keys...\n\n",
        }
    }

    fn failed(&self, message: &BString) -> Failure {
        let failed = match self {
            Self::Install(_) => "Error installing key",
            Self::Use(_) => "Error changing primary key",
            Self::Remove(_) => "Error removing key",
            Self::List => "Failed to gather member keys",
        };
        Failure::Keys {
            said: format!("{failed}: {}", escape(message)),
            listing: matches!(self, Self::List),
        }
    }
}

/// Who complains; else that it is done, and of a list the keys with how many of the members have them.
fn text(work: &Work<'_>, reply: &KeyReply, done: bool) -> String {
    if !done {
        let messages = reply.messages.iter();
        let rows = messages.map(|(name, message)| (escape(name), escape(message)));
        return format!("{}\n", aligned("failed:  ", rows.collect()));
    }
    let counts = reply.keys.iter();
    let rows = counts.map(|(key, count)| {
        let count = format!("[{count}/{}]", reply.nodes);
        (escape(key), Cow::Owned(count))
    });
    format!("{}{}", work.done(), aligned("", rows.collect()))
}

fn aligned(before: &str, rows: Vec<(Cow<'_, str>, Cow<'_, str>)>) -> String {
    let widths = rows.iter().map(|(left, _)| left.chars().count());
    let width = widths.max().unwrap_or_default();
    let mut out = String::new();
    for (left, right) in &rows {
        writeln!(out, "{before}{left:<width$}  {right}").unwrap_or_default();
    }
    out
}

impl<'a> Said<'a> {
    fn of(reply: &'a KeyReply) -> Self {
        let messages = reply.messages.iter();
        Self {
            nodes: reply.nodes,
            responses: reply.responses,
            errors: reply.errors,
            keys: reply
                .keys
                .iter()
                .map(|(key, count)| (lossy(key), *count))
                .collect(),
            messages: messages
                .clone()
                .map(|(name, message)| (lossy(name), lossy(message)))
                .collect(),
            messages_base64: messages
                .filter_map(|(name, message)| base64_pair(name, message))
                .collect(),
        }
    }
}
