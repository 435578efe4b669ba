//! The keys of an encrypted cluster, and of one that is not, on each version.

use anyhow::{Result, bail, ensure};
use integration::cluster::SOON;
use integration::{Agent, Serf, TestEnv, on_each_serf};
use serf_rpc::{CallError, CallErrorKind, KeyReply};

const FIRST: &str = "5K9OtfP7efFrNKe5WCQvXvnaXJ5cWP0SvXiwe0kkjM4=";
const SECOND: &str = "ENSM+cfaiJJ2JZjCcPo8jA==";

on_each_serf! {
    a_key_is_installed_used_and_the_old_one_removed => rotates;
    without_encryption_each_member_says_so => refuses;
}

async fn pair(lab: &TestEnv, serf: &Serf, argument: Option<&str>) -> Result<[Agent; 2]> {
    let start = async |name: &str, last, join: Option<_>| {
        let mut options = serf.agent(lab, name, last);
        if let Some(argument) = argument {
            options = options.arg(argument);
        }
        if let Some(other) = join {
            options = options.join(other);
        }
        options.start().await
    };
    let a = start("a", 1, None).await?;
    let b = start("b", 2, Some(a.ip())).await?;
    a.knows(2, "alive", SOON).await?;
    Ok([a, b])
}

async fn rotates(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [a, _b] = pair(lab, serf, Some(&format!("-encrypt={FIRST}"))).await?;
    let client = serf.connect_options(&a).connect().await?;
    assert_eq!(client.stats().await?.encrypted(), Some(true));
    let everybody = |reply: &KeyReply| (reply.nodes, reply.responses, reply.errors) == (2, 2, 0);
    let keys = |reply: &KeyReply| -> Vec<(String, u64)> {
        reply
            .keys
            .iter()
            .map(|(key, count)| (key.to_string(), *count))
            .collect()
    };
    let both = [(FIRST.to_owned(), 2), (SECOND.to_owned(), 2)];

    let before = client.list_keys().await?;
    ensure!(everybody(&before), "{before:?}");
    assert_eq!(keys(&before), both[..1]);
    for reply in [
        client.install_key(SECOND).await?,
        client.install_key(SECOND).await?,
    ] {
        ensure!(everybody(&reply) && reply.messages.is_empty(), "{reply:?}");
    }
    assert_eq!(keys(&client.list_keys().await?), both);
    match client.remove_key(FIRST).await {
        Err(CallError {
            command: "remove-key",
            kind: CallErrorKind::Keys { reply, .. },
            ..
        }) => {
            assert_eq!((reply.nodes, reply.errors, reply.messages.len()), (2, 2, 2));
        }
        other => bail!("the key in use was removed: {other:?}"),
    }
    ensure!(everybody(&client.use_key(SECOND).await?));
    ensure!(everybody(&client.remove_key(FIRST).await?));
    assert_eq!(keys(&client.list_keys().await?), both[1..]);
    match client.use_key(FIRST).await {
        Err(CallError {
            kind: CallErrorKind::Keys { reply, .. },
            ..
        }) => ensure!(reply.errors == 2, "{reply:?}"),
        other => bail!("a key that nobody has is used: {other:?}"),
    }
    Ok(())
}

async fn refuses(lab: &TestEnv, serf: &Serf) -> Result<()> {
    let [a, _b] = pair(lab, serf, None).await?;
    let client = serf.connect_options(&a).connect().await?;
    let refused = [
        client.install_key(FIRST).await,
        client.use_key(FIRST).await,
        client.remove_key(FIRST).await,
        client.list_keys().await,
    ];
    for refused in refused {
        let Err(CallError {
            kind: CallErrorKind::Keys { message, reply, .. },
            ..
        }) = refused
        else {
            bail!("{refused:?}")
        };
        ensure!(message.starts_with(b"2/2 nodes"), "{message}");
        let names: Vec<_> = reply.messages.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b"]);
    }
    match client.install_key("no base64").await {
        Err(CallError {
            kind: CallErrorKind::Keys { reply, .. },
            ..
        }) => assert_eq!(reply.nodes, 0),
        other => bail!("{other:?}"),
    }
    assert_eq!(client.members().await?.len(), 2);
    Ok(())
}
