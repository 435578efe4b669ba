//! A map in the running worker: read, and changed to hold the wanted entries, on one connection.

use std::path::Path;

use planner::model::Worker;
use planner::route::map::{Change, Entries, changes, commands, refusal, shown, version};
use planner::runtime::reply;

use super::runtime::{RuntimeApi, RuntimeError, same};
use super::session::Session;

/// More changes than these are made as one new version of the map, which takes the place of the one before at once.
const MANY: usize = 100;

/// What became of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// What was changed; nothing where it was as it is wanted.
    pub changes: Vec<Change>,
    /// The first thing that HAProxy did not do.
    pub refused: Option<String>,
}

impl RuntimeApi {
    /// Makes the map of this file hold these entries in the worker that is meant, and no other; none where the worker was
    /// started without it.
    ///
    /// # Errors
    /// [`RuntimeError`]; some of the changes may have been made.
    pub async fn fill_map(
        &self,
        worker: &Worker,
        file: &Path,
        wanted: &Entries,
    ) -> Result<Option<Mapped>, RuntimeError> {
        let show = format!("show map {}", file.display());
        let first = ["show info", show.as_str()];
        let open = async |door| Session::open(door, &first).await;
        let (mut session, replies) = self.by_any_way(open).await?;
        let [info, map] = replies.as_slice() else {
            return Err(RuntimeError::Pairing {
                socket: self.socket().to_owned(),
            });
        };
        same(worker, &reply::info(info)?)?;
        let Some(running) = shown(map) else {
            session.close().await?;
            return Ok(None);
        };
        let changes = changes(&running, wanted);
        let refused = if changes.len() > MANY {
            replace(&mut session, file, wanted).await?
        } else {
            let lines = changes.iter().map(|change| change.command(file));
            ask(&mut session, &lines.collect::<Vec<_>>()).await?
        };
        session.close().await?;
        Ok(Some(Mapped { changes, refused }))
    }
}

/// Makes a new version of the map, and puts it in the place of the one in force.
async fn replace(
    session: &mut Session<'_>,
    file: &Path,
    wanted: &Entries,
) -> Result<Option<String>, RuntimeError> {
    let prepare = format!("prepare map {}", file.display());
    let replies = session.ask(&[&prepare]).await?;
    let reply = replies.first().map_or("", String::as_str);
    let Some(version) = version(reply) else {
        return Ok(Some(format!("{prepare}: {}", reply.trim())));
    };
    ask(session, &commands(version, file, wanted)).await
}

/// Says what HAProxy answered to the first line that it did not do.
async fn ask(session: &mut Session<'_>, lines: &[String]) -> Result<Option<String>, RuntimeError> {
    let replies = session
        .ask(&lines.iter().map(String::as_str).collect::<Vec<_>>())
        .await?;
    let mut answered = lines.iter().zip(&replies);
    Ok(answered.find_map(|(line, reply)| {
        let refusal = refusal(reply)?;
        Some(format!("{line}: {refusal}"))
    }))
}
