//! Queries between real agents of each version: asked, answered, gathered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use integration::cluster::SOON;
use integration::{Agent, Serf, TestEnv, on_each_serf};
use serf_rpc::{
    CallError, CallErrorKind, Client, Event, EventFilter, EventKind, EventStream, Expected,
    Pattern, Query, QueryEnd, QueryId,
};
use tokio::time::timeout;

on_each_serf! {
    answers_are_gathered_long_before_the_agent_ends_the_query => gathers;
    only_those_that_a_query_is_meant_for_answer => filters;
    a_query_is_answered_once_and_in_time => answers_once;
    what_is_too_long_or_reserved_is_refused => refuses;
    an_abandoned_query_disturbs_nobody => abandons;
}

/// Agents of these names, roles as their names, in one cluster; a client and the queries of each.
async fn cluster(
    lab: &TestEnv,
    serf: &Serf,
    names: &[&str],
) -> Result<Vec<(Agent, Client, EventStream)>> {
    let mut cluster = Vec::new();
    for (name, last) in names.iter().zip(1..) {
        let mut agent = serf
            .agent(lab, *name, last)
            .tag("role", format!("x-{name}-x"));
        if last > 1 {
            agent = agent.join(lab.net().ip(1));
        }
        let agent = agent.start().await?;
        let client = serf.connect_options(&agent).connect().await?;
        let queries = subscribe(&client).await?;
        cluster.push((agent, client, queries));
    }
    for (agent, ..) in &cluster {
        agent.knows(names.len(), "alive", SOON).await?;
    }
    Ok(cluster)
}

/// A stream of queries that misses none asked through other connections from now on: the agent
/// registers it after its acknowledgement, but before it reads the connection's next command.
async fn subscribe(client: &Client) -> Result<EventStream> {
    let queries = client.stream(EventFilter::of([EventKind::Query])).await?;
    client.stats().await?;
    Ok(queries)
}

/// The next query of a stream: its id, name and payload.
async fn next_query(events: &mut EventStream) -> Result<(QueryId, String, Vec<u8>)> {
    match timeout(SOON, events.next()).await?.context("the end")?? {
        Event::Query {
            id, name, payload, ..
        } => Ok((id, name.to_string(), payload.into())),
        other => bail!("{other:?}"),
    }
}

/// Everybody answers with his own name.
async fn answer_all(cluster: &mut [(Agent, Client, EventStream)]) -> Result<()> {
    for (agent, client, queries) in cluster {
        let (id, name, payload) = next_query(queries).await?;
        assert_eq!((&*name, &payload[..]), ("uptime", &b"\0\xff"[..]));
        client
            .respond(id, [agent.name().as_bytes(), b"\xff"].concat())
            .await?;
    }
    Ok(())
}

async fn gathers(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let mut cluster = cluster(lab, serf, &["a", "b", "c"]).await?;
    let client = cluster[0].1.clone();
    let long = Duration::from_secs(60);
    let query = Query::new("uptime")
        .payload(b"\0\xff")
        .request_ack(true)
        .timeout(long);
    let began = Instant::now();
    let mut stream = client.query(&query).await?;
    let (gathered, answered) = tokio::join!(
        stream.gather(Expected::Responses(3), SOON),
        answer_all(&mut cluster)
    );
    answered?;
    ensure!(matches!(gathered.end, QueryEnd::Complete), "{gathered:?}");
    ensure!(began.elapsed() < SOON);
    let names: BTreeSet<_> = gathered
        .responses
        .iter()
        .map(|(from, _)| from.to_string())
        .collect();
    assert_eq!(names, ["a", "b", "c"].map(str::to_owned).into());
    for (from, payload) in &gathered.responses {
        assert_eq!(**payload, [&from[..], b"\xff"].concat());
    }
    // An acknowledgement is a packet of its own and may come after the answer, or not at all.
    ensure!(
        gathered
            .acks
            .iter()
            .all(|from| names.contains(&from.to_string())),
        "{gathered:?}"
    );
    Ok(())
}

