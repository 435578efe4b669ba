//! What changes the cluster: events, joins, leaves and tags.

use std::{ffi::OsString, os::unix::ffi::OsStrExt as _};

use clap::Args;
use clap_complete::ArgValueCandidates;
use serf_rpc::{TagChange, UserEvent};

use crate::{
    cli::{AgentArgs, go_bool},
    connect::connect,
    exit::Failure,
    names,
    terminal::escape,
};

/// Send a user event to the cluster
///
/// Example: serfctl event deploy v42
#[derive(Debug, Args)]
pub(crate) struct EventArgs {
    /// Whether of several events with this name, soon after one another, only the last need arrive
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "true", default_missing_value = "true", hide_possible_values = true, value_parser = go_bool)]
    coalesce: bool,

    /// Its name
    name: String,

    /// Its payload; with the name at most 512 bytes, as agents are set
    payload: Option<String>,
}

/// Let the agent join a cluster
///
/// Example: serfctl join 10.0.0.5 10.0.0.6:7946
#[derive(Debug, Args)]
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
/// Examples: serfctl force-leave web-3, serfctl force-leave --prune web-3
#[derive(Debug, Args)]
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
///
/// Example: serfctl tags --set role=backend --delete canary
#[derive(Debug, Args)]
pub(crate) struct TagsArgs {
    /// A tag to set; may be repeated. All tags together may have 512 bytes
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag, required_unless_present = "delete")]
    set: Vec<(String, String)>,

    /// A tag to take away; may be repeated
    #[arg(long, value_name = "KEY")]
    delete: Vec<String>,
}

fn tag(text: &str) -> Result<(String, String), &'static str> {
    let wanted = "KEY=VALUE is wanted, as in role=web";
    let (key, value) = text.split_once('=').ok_or(wanted)?;
    if key.is_empty() {
        return Err(wanted);
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Sends a user event.
///
/// # Errors
///
/// No connection, or the agent refuses it.
pub(crate) async fn event(agent: &AgentArgs, args: &EventArgs) -> Result<Vec<u8>, Failure> {
    let mut event = UserEvent::new(&args.name).coalesce(args.coalesce);
    if let Some(payload) = &args.payload {
        event = event.payload(payload);
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
    let client = connect(agent).await?;
    let addresses: Vec<&str> = args.addresses.iter().map(String::as_str).collect();
    let joined = if args.replay {
        client.join_and_replay(&addresses).await?
    } else {
        client.join(&addresses).await?
    };
    Ok(format!("Successfully joined cluster by contacting {joined} nodes.\n").into_bytes())
}

/// Lets the agent leave and end.
///
/// # Errors
///
/// No connection, or no word that it is done.
pub(crate) async fn leave(agent: &AgentArgs) -> Result<Vec<u8>, Failure> {
    connect(agent).await?.leave().await?;
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
    let client = connect(agent).await?;
    if args.prune {
        client.force_leave_and_prune(args.name.as_bytes()).await?;
    } else {
        client.force_leave(args.name.as_bytes()).await?;
    }
    Ok(Vec::new())
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
        .fold(change, |change, key| change.delete(key));
    connect(agent).await?.tags(&change).await?;
    Ok(b"Successfully updated agent tags\n".to_vec())
}
