//! A query to the cluster in, who got it and who answered what out, as it comes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    os::unix::ffi::OsStrExt as _,
    time::Duration,
};

use bstr::BString;
use clap::Args;
use clap_complete::ArgValueCandidates;
use serde::Serialize;
use serf_rpc::{Client, Member, MemberFilter, MemberStatus, Pattern, Query, QueryReply};

use crate::{
    agent::AgentArgs,
    args::{Format, go_bool, key_value},
    command::answers,
    connect::connect,
    duration,
    exit::Failure,
    json::{base64_of, base64_pair, document_of, line_of},
    names, output,
    progress::Progress,
    terminal::{escape, lossy},
};

/// Send a query to members and print their answers
///
/// It ends when the time of the query is up, or when all who were asked and alive at its start have answered; the agent's
/// log then says that it could not send the end of the query.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serfctl query uptime
  serfctl query --tag role=backend --timeout 3s load
  serfctl query --node web-1 --no-ack --format json load
  serfctl query --node web-1 --raw dump | tar -x")]
pub(crate) struct QueryArgs {
    /// How to print them; JSON comes whole at the end
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,

    /// Print the payloads of the answers, byte for byte, and nothing else
    #[arg(long, conflicts_with = "format")]
    raw: bool,

    /// Only this member; may be repeated
    #[arg(long = "node", value_name = "NAME", add = ArgValueCandidates::new(names::candidates))]
    nodes: Vec<OsString>,

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
    name: OsString,

    /// Its payload
    #[arg(allow_hyphen_values = true)]
    payload: Option<OsString>,
}

#[derive(Default, Serialize)]
struct Answers<'a> {
    #[serde(rename = "Acks")]
    acks: Option<Vec<Cow<'a, str>>>,
    #[serde(rename = "Responses")]
    responses: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    acks_base64: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    responses_base64: BTreeMap<String, String>,
}

/// One line of ndjson.
#[derive(Default, Serialize)]
struct Line<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    responses: Option<usize>,
}

/// What came so far, and from whom more is waited for. Others may answer as well, one that is leaving for instance.
#[derive(Default)]
struct Heard {
    acks: Vec<BString>,
    responses: Vec<(BString, Vec<u8>)>,
    owes_ack: BTreeSet<BString>,
    owes_response: BTreeSet<BString>,
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
    if args.format == Format::Text && !args.raw {
        let name = escape(args.name.as_bytes());
        output::line(&format!("Query '{name}' dispatched"))?;
    }
    let progress = Progress::new();
    let mut heard = Heard::begin(&asked, args.no_ack);
    while asked.is_empty() || !heard.is_complete() {
        progress.show(&format!(
            "{} asked, {} have it, {} answered",
            asked.len(),
            heard.acks.len(),
            heard.responses.len()
        ));
        let Some(reply) = answers::next(&client, &mut replies).await? else {
            break;
        };
        progress.clear();
        args.say(&reply)?;
        heard.take(reply);
    }
    drop(progress);
    Ok(args.total(&heard))
}

impl Heard {
    /// Nothing yet, of those who are asked.
    fn begin(asked: &BTreeSet<BString>, no_ack: bool) -> Self {
        let owes_ack = if no_ack {
            BTreeSet::new()
        } else {
            asked.clone()
        };
        Self {
            owes_ack,
            owes_response: asked.clone(),
            ..Self::default()
        }
    }

    fn take(&mut self, reply: QueryReply) {
        match reply {
            QueryReply::Ack { from } => {
                self.owes_ack.remove(&from);
                self.acks.push(from);
            }
            QueryReply::Response { from, payload } => {
                self.owes_response.remove(&from);
                self.responses.push((from, payload.to_vec()));
            }
            _ => {}
        }
    }

    fn is_complete(&self) -> bool {
        self.owes_ack.is_empty() && self.owes_response.is_empty()
    }
}

