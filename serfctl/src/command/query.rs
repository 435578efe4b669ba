//! A query to the cluster in, who got it and who answered what out, as it comes.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use clap::Args;
use serde::Serialize;
use serf_rpc::{Client, Member, MemberFilter, MemberStatus, Query, QueryReply};

use crate::{
    cli::{AgentArgs, Format, go_bool, key_value},
    command::duration,
    connect::connect,
    exit::Failure,
    json::document_of,
    output,
    terminal::{escape, lossy},
};

/// Send a query to members and print their answers
///
/// It ends when the time of the query is up, or when everybody asked has answered.
/// Example: serfctl query --tag role=backend --timeout 3s load
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// How to print them; JSON comes whole at the end
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Only this member; may be repeated
    #[arg(long = "node", value_name = "NAME")]
    nodes: Vec<String>,

    /// Only members whose tag matches; may be repeated
    #[arg(long = "tag", value_name = "KEY=REGEXP", value_parser = key_value)]
    tags: Vec<(String, String)>,

    /// How long members may take to answer [default: the agent's, which grows with the cluster]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,

    /// Do without acknowledgements
    #[arg(long, value_name = "BOOL", action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true,
        value_parser = go_bool)]
    no_ack: bool,

    /// How many other members send each answer on as well, against lost packets
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    relay_factor: u8,

    /// Its name
    name: String,

    /// Its payload
    payload: Option<String>,
}

#[derive(Default, Serialize)]
struct Answers<'a> {
    #[serde(rename = "Acks")]
    acks: Option<Vec<Cow<'a, str>>>,
    #[serde(rename = "Responses")]
    responses: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

/// Asks, and prints what comes.
///
/// # Errors
///
/// No connection, the agent refuses it, or it is lost meanwhile.
pub(crate) async fn run(agent: &AgentArgs, args: &QueryArgs) -> Result<Vec<u8>, Failure> {
    let client = connect(agent).await?;
    let asked = asked(&client, args).await?;
    let mut replies = client.query(&query(args)).await?;
    let text = args.format == Format::Text;
    if text {
        output::line(&format!(
            "Query '{}' dispatched",
            escape(args.name.as_bytes())
        ))?;
    }
    let (mut acks, mut responses) = (Vec::new(), Vec::new());
    let complete = |acks: &Vec<_>, responses: &Vec<_>| {
        (args.no_ack || acks.len() >= asked) && responses.len() >= asked
    };
    while !complete(&acks, &responses) {
        let Some(reply) = replies.next().await else {
            break;
        };
        match reply? {
            QueryReply::Ack { from } => {
                if text {
                    output::line(&format!("Ack from '{}'", escape(&from)))?;
                }
                acks.push(from);
            }
            QueryReply::Response { from, payload } => {
                if text {
                    let (from, payload) = (escape(&from), escape(&payload));
                    output::line(&format!("Response from '{from}': {payload}"))?;
                }
                responses.push((from, payload));
            }
            _ => {}
        }
    }
    if text {
        let total = if args.no_ack {
            String::new()
        } else {
            format!("Total Acks: {}\n", acks.len())
        };
        return Ok(format!("{total}Total Responses: {}\n", responses.len()).into_bytes());
    }
    let names: Vec<Cow<'_, str>> = acks.iter().map(|from| lossy(from)).collect();
    Ok(document_of(&Answers {
        acks: (!names.is_empty()).then_some(names),
        responses: responses
            .iter()
            .map(|(from, payload)| (lossy(from), lossy(payload)))
            .collect(),
    }))
}

fn query(args: &QueryArgs) -> Query {
    let mut query = Query::new(&args.name)
        .request_ack(!args.no_ack)
        .relay_factor(args.relay_factor);
    if let Some(payload) = &args.payload {
        query = query.payload(payload);
    }
    if let Some(timeout) = args.timeout {
        query = query.timeout(timeout);
    }
    let query = args
        .nodes
        .iter()
        .fold(query, |query, node| query.node(node));
    let tags = args.tags.iter();
    tags.fold(query, |query, (key, pattern)| query.tag(key, pattern))
}

/// How many members are asked.
async fn asked(client: &Client, args: &QueryArgs) -> Result<usize, Failure> {
    let tags = args.tags.iter();
    let filter = tags.fold(MemberFilter::new(), |filter, (key, pattern)| {
        filter.tag(key, pattern)
    });
    let members = client.members_filtered(&filter).await?;
    let named = |member: &Member| {
        args.nodes.is_empty()
            || args
                .nodes
                .iter()
                .any(|node| member.name() == node.as_bytes())
    };
    let alive = |member: &&Member| member.status() == MemberStatus::Alive && named(member);
    Ok(members.iter().filter(alive).count())
}
