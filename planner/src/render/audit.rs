//! A template and the config it is used with in, what would break without an error out. Pure.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

use super::{Origin, RenderError, Rendered, Renderer, Server, Servers};
use crate::config::Config;
use crate::model::{BackendName, ServerName, Weight};
use crate::stamp::Stamp;
use crate::syntax::lines::{Line, Lines};
use crate::syntax::time;

/// Something that a template must do and does not. `check` refuses it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Without the stamp nobody can say which text a worker started with.
    #[error(
        "the section global does not print the stamp; add the line: description \"serf-haproxy {{{{ stamp }}}}\""
    )]
    NoStamp,
    /// HAProxy says the last description that it reads: the stamp would not be seen in any worker.
    #[error(
        "`{0}` takes the place of the stamp, as HAProxy keeps the last description; take that line out, or put it above: \
         description \"serf-haproxy {{{{ stamp }}}}\""
    )]
    OtherDescription(String),
    /// The line with the stamp may not be in force.
    #[error(
        "the stamp is inside `.if`, and may not be in force; take out of it: description \"serf-haproxy {{{{ stamp }}}}\""
    )]
    ConditionalStamp,
    /// A server of this backend has no line.
    #[error(
        "no server of backend {0} is printed; include \"servers.cfg.j2\" there, or take the backend out of the config"
    )]
    NoServers(BackendName),
    /// A reload or restart would open a server that nothing has proven.
    #[error(
        "a server of backend {0} that is not ready is not printed `disabled`; add: {{% if not server.ready %}} disabled{{% endif %}}"
    )]
    NotDisabled(BackendName),
    /// A reload would cut requests earlier than a drain.
    #[error(
        "hard-stop-after is {limit}, shorter than the drain.timeout of backend {backend}; raise the one or lower the other"
    )]
    HardStop {
        /// The backend.
        backend: BackendName,
        /// What the template says.
        limit: String,
    },
}

impl Finding {
    /// Whether no worker would tell the stamp: then a reload is never seen to have come into force.
    pub fn hides_stamp(&self) -> bool {
        matches!(
            self,
            Self::NoStamp | Self::OtherDescription(_) | Self::ConditionalStamp
        )
    }
}

/// A [`Finding`] with its place in the template, where it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// What is wrong.
    pub finding: Finding,
    /// The line of the template that is to be changed, or that is near to it.
    pub origin: Option<Origin>,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}", self.finding)
    }
}

impl Renderer {
    /// The text with an invented server, ready, in each backend.
    ///
    /// # Errors
    /// Those of [`Renderer::render`].
    pub(crate) fn specimen(&self, config: &Config) -> Result<Rendered, RenderError> {
        let servers = with_invented(config, &Servers::new(), true, |_| true);
        self.render(config, &servers)
    }

    /// Renders with invented servers and looks at what comes out.
    ///
    /// # Errors
    /// When the template cannot be rendered with none, with a ready and with an unready server in each backend.
    pub fn audit(&self, config: &Config) -> Result<Vec<Flaw>, RenderError> {
        let bare = self.render(config, &Servers::new())?;
        let ready = self.specimen(config)?;
        let unready = with_invented(config, &Servers::new(), false, |_| true);
        let unready = self.render(config, &unready)?;
        let rendered = &ready;
        let [bare, ready, unready] =
            [&bare, rendered, &unready].map(|text| Lines::parse(&text.text));
        let flaw = |finding, line: Option<&Line>| Flaw {
            finding,
            origin: line.and_then(|line| rendered.origin(line.number)).cloned(),
        };
        let mut flaws = Vec::new();
        if let Some((finding, line)) = hidden_stamp(&ready, &rendered.stamp) {
            flaws.push(flaw(finding, line));
        }
        for backend in &config.backends {
            let name = backend.name.as_str();
            let line = member_line(&ready, &bare, name);
            let disabled = |line: &Line| line.words.iter().any(|word| word == "disabled");
            let unready = member_line(&unready, &bare, name).map(disabled);
            match (line.map(disabled), unready) {
                (Some(false), Some(true)) => {}
                (None, _) => {
                    let finding = Finding::NoServers(backend.name.clone());
                    let mut sections =
                        ["backend", "listen"].map(|kind| ready.named(kind, name).next());
                    let section = sections.iter_mut().find_map(Option::take);
                    flaws.push(flaw(finding, section.map(|section| &section.title)));
                }
                _ => flaws.push(flaw(Finding::NotDisabled(backend.name.clone()), line)),
            }
        }
        let stops = hard_stop(&ready, config).into_iter();
        flaws.extend(stops.map(|(finding, line)| flaw(finding, Some(line))));
        Ok(flaws)
    }
}

