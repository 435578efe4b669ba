//! Every command of the library against real agents of each version, with a key and without.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bstr::BString;
use integration::cluster::SOON;
use integration::{Agent, Serf, TestEnv, on_each_serf, wait_for};
use serf_rpc::{
    CallError, CallErrorKind, Client, ConnectError, Event, EventFilter, LogEntry, LogLevel,
    MemberFilter, MemberStatus, TagChange, UserEvent,
};
use tokio::time::timeout;

on_each_serf! {
    connecting_shakes_hands_and_gives_the_key => connects;
    members_stats_and_coordinates_are_read => reads;
    an_event_reaches_the_streams_of_all => events;
    a_stopped_stream_ends_and_the_connection_goes_on => stops;
    the_log_is_followed_once_a_connection => monitors;
    joining_says_how_many_were_reached => joins;
    tags_are_deleted_first_and_then_set => tags;
    leaving_ends_the_agent_and_the_others_know => leaves;
    a_member_that_left_can_be_pruned => prunes;
}

// These take their time and do not depend on the key.
mod host_slow {
    integration::on_serf! {
        integration::SerfKind::Host, None,
        a_failed_member_is_made_to_leave => force_leaves;
        pruning_one_that_is_alive_holds_up_everybody_for_seconds => prunes_alive;
    }
}
mod trixie_slow {
    integration::on_serf! {
        integration::SerfKind::Trixie, None,
        a_failed_member_is_made_to_leave => force_leaves;
        pruning_one_that_is_alive_holds_up_everybody_for_seconds => prunes_alive;
    }
}

async fn connect(serf: &Serf, agent: &Agent) -> Result<Client> {
    Ok(serf.connect_options(agent).connect().await?)
}

/// Two agents that know each other, and a client of each.
async fn pair(lab: &TestEnv, serf: &Serf) -> Result<[(Agent, Client); 2]> {
    let a = serf
        .agent(lab, "a", 1)
        .tag("role", "balancer")
        .start()
        .await?;
    let b = serf
        .agent(lab, "b", 2)
        .tag("role", "web")
        .join(a.ip())
        .start()
        .await?;
    a.knows(2, "alive", SOON).await?;
    let (to_a, to_b) = (connect(serf, &a).await?, connect(serf, &b).await?);
    Ok([(a, to_a), (b, to_b)])
}

async fn status(client: &Client, name: &str) -> Result<Option<MemberStatus>> {
    let members = client.members().await?;
    let found = members.iter().find(|member| member.name() == name);
    Ok(found.map(serf_rpc::Member::status))
}

async fn connects(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let agent = serf.agent(lab, "a", 1).start().await?;
    let client = connect(serf, &agent).await?;
    ensure!(client.members().await?.len() == 1);
    let wrong = serf
        .connect_options(&agent)
        .auth_key("wrong")
        .connect()
        .await;
    ensure!(
        matches!(wrong, Err(ConnectError::BadKey { .. })),
        "{wrong:?}"
    );
    let none = serf.connect_options(&agent).auth_key("").connect().await;
    if serf.key().is_some() {
        ensure!(
            matches!(none, Err(ConnectError::MissingKey { .. })),
            "{none:?}"
        );
    } else {
        none?.members().await?;
    }
    Ok(())
}

async fn reads(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [(a, client), _b] = pair(lab, serf).await?;
    let web = MemberFilter::new().tag("role", "w.b").status("alive");
    let web = client.members_filtered(&web).await?;
    assert_eq!(
        web.iter().map(|member| member.name()).collect::<Vec<_>>(),
        ["b"]
    );
    assert_eq!(
        (web[0].addr(), web[0].port()),
        (Some(lab.net().ip(2).into()), 7946)
    );

    let stats = client.stats().await?;
    assert_eq!(stats.agent_name().map(BString::from), Some(a.name().into()));
    assert_eq!(
        (stats.members(), stats.failed(), stats.left()),
        (Some(2), Some(0), Some(0))
    );
    assert_eq!(
        (stats.encrypted(), stats.coordinate_resets()),
        (Some(false), Some(0))
    );
    assert_eq!(
        stats.figure("tags", "role").map(BString::from),
        Some("balancer".into())
    );
    ensure!(
        stats.health_score().is_some() && stats.member_time() > Some(0),
        "{stats:?}"
    );
    ensure!(
        stats.event_time().is_some() && stats.query_time().is_some(),
        "{stats:?}"
    );
    let queues = [
        stats.intent_queue(),
        stats.event_queue(),
        stats.query_queue(),
    ];
    ensure!(queues.iter().all(Option::is_some), "{stats:?}");

    let place = client.get_coordinate("a").await?.context("its own place")?;
    assert_eq!(place.vec.len(), 8);
    assert_eq!(client.get_coordinate("nobody").await?, None);
    // The other's place is known once the two have exchanged a ping.
    wait_for("the place of b", SOON, async || {
        matches!(client.get_coordinate("b").await, Ok(Some(_)))
    })
    .await?;
    let other = client.get_coordinate("b").await?.context("its place")?;
    let rtt = place.rtt(&other).context("a time")?;
    ensure!(rtt < Duration::from_secs(1), "{rtt:?}");
    Ok(())
}

