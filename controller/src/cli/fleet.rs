//! `fleet`: what all controllers of the cluster answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use controller::config;
use controller::fleet::{Fleet, QUERY, Report};
use controller::ways;
use planner::config::Config;
use serf_rpc::{Client, Member, MemberFilter, MemberStatus, Query, QueryReply};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{Exit, Format, FormatArgs, environment, print, print_json, runtime};

/// A query is asked again after so long.
const AGAIN: Duration = Duration::from_secs(1);
/// Between one fleet that does not agree and the next.
const PAUSE: Duration = Duration::from_secs(1);
/// Balancers beyond these are not listed.
const BALANCERS: usize = 1000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serf-haproxy fleet
      what does every balancer of this cluster do?
  serf-haproxy fleet --tag role=balancer --wait 30s
      do all that have this tag agree, within half a minute? After a change of their configs, say")]
pub(super) struct FleetArgs {
    /// Members with this tag are balancers, and have to answer; may be repeated
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// So many balancers have to answer at least
    #[arg(long, value_name = "COUNT", default_value = "1")]
    expect: usize,
    /// How long a balancer may take to answer; it is asked once a second
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Ask again until all agree, for so long
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: Duration,
    /// Their configs differ on purpose
    #[arg(long)]
    ignore_config: bool,
    #[command(flatten)]
    format: FormatArgs,
}

fn tag(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("want KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

pub(super) fn fleet(path: &Path, args: &FleetArgs) -> anyhow::Result<Exit> {
    let config = config::load(path, environment())?;
    let fleet = runtime()?.block_on(async {
        let client = connected(&config).await?;
        let until = Instant::now() + args.wait;
        loop {
            let fleet = asked(&client, args).await?;
            if fleet.agree || Instant::now() + PAUSE > until {
                return anyhow::Ok(fleet);
            }
            sleep(PAUSE).await;
        }
    })?;
    match args.format.format {
        Format::Text => print(&fleet.to_string())?,
        Format::Json => print_json(&fleet)?,
    };
    Ok(if fleet.agree {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// A connection with the first agent that answers.
async fn connected(config: &Config) -> anyhow::Result<Client> {
    let mut refused = anyhow::anyhow!("no agent is configured");
    for agent in ways::agents(config) {
        match agent.connect().await {
            Ok(client) => return Ok(client),
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

/// What everybody says now. A query and its answers are packets that may be lost, so it is asked again meanwhile; who
/// answers twice is taken by the last word.
async fn asked(client: &Client, args: &FleetArgs) -> anyhow::Result<Fleet> {
    let should = expected(client, args).await?;
    let until = Instant::now() + args.timeout;
    let fleet = |reports, should| Fleet::new(reports, should, args.expect, !args.ignore_config);
    let mut reports = BTreeMap::new();
    while Instant::now() < until {
        let round = until.min(Instant::now() + AGAIN);
        let query = Query::new(QUERY).timeout(args.timeout);
        let answers = client.query(&query).await;
        let mut answers = answers.context("cannot ask the cluster")?;
        while let Ok(Some(Ok(reply))) = timeout_at(round, answers.next()).await {
            if let QueryReply::Response { from, payload } = reply
                && let Some(report) = Report::from_payload(&payload)
                && reports.len() < BALANCERS
            {
                reports.insert(from.to_string(), report);
            }
            if is_complete(&reports, &should, args) {
                return Ok(fleet(reports, should));
            }
        }
        // The agent may end it early.
        sleep_until(round).await;
    }
    Ok(fleet(reports, should))
}

/// Whether nobody else is waited for: only where it was said who has to answer.
fn is_complete(reports: &BTreeMap<String, Report>, should: &[String], args: &FleetArgs) -> bool {
    !should.is_empty()
        && reports.len() >= args.expect
        && should.iter().all(|name| reports.contains_key(name))
}

/// Who has to answer: all that have the tags, also those that are gone, since whoever is cut off is.
async fn expected(client: &Client, args: &FleetArgs) -> anyhow::Result<Vec<String>> {
    if args.tags.is_empty() {
        return Ok(Vec::new());
    }
    let with_tag =
        |filter: MemberFilter, (key, value): &(String, String)| filter.tag_is(key, value);
    let filter = args.tags.iter().fold(MemberFilter::new(), with_tag);
    let members = client.members_filtered(&filter).await;
    let members = members.context("cannot ask the agent for its members")?;
    let is_expected = |member: &&Member| member.status() != MemberStatus::Left;
    let names = members.iter().filter(is_expected).take(BALANCERS);
    Ok(names.map(|member| member.name().to_string()).collect())
}
