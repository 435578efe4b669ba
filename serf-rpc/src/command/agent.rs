//! Commands about the connection and the agent itself: handshake, key, figures, coordinate.

use crate::types::{Coordinate, Stats};
use crate::wire::codec::{DecodeError, Reader, Writer};
use crate::wire::protocol::{self, ResponseShape};

use super::{Command, Response};

/// `handshake`: the first command of a connection.
pub(crate) struct Handshake;

impl Command for Handshake {
    const NAME: &'static str = "handshake";
    type Response = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(1)
            .str("Version")
            .uint(protocol::VERSION);
    }
}

/// `auth`: an agent without a key accepts the empty one.
pub(crate) struct Auth<'a> {
    pub(crate) key: &'a str,
}

impl Command for Auth<'_> {
    const NAME: &'static str = "auth";
    type Response = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body).map(1).str("AuthKey").str(self.key);
    }
}

/// `stats`: figures of the agent.
pub(crate) struct StatsCommand;

impl Command for StatsCommand {
    const NAME: &'static str = "stats";
    type Response = Stats;

    fn write_body(&self, _: &mut Vec<u8>) {}
}

/// The groups of figures.
impl Response for Stats {
    const SHAPE: ResponseShape = ResponseShape::Body;

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut stats = Self::default();
        Reader::whole(body, |reader| {
            reader.fields(|group, figures| {
                let group = stats.group_mut(group);
                figures.fields(|key, value| {
                    group.insert(key.into(), value.bytes()?.into());
                    Ok(())
                })
            })
        })?;
        Ok(stats)
    }
}

/// `get-coordinate`: where a member is in the network.
pub(crate) struct GetCoordinate<'a> {
    pub(crate) node: &'a [u8],
}

impl Command for GetCoordinate<'_> {
    const NAME: &'static str = "get-coordinate";
    type Response = Option<Coordinate>;

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body).map(1).str("Node").str(self.node);
    }
}

impl Response for Option<Coordinate> {
    const SHAPE: ResponseShape = ResponseShape::Body;

    fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let (mut coordinate, mut known) = (Coordinate::default(), false);
        Reader::whole(body, |reader| {
            reader.fields(|key, value| {
                match key {
                    b"Coord" => coordinate = Coordinate::decode(value)?,
                    b"Ok" => known = value.boolean()?,
                    _ => value.skip()?,
                }
                Ok(())
            })
        })?;
        Ok(known.then_some(coordinate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recordings::{LIMITS, fixtures};
    use crate::wire::framing::Scanner;

    #[test]
    fn the_recorded_figures_are_read() {
        for (name, bytes) in fixtures("stats.resp.bin") {
            let header = Scanner::new(LIMITS).next_end(&bytes).unwrap().unwrap();
            let stats = Stats::decode(&bytes[header..]).unwrap();
            assert!(stats.agent_name().is_some(), "{name}");
            assert!(stats.figure("serf", "members").is_some(), "{name}");
            assert!(stats.figure("serf", "nothing").is_none(), "{name}");
            assert_eq!(stats.encrypted(), Some(false), "{name}");
            let counts = [
                stats.members(),
                stats.failed(),
                stats.left(),
                stats.health_score(),
            ];
            assert_eq!(counts.map(|count| count.is_some()), [true; 4], "{name}");
            let clocks = [stats.member_time(), stats.event_time(), stats.query_time()];
            assert_eq!(clocks.map(|clock| clock.is_some()), [true; 3], "{name}");
            let queues = [
                stats.intent_queue(),
                stats.event_queue(),
                stats.query_queue(),
            ];
            assert_eq!(queues.map(|queue| queue.is_some()), [true; 3], "{name}");
            assert_eq!(stats.coordinate_resets(), Some(0), "{name}");
        }
    }
}