/// The lines of all sections `global`.
fn global(lines: &Lines) -> impl DoubleEndedIterator<Item = &Line> {
    let sections: Vec<_> = lines.named("global", "").collect();
    sections.into_iter().flat_map(|section| &section.lines)
}

/// Why a worker that runs this text would not tell its stamp.
fn hidden_stamp<'a>(lines: &'a Lines, stamp: &Stamp) -> Option<(Finding, Option<&'a Line>)> {
    let is_ours = |line: &&Line| -> bool {
        let said = line.words.get(1..).map(|words| words.join(" "));
        said.and_then(|said| Stamp::from_description(&said))
            .as_ref()
            == Some(stamp)
    };
    let descriptions: Vec<&Line> = global(lines)
        .filter(|line| line.word(0) == "description")
        .collect();
    let Some(ours) = descriptions.iter().rposition(is_ours) else {
        let title = lines
            .named("global", "")
            .next()
            .map(|section| &section.title);
        return Some((Finding::NoStamp, title));
    };
    if let Some(later) = descriptions.get(ours + 1) {
        return Some((
            Finding::OtherDescription(later.words.join(" ")),
            Some(later),
        ));
    }
    let ours = descriptions.get(ours)?;
    ours.conditional
        .then_some((Finding::ConditionalStamp, Some(*ours)))
}

fn hard_stop<'a>(lines: &'a Lines, config: &Config) -> Vec<(Finding, &'a Line)> {
    let line = global(lines).find(|line| line.word(0) == "hard-stop-after");
    let limit = line.map(|line| (line, line.word(1)));
    let Some((line, limit, millis)) =
        limit.and_then(|(line, limit)| Some((line, limit, time::millis(limit)?)))
    else {
        return Vec::new();
    };
    let longer = config
        .backends
        .iter()
        .filter(|backend| backend.drain.timeout.as_millis() > millis);
    longer
        .map(|backend| {
            let finding = Finding::HardStop {
                backend: backend.name.clone(),
                limit: limit.to_owned(),
            };
            (finding, line)
        })
        .collect()
}

/// These servers, and one more, invented, in each backend that is asked for.
pub fn with_invented(
    config: &Config,
    servers: &Servers,
    ready: bool,
    wanted: impl Fn(&BackendName) -> bool,
) -> Servers {
    let mut servers = servers.clone();
    let Some(name) = free_name(&servers) else {
        return servers;
    };
    for backend in config
        .backends
        .iter()
        .filter(|backend| wanted(&backend.name))
    {
        let all = servers.entry(backend.name.clone()).or_default();
        all.push(Server {
            name: name.clone(),
            addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 80)),
            weight: Weight::DEFAULT,
            ready,
            details: std::sync::Arc::default(),
        });
        all.sort_by(|a, b| a.name.cmp(&b.name));
    }
    servers
}

/// A name that none of them has.
fn free_name(servers: &Servers) -> Option<ServerName> {
    let taken = |name: &ServerName| {
        servers
            .values()
            .flatten()
            .any(|server| server.name == *name)
    };
    let more = (2..).map(|number| format!("invented-{number}"));
    let mut names = std::iter::once("invented".to_owned()).chain(more);
    names.find_map(|name| ServerName::new(name).filter(|name| !taken(name)))
}

/// The first server line of this backend that is not in the text without any member.
fn member_line<'a>(lines: &'a Lines, bare: &Lines, backend: &str) -> Option<&'a Line> {
    ["backend", "listen"].into_iter().find_map(|kind| {
        let is_fixed = |line: &Line| {
            let mut fixed = bare.named(kind, backend).flat_map(|section| &section.lines);
            fixed.any(|fixed| fixed.words == line.words)
        };
        let mut lines = lines
            .named(kind, backend)
            .flat_map(|section| &section.lines);
        lines.find(|line| line.word(0) == "server" && !is_fixed(line))
    })
}
