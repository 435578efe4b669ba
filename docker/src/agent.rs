//! This host's agent: a config in, its member's tags read and written.

use std::net::IpAddr;
use std::time::Duration;

use serf_rpc::{
    BStr, CallError, ConnectOptions, LinkOptions, ManagedClient, Member, MemberFilter, TagChange,
};

use crate::config;
use crate::tags::Tags;

/// How long an agent may take to connect and shake hands, and for each call: it is near.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the agent says of its own member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// The address that others have of it.
    pub addr: Option<IpAddr>,
    /// All of its tags.
    pub tags: Tags,
}

/// Why the agent did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It did not answer, or refused.
    #[error("the agent does not {doing}")]
    Call {
        /// What it was asked for.
        doing: &'static str,
        /// Why.
        #[source]
        source: CallError,
    },
    /// It does not list itself.
    #[error("the agent does not list its own member")]
    Unlisted,
}

/// A client that comes back whenever the agent does.
pub fn client(settings: &config::Serf) -> ManagedClient {
    let options = ConnectOptions::new(settings.addr.clone()).connect_timeout(PATIENCE);
    let options = match &settings.auth_key_file {
        Some(path) => options.auth_key_file(path),
        None => options,
    };
    ManagedClient::spawn(LinkOptions::new([options]).keep_trying()).with_call_timeout(PATIENCE)
}

/// What the agent says of itself.
///
/// # Errors
/// [`AgentError`].
pub async fn own(client: &ManagedClient) -> Result<Own, AgentError> {
    let stats = client.stats().await.map_err(|source| AgentError::Call {
        doing: "say its name",
        source,
    })?;
    let name = stats.agent_name().ok_or(AgentError::Unlisted)?;
    let filter = MemberFilter::new();
    // A name that is no text cannot be asked for.
    let filter = match str::from_utf8(name) {
        Ok(name) => filter.name_is(name),
        Err(_) => filter,
    };
    let members = client.members_filtered(&filter).await;
    let members = members.map_err(|source| AgentError::Call {
        doing: "list its member",
        source,
    })?;
    let own = members.iter().find(|member| member.name() == name);
    own.map(own_of).ok_or(AgentError::Unlisted)
}

fn own_of(member: &Member) -> Own {
    let bytes = |(tag, value): (&BStr, &BStr)| (tag.to_vec(), value.to_vec());
    Own {
        name: member.name().to_string(),
        addr: member.addr(),
        tags: member.tags().map(bytes).collect(),
    }
}

/// Writes a change, and reads what has come of it.
///
/// # Errors
/// [`AgentError`]; the tags may have changed all the same where it did not answer.
pub async fn write(client: &ManagedClient, change: &TagChange) -> Result<Own, AgentError> {
    client
        .tags(change)
        .await
        .map_err(|source| AgentError::Call {
            doing: "take the tags",
            source,
        })?;
    own(client).await
}
