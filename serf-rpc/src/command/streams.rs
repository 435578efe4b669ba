//! Commands that begin and end streams: what to subscribe to in, request bodies out.

use crate::types::{EventFilter, LogLevel};
use crate::wire::codec::Writer;

use super::{Command, Records};

/// `stream`: events as they leave the agent's coalescer.
pub(crate) struct Stream<'a> {
    pub(crate) filter: &'a EventFilter,
}

impl Command for Stream<'_> {
    const NAME: &'static str = "stream";
    type Response = Records;

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(1)
            .str("Type")
            .str(self.filter.as_bytes());
    }
}

/// `monitor`: the agent's log, the last 512 lines first.
pub(crate) struct Monitor {
    pub(crate) level: LogLevel,
}

impl Command for Monitor {
    const NAME: &'static str = "monitor";
    type Response = Records;

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body)
            .map(1)
            .str("LogLevel")
            .str(self.level.as_str());
    }
}

/// `stop`: ends the stream or monitor that was begun with that sequence number.
pub(crate) struct Stop {
    pub(crate) stream: u64,
}

impl Command for Stop {
    const NAME: &'static str = "stop";
    type Response = ();

    fn write_body(&self, body: &mut Vec<u8>) {
        Writer::new(body).map(1).str("Stop").uint(self.stream);
    }

    fn stops(&self) -> Option<u64> {
        Some(self.stream)
    }
}
