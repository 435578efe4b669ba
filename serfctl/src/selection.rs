//! Which members are meant: flags in, conditions for the agent to check and the members that meet them out.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::ArgValueCandidates;
use serf_rpc::{Member, MemberFilter, Retry};

use crate::{agent::AgentArgs, args::key_value, connect::connect, exit::Failure, names};

/// The flags that choose members.
#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct Selection {
    /// Only members whose name matches
    #[arg(long, value_name = "REGEXP", add = ArgValueCandidates::new(names::candidates))]
    name: Option<String>,

    /// Deprecated: the same as --tag role=REGEXP
    #[arg(long, value_name = "REGEXP")]
    role: Option<String>,

    /// Only members whose status matches (alive, leaving, left, failed)
    #[arg(long, value_name = "REGEXP")]
    status: Option<String>,

    /// Only members whose tag matches; may be repeated for other keys. An empty one asks for no such tag
    #[arg(long = "tag", value_name = "KEY=REGEXP", value_parser = key_value)]
    tags: Vec<(String, String)>,
}

/// A condition on members, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// On the name.
    Name(String),
    /// On the status.
    Status(String),
    /// On the tag of that key.
    Tag(String, String),
}

impl Selection {
    /// What members are asked for. Of two conditions on one tag the last counts, and `--role` after them all.
    pub(crate) fn filters(&self) -> Vec<Filter> {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let role = given(&self.role).map(|role| ("role".to_owned(), role));
        let tags: BTreeMap<_, _> = self.tags.iter().cloned().chain(role).collect();
        given(&self.name)
            .map(Filter::Name)
            .into_iter()
            .chain(given(&self.status).map(Filter::Status))
            .chain(
                tags.into_iter()
                    .map(|(key, pattern)| Filter::Tag(key, pattern)),
            )
            .collect()
    }

    /// The same with another status for whoever names none.
    pub(crate) fn filters_or_status(&self, status: &str) -> Vec<Filter> {
        let mut filters = self.filters();
        if !filters
            .iter()
            .any(|filter| matches!(filter, Filter::Status(_)))
        {
            filters.push(Filter::Status(status.to_owned()));
        }
        filters
    }

    /// Whether a flag was used that `serf` has deprecated.
    pub(crate) fn uses_role(&self) -> bool {
        self.role.as_ref().is_some_and(|role| !role.is_empty())
    }
}

/// The members that meet all conditions, sorted by name.
///
/// # Errors
///
/// No connection, no answer, or an expression that the agent cannot read.
pub(crate) async fn members(agent: &AgentArgs, filters: &[Filter]) -> Result<Vec<Member>, Failure> {
    let client = connect(agent).await?;
    let mut members = match client.members_filtered(&combine(filters)).await {
        Err(lost) if lost.retry() == Retry::NewConnection => {
            return Err(unreadable(agent, filters).await.unwrap_or(lost.into()));
        }
        answer => answer?,
    };
    members.sort_unstable_by(|a, b| a.name().cmp(b.name()));
    Ok(members)
}

fn combine<'a>(filters: impl IntoIterator<Item = &'a Filter>) -> MemberFilter {
    filters
        .into_iter()
        .fold(MemberFilter::new(), |all, filter| match filter {
            Filter::Name(pattern) => all.name(pattern),
            Filter::Status(pattern) => all.status(pattern),
            Filter::Tag(key, pattern) => all.tag(key, pattern),
        })
}

/// The expression that made the agent close the connection, for it does not say which, found by trying one by one;
/// none if it answers them all, or no longer at all.
async fn unreadable(agent: &AgentArgs, filters: &[Filter]) -> Option<Failure> {
    for filter in filters {
        let answer = connect(agent)
            .await
            .ok()?
            .members_filtered(&combine([filter]))
            .await;
        if answer.is_err_and(|error| error.retry() == Retry::NewConnection) {
            let (flag, pattern) = match filter {
                Filter::Name(pattern) => ("--name".to_owned(), pattern),
                Filter::Status(pattern) => ("--status".to_owned(), pattern),
                Filter::Tag(key, pattern) => (format!("--tag {key}"), pattern),
            };
            return Some(Failure::Expression {
                flag,
                pattern: pattern.clone(),
            });
        }
    }
    None
}
