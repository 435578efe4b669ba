//! Who lets a new server in: a backend's config and the text that HAProxy runs in, an [`Admission`] out. Pure.
//!
//! The controller's own probe admits within milliseconds, but only where it asks the very thing that HAProxy's check
//! asks. What that is, the server line and its section say, not the config: `server_options` or a template may make
//! the line speak TLS where the config's `check` does not. Where the two differ, HAProxy's first check admits and the
//! probe only connects.

mod spoken;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{BackendConfig, CheckConfig, ProbeMode};
use crate::model::BackendName;
use crate::syntax::ConfigText;

use spoken::Spoken;

/// How the servers of a backend are let in, and what is asked of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// HAProxy checks its servers.
    pub checked: bool,
    /// Who lets a new server in.
    pub by: Admits,
    /// What the controller's own probe asks.
    pub asks: Arc<CheckConfig>,
    /// How often HAProxy checks (`inter`).
    pub interval: Duration,
    /// Why it is not the one that `probe` asks for.
    pub instead: Option<Instead>,
}

/// Who lets a new server in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// The controller's own probe, answered well.
    Probe,
    /// HAProxy's first check that comes back good.
    GoodCheck,
    /// HAProxy's first check that comes back, good or bad.
    AnyCheck,
}

/// Why another admits than the one that `probe` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// The line checks otherwise than the config says; a line of the file or a part of one.
    Differs(String),
    /// The lines have no `check`, so that HAProxy's cannot admit.
    NoCheck,
}

impl Admission {
    /// Reads what HAProxy's check asks from the first member's line of the backend in `text`; where there is none that
    /// can be read, it is taken to ask what the config says.
    pub fn of(backend: &BackendConfig, text: &ConfigText) -> Self {
        let own = backend.check.clone().unwrap_or_default();
        let readable = text.opaque(&backend.name).is_none();
        let line = text.servers(&backend.name).next().filter(|_| readable);
        let Some(line) = line else {
            return Self::meant(backend);
        };
        let admission = |by, asks, instead| Self {
            checked: line.options.check(),
            by,
            asks: Arc::new(asks),
            interval: spoken::interval(&line.options),
            instead,
        };
        if !line.options.check() {
            let instead = (backend.probe != ProbeMode::On).then_some(Instead::NoCheck);
            return admission(Admits::Probe, own, instead);
        }
        let asked = Spoken::by_line(&line.options, &text.lines(&backend.name));
        let connect = connection(spoken::port(&line.options));
        match (backend.probe, asked) {
            (ProbeMode::Off, _) => admission(Admits::GoodCheck, connect, None),
            (ProbeMode::Check, _) => admission(Admits::AnyCheck, connect, None),
            (ProbeMode::On, Ok(asked)) => match asked.difference(&own) {
                None => admission(Admits::Probe, own, None),
                Some(part) => admission(Admits::GoodCheck, connect, Some(Instead::Differs(part))),
            },
            (ProbeMode::On, Err(odd)) => {
                admission(Admits::GoodCheck, connect, Some(Instead::Differs(odd)))
            }
        }
    }

    /// As the config says, before anything was rendered.
    pub fn meant(backend: &BackendConfig) -> Self {
        let own = backend.check.clone().unwrap_or_default();
        let interval = own.interval;
        let (by, asks) = match backend.probe {
            ProbeMode::On => (Admits::Probe, own),
            ProbeMode::Off => (Admits::GoodCheck, connection(own.port)),
            ProbeMode::Check => (Admits::AnyCheck, connection(own.port)),
        };
        Self {
            checked: backend.check.is_some(),
            by,
            asks: Arc::new(asks),
            interval,
            instead: None,
        }
    }
}

/// What HAProxy's check asks of the servers of this backend, in the words of the config's `check`; none where that cannot say
/// it, or nothing is asked.
pub fn asked(backend: &BackendName, text: &ConfigText) -> Option<CheckConfig> {
    let line = text.servers(backend).next()?;
    let is_checked = text.opaque(backend).is_none() && line.options.check();
    let lines = text.lines(backend);
    let spoken = Spoken::by_line(&line.options, &lines).ok()?;
    let config = spoken.config();
    let says = is_checked && config.can_be_written() && spoken.difference(&config).is_none();
    says.then_some(config)
}

fn connection(port: Option<u16>) -> CheckConfig {
    CheckConfig {
        port,
        ..CheckConfig::default()
    }
}

/// For people, behind the name of the backend: who lets its servers in.
impl fmt::Display for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Admits::Probe => write!(f, "admitted by the controller's own probe ({})", self.asks)?,
            Admits::GoodCheck => f.write_str("admitted by HAProxy's first good check")?,
            Admits::AnyCheck => {
                f.write_str(
                    "admitted by HAProxy's first check, good or bad; then HAProxy alone decides",
                )?;
            }
        }
        match &self.instead {
            None => Ok(()),
            Some(Instead::NoCheck) => {
                f.write_str(", because its lines have no `check` that could admit")
            }
            Some(Instead::Differs(part)) => write!(
                f,
                ", because its line checks otherwise than `check` of the config says: {part}"
            ),
        }
    }
}