/// The next user event of a stream.
async fn next_user(events: &mut serf_rpc::EventStream) -> Result<(BString, BString, bool)> {
    timeout(SOON, async {
        while let Some(event) = events.next().await {
            if let Event::User {
                name,
                payload,
                coalesce,
                ..
            } = event?
            {
                return Ok((name, payload, coalesce));
            }
        }
        bail!("the events ended")
    })
    .await?
}

async fn events(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [(_a, to_a), (_b, to_b)] = pair(lab, serf).await?;
    let mut streams = [
        to_a.stream(EventFilter::all()).await?,
        to_b.stream(EventFilter::all()).await?,
    ];
    // A stream is registered for certain once the next call of its connection is answered.
    to_a.stats().await?;
    to_b.stats().await?;
    let (name, payload) = (&b"n\xff"[..], &b"\0\xff\xfe"[..]);
    to_a.event(&UserEvent::new(name).payload(payload)).await?;
    for events in &mut streams {
        assert_eq!(
            next_user(events).await?,
            (name.into(), payload.into(), false)
        );
    }
    to_a.event(&UserEvent::new("merged").coalesce(true)).await?;
    for events in &mut streams {
        assert_eq!(next_user(events).await?, ("merged".into(), "".into(), true));
    }
    let long = to_a.event(&UserEvent::new("e").payload([b'x'; 600])).await;
    ensure!(
        matches!(
            long,
            Err(CallError {
                command: "event",
                kind: CallErrorKind::Refused { .. },
                ..
            })
        ),
        "{long:?}"
    );
    // What fits exactly does.
    to_a.event(&UserEvent::new("e").payload([b'x'; 479]))
        .await?;
    assert_eq!(next_user(&mut streams[1]).await?.1.len(), 479);
    Ok(())
}

async fn stops(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let agent = serf.agent(lab, "a", 1).start().await?;
    let client = connect(serf, &agent).await?;
    let stopped = client.stream(EventFilter::all()).await?;
    let mut kept = client.stream(EventFilter::all()).await?;
    // Its own join is held back for a second: it is to be over.
    timeout(SOON, kept.next()).await?.context("an event")??;
    stopped.stop().await?;
    client.event(&UserEvent::new("still")).await?;
    assert_eq!(next_user(&mut kept).await?.0, "still");
    assert_eq!(client.members().await?.len(), 1);
    Ok(())
}

async fn monitors(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let agent = serf.agent(lab, "a", 1).start().await?;
    let client = connect(serf, &agent).await?;
    let mut lines = client.monitor(LogLevel::Debug).await?;
    let second = client.monitor(LogLevel::Info).await;
    ensure!(
        matches!(
            second,
            Err(CallError {
                command: "monitor",
                kind: CallErrorKind::Refused { .. },
                ..
            })
        ),
        "{second:?}"
    );
    timeout(SOON, async {
        while let Some(line) = lines.next().await {
            if is_join_of(line?, "a") {
                return Ok(());
            }
        }
        bail!("the log ended")
    })
    .await??;
    lines.stop().await?;
    assert_eq!(client.members().await?.len(), 1);
    Ok(())
}

async fn joins(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let a = serf.agent(lab, "a", 1).start().await?;
    let b = serf.agent(lab, "b", 2).start().await?;
    let client = connect(serf, &b).await?;
    let (there, nobody) = (a.ip().to_string(), lab.net().ip(9).to_string());
    match client.join([&nobody]).await {
        Err(CallError {
            kind: CallErrorKind::Join {
                message, joined: 0, ..
            },
            ..
        }) => ensure!(!message.is_empty()),
        other => bail!("{other:?}"),
    }
    assert_eq!(status(&client, "a").await?, None);
    // One of several is enough.
    assert_eq!(client.join([&nobody, &there]).await?, 1);
    assert_eq!(status(&client, "a").await?, Some(MemberStatus::Alive));
    // Again is no error, and the port may be said.
    let with_port = format!("{there}:7946");
    assert_eq!(client.join([&there, &with_port]).replay().await?, 2);
    a.knows(2, "alive", SOON).await
}

