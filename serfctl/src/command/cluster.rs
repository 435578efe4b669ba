//! What changes the cluster: events, joins, leaves and tags.

#[cfg(test)]
use std::ffi::OsStr;
use std::{ffi::OsString, os::unix::ffi::OsStrExt as _, time::Duration};

use bstr::BString;
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser as _},
};
use clap_complete::ArgValueCandidates;
use serf_rpc::{Client, TagChange, UserEvent};

use crate::{
    agent::AgentArgs, args::go_bool, connect::connect, exit::Failure, names, terminal::escape,
};

/// The agent waits so long for a silent address with `-profile=wan`.
const JOIN_PATIENCE: Duration = Duration::from_secs(35);
/// The agent waits for its word to spread, twice for 5 s as it is set, and 6 s before it forgets somebody.
const LEAVE_PATIENCE: Duration = Duration::from_secs(30);

/// Send a user event to the cluster
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl event deploy v42
  serfctl event --coalesce=false deploy v42")]
pub(crate) struct EventArgs {
    /// Whether of several events with this name, soon after one another, only the last need arrive
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", hide_possible_values = true, value_parser = go_bool)]
    coalesce: bool,

    /// Its name
    name: OsString,

    /// Its payload; with the name at most 512 bytes, as agents are set
    #[arg(allow_hyphen_values = true)]
    payload: Option<OsString>,
}

#[cfg(test)]
impl EventArgs {
    pub(crate) fn parts(&self) -> (&OsStr, Option<&OsStr>, bool) {
        (&self.name, self.payload.as_deref(), self.coalesce)
    }
}

/// Let the agent join a cluster
///
/// Exits 1 if none of the addresses answers.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl join 10.0.0.5 10.0.0.6:7946")]
pub(crate) struct JoinArgs {
    /// Take the user events that the cluster still knows too
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true,
        value_parser = go_bool)]
    replay: bool,

    /// Gossip addresses of members; one that answers is enough
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
}

/// Let a failed member count as left
///
/// A member that lives refutes it, unless it is the only other one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl force-leave web-3
  serfctl force-leave --prune web-3")]
pub(crate) struct ForceLeaveArgs {
    /// Forget it altogether
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true,
        value_parser = go_bool)]
    prune: bool,

    /// Its name
    #[arg(add = ArgValueCandidates::new(names::candidates))]
    name: OsString,
}

/// Change the tags of the agent
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl tags --set role=backend --delete canary")]
#[group(id = "change", required = true, multiple = true)]
pub(crate) struct TagsArgs {
    /// A tag to set; may be repeated. All tags together may have 512 bytes
    #[arg(long, value_name = "KEY=VALUE", value_parser = OsStringValueParser::new().try_map(tag))]
    set: Vec<(BString, BString)>,

    /// A tag to take away; may be repeated
    #[arg(long, value_name = "KEY")]
    delete: Vec<OsString>,
}

fn tag(text: OsString) -> Result<(BString, BString), &'static str> {
    let mut parts = text.as_bytes().splitn(2, |byte| *byte == b'=');
    match (parts.next(), parts.next()) {
        (Some(key), Some(value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("KEY=VALUE is wanted, as in role=web"),
    }
}

/// Sends a user event.
///
/// # Errors
///
/// No connection, or the agent refuses it.
pub(crate) async fn event(agent: &AgentArgs, args: &EventArgs) -> Result<Vec<u8>, Failure> {
    let mut event = UserEvent::new(args.name.as_bytes()).coalesce(args.coalesce);
    if let Some(payload) = &args.payload {
        event = event.payload(payload.as_bytes());
    }
    connect(agent).await?.event(&event).await?;
    let name = escape(args.name.as_bytes());
    let coalesce = args.coalesce;
    Ok(format!("Event '{name}' dispatched! Coalescing enabled: {coalesce}\n").into_bytes())
}

/// Joins.
///
/// # Errors
///
/// No connection, or nobody answers at any of the addresses.
pub(crate) async fn join(agent: &AgentArgs, args: &JoinArgs) -> Result<Vec<u8>, Failure> {
    let addresses = u32::try_from(args.addresses.len()).unwrap_or(u32::MAX);
    let patience = JOIN_PATIENCE.saturating_mul(addresses);
    let client = connect(agent)
        .await?
        .with_call_timeout(agent.timeout_or(patience));
    let join = client.join(&args.addresses);
    let joined = if args.replay {
        join.replay().await?
    } else {
        join.await?
    };
    Ok(format!("Successfully joined cluster by contacting {joined} nodes.\n").into_bytes())
}

/// Lets the agent leave and end.
///
/// # Errors
///
/// No connection, or no word that it is done.
pub(crate) async fn leave(agent: &AgentArgs) -> Result<Vec<u8>, Failure> {
    patient(agent).await?.leave().await?;
    Ok(b"Graceful leave complete\n".to_vec())
}

/// Lets a member count as left. As `serf`, it says nothing, whether there is such a member or not.
///
/// # Errors
///
/// No connection, or the agent refuses it.
pub(crate) async fn force_leave(
    agent: &AgentArgs,
    args: &ForceLeaveArgs,
) -> Result<Vec<u8>, Failure> {
    let client = patient(agent).await?;
    let force_leave = client.force_leave(args.name.as_bytes());
    if args.prune {
        force_leave.prune().await?;
    } else {
        force_leave.await?;
    }
    Ok(Vec::new())
}

async fn patient(agent: &AgentArgs) -> Result<Client, Failure> {
    let client = connect(agent).await?;
    Ok(client.with_call_timeout(agent.timeout_or(LEAVE_PATIENCE)))
}

/// Changes tags.
///
/// # Errors
///
/// No connection, or the agent refuses them.
pub(crate) async fn tags(agent: &AgentArgs, args: &TagsArgs) -> Result<Vec<u8>, Failure> {
    let set = args.set.iter();
    let change = set.fold(TagChange::new(), |change, (key, value)| {
        change.set(key, value)
    });
    let change = args
        .delete
        .iter()
        .fold(change, |change, key| change.delete(key.as_bytes()));
    connect(agent).await?.tags(&change).await?;
    Ok(b"Successfully updated agent tags\n".to_vec())
}