async fn filters(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let cluster = cluster(lab, serf, &["a", "b", "c"]).await?;
    let client = &cluster[0].1;
    let acked = async |query: Query| -> Result<BTreeSet<String>> {
        let query = query.request_ack(true).timeout(Duration::from_millis(700));
        let gathered = client
            .query(&query)
            .await?
            .gather(Expected::Acks(9), SOON)
            .await;
        ensure!(matches!(gathered.end, QueryEnd::Done), "{gathered:?}");
        Ok(gathered.acks.iter().map(ToString::to_string).collect())
    };
    assert_eq!(
        acked(Query::new("q").node("b").node("nobody")).await?,
        ["b".to_owned()].into()
    );
    // As in the list of members the expression must match the whole.
    assert_eq!(
        acked(Query::new("q").tag("role", "-c-")).await?,
        BTreeSet::new()
    );
    for query in [
        Query::new("q").tag("role", Pattern::anywhere("-c-")),
        Query::new("q").tag("role", "x-z-x|x-c-x"),
        Query::new("q").tag_is("role", "x-c-x"),
    ] {
        assert_eq!(acked(query).await?, ["c".to_owned()].into());
    }
    let malformed = acked(Query::new("q").tag("role", "(")).await;
    ensure!(malformed.is_err(), "{malformed:?}");
    assert_eq!(
        acked(Query::new("q").tag("role", ".*").node("a")).await?,
        ["a".to_owned()].into()
    );
    // Serf's own ping needs nobody to answer.
    ensure!(
        acked(Query::new("_serf_ping").relay_factor(2))
            .await?
            .contains("a")
    );
    Ok(())
}

async fn answers_once(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let mut cluster = cluster(lab, serf, &["a"]).await?;
    let (agent, client, queries) = &mut cluster[0];
    let other = serf.connect_options(agent).connect().await?;
    let mut others = subscribe(&other).await?;
    let query = Query::new("uptime").timeout(Duration::from_secs(1));
    let mut answers = client.query(&query).await?;
    let (id, ..) = next_query(queries).await?;
    let (others_id, ..) = next_query(&mut others).await?;
    let foreign = client.respond(others_id, "x").await;
    ensure!(
        matches!(
            foreign,
            Err(CallError {
                kind: CallErrorKind::OtherConnection,
                ..
            })
        ),
        "{foreign:?}"
    );
    client.respond(id, "first").await?;
    for late in [
        client.respond(id, "again").await,
        other.respond(others_id, "second").await,
    ] {
        ensure!(
            matches!(
                late,
                Err(CallError {
                    command: "respond",
                    kind: CallErrorKind::Refused { .. },
                    ..
                })
            ),
            "{late:?}"
        );
    }
    let gathered = answers.gather(Expected::Responses(2), SOON).await;
    ensure!(matches!(gathered.end, QueryEnd::Done), "{gathered:?}");
    assert_eq!(gathered.responses, [("a".into(), "first".into())]);
    // Now its time is up.
    let late = client.respond(id, "late").await;
    ensure!(
        matches!(
            late,
            Err(CallError {
                kind: CallErrorKind::Refused { .. },
                ..
            })
        ),
        "{late:?}"
    );
    Ok(())
}

async fn refuses(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let mut cluster = cluster(lab, serf, &["a"]).await?;
    let (_, client, queries) = &mut cluster[0];
    for query in [Query::new("_serf_x"), Query::new("q").payload([b'x'; 1100])] {
        let refused = client.query(&query).await.map(drop);
        ensure!(
            matches!(
                refused,
                Err(CallError {
                    command: "query",
                    kind: CallErrorKind::Refused { .. },
                    ..
                })
            ),
            "{refused:?}"
        );
    }
    let mut answers = client.query(&Query::new("q").payload([b'x'; 915])).await?;
    let (id, _, payload) = next_query(queries).await?;
    assert_eq!(payload.len(), 915);
    let long = client.respond(id, [b'x'; 1100]).await;
    ensure!(
        matches!(
            long,
            Err(CallError {
                command: "respond",
                kind: CallErrorKind::Refused { .. },
                ..
            })
        ),
        "{long:?}"
    );
    client.respond(id, "short").await?;
    let gathered = answers.gather(Expected::Responses(1), SOON).await;
    assert_eq!(gathered.responses, [("a".into(), "short".into())]);
    Ok(())
}

async fn abandons(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let cluster = cluster(lab, serf, &["a", "b"]).await?;
    let options = serf.connect_options(&cluster[0].0).max_streams(4);
    let client = options.connect().await?;
    // Far more of them than may run at once: each gives its place back when the agent ends it.
    for round in 0..12 {
        let query = Query::new("q")
            .request_ack(true)
            .timeout(Duration::from_millis(50));
        match client.query(&query).await {
            Ok(stream) => drop(stream),
            Err(CallError {
                kind: CallErrorKind::TooManyStreams { .. },
                ..
            }) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => bail!("{round}: {error}"),
        }
        assert_eq!(client.members().await?.len(), 2);
    }
    integration::wait_for("a place for a query", SOON, async || {
        client
            .query(&Query::new("q").timeout(Duration::from_millis(50)))
            .await
            .is_ok()
    })
    .await
}
