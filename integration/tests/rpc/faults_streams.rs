//! Readers that do not read: what is kept for them is bounded, what is not is reported, and nobody else waits.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::{Agent, FakeAgent, Need, test};
use rmpv::Value;
use serf_rpc::{
    ConnectOptions, Event, EventFilter, EventKind, EventStream, LogEntry, LogLevel, LogStream,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

/// The name of the next event, or how many are missing here.
async fn next(events: &mut EventStream) -> Result<Result<String, u64>> {
    match timeout(SOON, events.next()).await?.context("the end")? {
        Ok(Event::User { name, .. }) => Ok(Ok(name.to_string())),
        Ok(Event::Lagged(count)) => Ok(Err(count)),
        other => anyhow::bail!("{other:?}"),
    }
}

#[test]
fn a_reader_that_stops_reading_is_told_what_it_missed_and_delays_no_call() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).start()?;
        let options = ConnectOptions::new(agent.rpc_addr().to_string()).stream_queue(100, 1 << 20);
        let client = options.connect().await?;
        let mut sleepy = client.stream(EventFilter::all()).await?;
        let mut awake = client.stream(EventFilter::all()).await?;
        let mut lines: LogStream = client.monitor(LogLevel::Debug).await?;
        for batch in 0..200 {
            for number in batch * 50..(batch + 1) * 50 {
                agent.user_event(&number.to_string(), &[0; 400]);
                agent.say("DEBUG", number.to_string());
            }
            // The answer comes behind these events: with it they have all arrived.
            ensure!(client.members().await? == agent.members());
            for number in batch * 50..(batch + 1) * 50 {
                assert_eq!(next(&mut awake).await?, Ok(number.to_string()));
            }
        }
        assert_eq!(
            agent.dropped(),
            0,
            "the agent had no reason to leave anything out"
        );
        for number in 0..100 {
            assert_eq!(next(&mut sleepy).await?, Ok(number.to_string()));
        }
        assert_eq!(next(&mut sleepy).await?, Err(10_000 - 100));
        for _ in 0..100 {
            timeout(SOON, lines.next()).await?.context("the end")??;
        }
        let gap = timeout(SOON, lines.next()).await?.context("the end")?;
        assert!(matches!(gap, Ok(LogEntry::Lagged(9900))), "{gap:?}");
        agent.user_event("after", b"");
        assert_eq!(next(&mut sleepy).await?, Ok("after".to_owned()));
        Ok(())
    });
}

#[test]
fn bytes_bound_what_is_kept_as_well_as_records() {
    test(&[], async |lab| {
        let agent = FakeAgent::on(lab, "fake", 1).start()?;
        let options = ConnectOptions::new(agent.rpc_addr().to_string()).stream_queue(1000, 50_000);
        let client = options.connect().await?;
        let mut events = client.stream(EventFilter::all()).await?;
        for _ in 0..500 {
            agent.user_event("large", &[0; 1000]);
        }
        client.members().await?;
        let mut kept = 0;
        let missed = loop {
            match next(&mut events).await? {
                Ok(_) => kept += 1,
                Err(missed) => break missed,
            }
        };
        assert!((40..50).contains(&kept), "{kept}");
        assert_eq!(missed, 500 - kept);
        Ok(())
    });
}

/// The bytes of a request with a body.
fn request(command: &str, seq: u64, body: Vec<(Value, Value)>) -> Result<Vec<u8>> {
    let header = vec![
        ("Command".into(), command.into()),
        ("Seq".into(), seq.into()),
    ];
    let mut bytes = Vec::new();
    for map in [header, body] {
        rmpv::encode::write_value(&mut bytes, &Value::Map(map))?;
    }
    Ok(bytes)
}

/// Sends user events of these names and 300 bytes, as fast as the agent takes them.
async fn flood(agent: &Agent, names: &[String]) -> Result<()> {
    let mut socket = TcpStream::connect(agent.rpc_addr()).await?;
    let mut requests = request("handshake", 0, vec![("Version".into(), 1.into())])?;
    for (seq, name) in (1..).zip(names) {
        let body = vec![
            ("Name".into(), name.as_str().into()),
            ("Payload".into(), Value::Binary(vec![0; 300])),
            ("Coalesce".into(), false.into()),
        ];
        requests.extend(request("event", seq, body)?);
    }
    let (mut reader, mut writer) = socket.split();
    let answered = async {
        // An empty error and the number it belongs to, in its shortest form.
        let len = |seq: usize| match seq {
            0..128 => 13,
            128..256 => 14,
            _ => 15,
        };
        let mut answers = vec![0; (0..=names.len()).map(len).sum()];
        reader.read_exact(&mut answers).await
    };
    let (written, answered) = timeout(SOON, async {
        tokio::join!(writer.write_all(&requests), answered)
    })
    .await?;
    written?;
    answered?;
    Ok(())
}

#[test]
fn a_flood_of_a_real_agent_is_bounded_too() {
    test(&[Need::Serf], async |lab| {
        let agent = Agent::on(lab, "a", 1).start().await?;
        let options = ConnectOptions::new(agent.rpc_addr().to_string()).stream_queue(64, 1 << 20);
        let client = options.connect().await?;
        let user = || EventFilter::of([EventKind::User]);
        let mut sleepy = client.stream(user()).await?;
        let mut awake = client.stream(user()).await?;
        let names: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
        let calls = async {
            for _ in 0..20 {
                ensure!(client.members().await?.len() == 1);
            }
            anyhow::Ok(())
        };
        let floods = async {
            flood(&agent, &names).await?;
            // The first may be left out, as anything while the flood goes on.
            loop {
                flood(&agent, &["end".to_owned()]).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let watch = async {
            while next(&mut awake).await? != Ok("end".to_owned()) {}
            anyhow::Ok(())
        };
        let watched = async {
            tokio::select! {
                ended = floods => ended,
                watched = watch => watched,
            }
        };
        tokio::try_join!(calls, watched)?;
        for name in &names[..64] {
            assert_eq!(next(&mut sleepy).await?.as_ref(), Ok(name));
        }
        let missed = next(&mut sleepy)
            .await?
            .err()
            .context("a record beyond the queue's end")?;
        assert!(missed > 100, "{missed}");
        Ok(())
    });
}
