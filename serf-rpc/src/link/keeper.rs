//! Keeping a connection with one of several agents: addresses in, one client after the other out.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::client::{Client, ConnectOptions};

use super::LinkOptions;
use crate::error::WatchError;

/// The connection there is, and with which agent.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) agent: ConnectOptions,
}

/// Where the connection is published; none while there is none.
pub(crate) type Links = watch::Receiver<Option<Link>>;

/// What is done with a connection, and when there is none.
pub(crate) trait Session {
    /// Uses a connection until it is of no use any more, and says why.
    fn attend(&mut self, link: &Link) -> impl Future<Output = WatchError> + Send;

    /// There is no connection with that agent; says whether there was one.
    fn lost(&mut self, agent: &ConnectOptions, error: Arc<WatchError>) -> bool;
}

/// Goes from one connection to the next, until all agents refuse in a way that must fail again; says why then.
pub(crate) async fn keep(
    options: &LinkOptions,
    links: &watch::Sender<Option<Link>>,
    session: &mut impl Session,
) -> Arc<WatchError> {
    let _none_at_the_end = Clear(links);
    let agents = &options.agents;
    let mut refuse_for_good = vec![false; agents.len()];
    let mut pauses = options.pauses();
    let mut tried = 0;
    for (at, agent) in agents.iter().enumerate().cycle() {
        let began = Instant::now();
        let error = match agent.connect().await {
            Ok(client) => {
                let agent = agent.clone();
                let link = Link { client, agent };
                links.send_replace(Some(link.clone()));
                let error = session.attend(&link).await;
                links.send_replace(None);
                error
            }
            Err(error) => error.into(),
        };
        let error = Arc::new(error);
        if let Some(refuses) = refuse_for_good.get_mut(at) {
            *refuses = error.is_permanent();
        }
        let was_connected = session.lost(agent, Arc::clone(&error));
        if !options.keeps_trying && refuse_for_good.iter().all(|refuses| *refuses) {
            return error;
        }
        if began.elapsed() > options.retry.1 {
            pauses = options.pauses();
        }
        tried += 1;
        if was_connected || tried == agents.len() {
            tried = 0;
            sleep(pauses.next().unwrap_or(options.retry.1)).await;
        }
    }
    Arc::new(WatchError::NoAgents)
}

/// However it ends, nobody is left with the last connection.
struct Clear<'a>(&'a watch::Sender<Option<Link>>);

impl Drop for Clear<'_> {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}

/// The connection, once there is one that is not lost, and not the one before; none where there will be none.
pub(crate) async fn connected(links: &mut Links, before: Option<&Client>) -> Option<Link> {
    let such = |link: &Option<Link>| {
        link.as_ref().is_some_and(|link| {
            link.client.lost().is_none() && before.is_none_or(|before| !before.is(&link.client))
        })
    };
    links.wait_for(such).await.ok()?.clone()
}

/// Returns when the connection is not the one that is kept any more.
pub(crate) async fn replaced(links: &mut Links, client: &Client) {
    let other = |link: &Option<Link>| link.as_ref().is_none_or(|link| !link.client.is(client));
    // That nobody keeps one any more replaces it as well.
    let _ = links.wait_for(other).await;
}