async fn tags(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [(_a, to_a), (_b, to_b)] = pair(lab, serf).await?;
    let change = TagChange::new()
        .set("state", "drain")
        .set(b"k\xff", b"v\xfe\0");
    to_b.tags(&change.delete("state").delete("role").delete("none"))
        .await?;
    wait_for("the tags", SOON, async || {
        let Ok(members) = to_a.members().await else {
            return false;
        };
        members
            .iter()
            .any(|member| member.name() == "b" && member.tag("role").is_none())
    })
    .await?;
    let members = to_a.members().await?;
    let b = members
        .iter()
        .find(|member| member.name() == "b")
        .context("b")?;
    let tags: Vec<_> = b
        .tags()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    let expected = [
        (b"k\xff".to_vec(), b"v\xfe\0".to_vec()),
        (b"state".to_vec(), b"drain".to_vec()),
    ];
    assert_eq!(tags, expected);
    let long = to_b.tags(&TagChange::new().set("k", [b'x'; 600])).await;
    ensure!(
        matches!(
            long,
            Err(CallError {
                command: "tags",
                kind: CallErrorKind::Refused { .. },
                ..
            })
        ),
        "{long:?}"
    );
    Ok(())
}

async fn leaves(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [(_a, to_a), (mut b, to_b)] = pair(lab, serf).await?;
    to_b.leave().await?;
    ensure!(b.process().exited(SOON).await?.success());
    wait_for("it to be known", SOON, async || {
        matches!(status(&to_a, "b").await, Ok(Some(MemberStatus::Left)))
    })
    .await?;
    let gone = to_b.leave().await;
    ensure!(
        matches!(
            gone,
            Err(CallError {
                kind: CallErrorKind::Lost { .. },
                ..
            })
        ),
        "{gone:?}"
    );
    Ok(())
}

async fn prunes(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [(a, to_a), (mut b, _)] = pair(lab, serf).await?;
    to_a.force_leave("nobody").await?;
    // One that is alive says so, if anybody is left to tell it: with two alone it would not be.
    let _c = serf.agent(lab, "c", 3).join(a.ip()).start().await?;
    a.knows(3, "alive", SOON).await?;
    to_a.force_leave("b").await?;
    wait_for("it to refute", SOON, async || {
        matches!(status(&to_a, "b").await, Ok(Some(MemberStatus::Alive)))
    })
    .await?;
    b.leave().await?;
    wait_for("it to be known", SOON, async || {
        matches!(status(&to_a, "b").await, Ok(Some(MemberStatus::Left)))
    })
    .await?;
    to_a.force_leave("b").await?;
    assert_eq!(status(&to_a, "b").await?, Some(MemberStatus::Left));
    to_a.force_leave("b").prune().await?;
    assert_eq!(status(&to_a, "b").await?, None);
    Ok(())
}

async fn force_leaves(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [(a, to_a), (mut b, _)] = pair(lab, serf).await?;
    let _c = serf.agent(lab, "c", 3).join(a.ip()).start().await?;
    a.knows(3, "alive", SOON).await?;
    b.kill();
    wait_for(
        "it to be declared failed",
        Duration::from_secs(60),
        async || matches!(status(&to_a, "b").await, Ok(Some(MemberStatus::Failed))),
    )
    .await?;
    assert_eq!(to_a.stats().await?.failed(), Some(1));
    to_a.force_leave("b").await?;
    assert_eq!(status(&to_a, "b").await?, Some(MemberStatus::Left));
    let stats = to_a.stats().await?;
    assert_eq!((stats.failed(), stats.left()), (Some(0), Some(1)));
    Ok(())
}

async fn prunes_alive(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [(a, to_a), _b] = pair(lab, serf).await?;
    let other = connect(serf, &a).await?;
    let prune = to_a.force_leave("b").prune();
    let asked = async {
        // It takes a moment to begin.
        loop {
            let began = Instant::now();
            other.members().await?;
            if began.elapsed() > Duration::from_secs(3) {
                return anyhow::Ok(());
            }
        }
    };
    let (pruned, asked) = tokio::join!(prune, timeout(SOON, asked));
    pruned?;
    asked.context("nobody was held up")?
}

fn is_join_of(entry: LogEntry, name: &str) -> bool {
    let line = entry.into_line();
    line.is_some_and(|line| {
        line.text()
            .starts_with(format!("EventMemberJoin: {name} ").as_bytes())
    })
}