impl QueryArgs {
    fn say(&self, reply: &QueryReply) -> Result<(), Failure> {
        match (self.format, reply) {
            _ if self.raw => match reply {
                QueryReply::Response { payload, .. } => output::write(payload),
                _ => Ok(()),
            },
            (Format::Text, QueryReply::Ack { from }) => {
                output::line(&format!("Ack from '{}'", escape(from)))
            }
            (Format::Text, QueryReply::Response { from, payload }) => output::line(&format!(
                "Response from '{}': {}",
                escape(from),
                escape(payload.strip_suffix(b"\n").unwrap_or(payload))
            )),
            (Format::Ndjson, QueryReply::Ack { from }) => output::write(&line_of(&Line {
                event: "ack",
                from: Some(lossy(from)),
                from_base64: base64_of(from),
                ..Line::default()
            })),
            (Format::Ndjson, QueryReply::Response { from, payload }) => {
                output::write(&line_of(&Line {
                    event: "response",
                    from: Some(lossy(from)),
                    from_base64: base64_of(from),
                    payload: Some(lossy(payload)),
                    payload_base64: base64_of(payload),
                    ..Line::default()
                }))
            }
            _ => Ok(()),
        }
    }

    fn total(&self, heard: &Heard) -> Vec<u8> {
        let (acks, responses) = (heard.acks.len(), heard.responses.len());
        match self.format {
            _ if self.raw => Vec::new(),
            Format::Text if self.no_ack => format!("Total Responses: {responses}\n").into_bytes(),
            Format::Text => {
                format!("Total Acks: {acks}\nTotal Responses: {responses}\n").into_bytes()
            }
            Format::Ndjson => line_of(&Line {
                event: "done",
                acks: (!self.no_ack).then_some(acks),
                responses: Some(responses),
                ..Line::default()
            }),
            Format::Json => document_of(&Answers::of(heard)),
        }
    }
}

impl<'a> Answers<'a> {
    fn of(heard: &'a Heard) -> Self {
        let names: Vec<_> = heard.acks.iter().map(|from| lossy(from)).collect();
        let responses = heard.responses.iter();
        Self {
            acks: (!names.is_empty()).then_some(names),
            responses: responses
                .clone()
                .map(|(from, payload)| (lossy(from), lossy(payload)))
                .collect(),
            acks_base64: heard
                .acks
                .iter()
                .filter_map(|from| base64_of(from))
                .collect(),
            responses_base64: responses
                .filter_map(|(from, payload)| base64_pair(from, payload))
                .collect(),
        }
    }
}

fn query(args: &QueryArgs) -> Query {
    let mut query = Query::new(args.name.as_bytes())
        .request_ack(!args.no_ack)
        .relay_factor(args.relay_factor);
    if let Some(payload) = &args.payload {
        query = query.payload(payload.as_bytes());
    }
    if let Some(timeout) = args.timeout {
        query = query.timeout(timeout);
    }
    let query = args
        .nodes
        .iter()
        .fold(query, |query, node| query.node(node.as_bytes()));
    let tags = args.tags.iter();
    // As in `serf` they may match any part of a tag.
    tags.fold(query, |query, (key, pattern)| {
        query.tag(key, Pattern::anywhere(pattern))
    })
}

/// The living members that are asked.
async fn asked(client: &Client, args: &QueryArgs) -> Result<BTreeSet<BString>, Failure> {
    let tags = args.tags.iter();
    let filter = tags.fold(MemberFilter::new(), |filter, (key, pattern)| {
        filter.tag(key, Pattern::anywhere(pattern))
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
    let asked = members.iter().filter(alive);
    Ok(asked.map(|member| member.name().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(from: &str) -> QueryReply {
        QueryReply::Ack { from: from.into() }
    }

    fn response(from: &str) -> QueryReply {
        let payload = "".into();
        QueryReply::Response {
            from: from.into(),
            payload,
        }
    }

    #[test]
    fn who_is_waited_for_has_a_name_and_who_leaves_does_not_stand_in_for_him() {
        let asked = BTreeSet::from(["a".into(), "slow".into()]);
        let mut heard = Heard::begin(&asked, false);
        for reply in [ack("a"), ack("leaver"), response("a"), response("leaver")] {
            heard.take(reply);
            assert!(!heard.is_complete());
        }
        heard.take(ack("slow"));
        assert!(!heard.is_complete());
        heard.take(response("slow"));
        assert!(heard.is_complete());
        assert_eq!((heard.acks.len(), heard.responses.len()), (3, 3));
    }

    #[test]
    fn without_acknowledgements_none_is_waited_for() {
        let mut heard = Heard::begin(&BTreeSet::from(["a".into()]), true);
        assert!(!heard.is_complete());
        heard.take(response("a"));
        assert!(heard.is_complete());
    }
}
