//! A template and the config it is used with in, what would break without an error out. Pure.

use std::net::{Ipv4Addr, SocketAddr};

use super::{RenderError, Rendered, Renderer, Server, Servers};
use crate::config::Config;
use crate::haproxy::Stamp;
use crate::haproxy::lines::{Line, Lines};
use crate::haproxy::time;
use crate::model::{BackendName, ServerName, Weight};

/// Something that a template must do and does not. `check` refuses it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Without the stamp nobody can say which text a worker started with.
    #[error(
        "the section global does not print the stamp; add the line: description \"serf-haproxy {{{{ stamp }}}}\""
    )]
    NoStamp,
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

impl Renderer {
    /// The text with an invented server, ready, in each backend.
    ///
    /// # Errors
    /// Those of [`Renderer::render`].
    pub fn specimen(&self, config: &Config) -> Result<Rendered, RenderError> {
        self.render(config, &invented(config, true))
    }

    /// Renders with invented servers and looks at what comes out.
    ///
    /// # Errors
    /// When the template cannot be rendered with none, with a ready and with an unready server in each backend.
    pub fn audit(&self, config: &Config) -> Result<Vec<Finding>, RenderError> {
        let bare = self.render(config, &Servers::new())?;
        let ready = self.specimen(config)?;
        let unready = self.render(config, &invented(config, false))?;
        let stamp = ready.stamp.clone();
        let [bare, ready, unready] = [bare, ready, unready].map(|text| Lines::parse(&text.text));
        let mut findings = Vec::new();
        if !global(&ready)
            .filter(|line| line.word(0) == "description")
            .filter_map(|line| Stamp::from_description(&line.words.get(1..)?.join(" ")))
            .any(|found| found == stamp)
        {
            findings.push(Finding::NoStamp);
        }
        for backend in &config.backends {
            let disabled = |lines| {
                member_line(lines, &bare, backend.name.as_str())
                    .map(|line| line.words.iter().any(|word| word == "disabled"))
            };
            match (disabled(&ready), disabled(&unready)) {
                (Some(false), Some(true)) => {}
                (None, _) => findings.push(Finding::NoServers(backend.name.clone())),
                _ => findings.push(Finding::NotDisabled(backend.name.clone())),
            }
        }
        findings.extend(hard_stop(&ready, config));
        Ok(findings)
    }
}

/// The lines of all sections `global`.
fn global(lines: &Lines) -> impl Iterator<Item = &Line> {
    lines.named("global", "").flat_map(|section| &section.lines)
}

fn hard_stop(lines: &Lines, config: &Config) -> Vec<Finding> {
    let limit = global(lines).find(|line| line.word(0) == "hard-stop-after");
    let limit = limit.map(|line| line.word(1));
    let Some((limit, millis)) = limit.and_then(|limit| Some((limit, time::millis(limit)?))) else {
        return Vec::new();
    };
    let longer = config
        .backends
        .iter()
        .filter(|backend| backend.drain.timeout.as_millis() > millis);
    longer
        .map(|backend| Finding::HardStop {
            backend: backend.name.clone(),
            limit: limit.to_owned(),
        })
        .collect()
}

fn invented(config: &Config, ready: bool) -> Servers {
    let name = ServerName::new("audit");
    let server = name.map(|name| Server {
        name,
        addr: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 80)),
        weight: Weight::DEFAULT,
        ready,
    });
    config
        .backends
        .iter()
        .map(|backend| (backend.name.clone(), server.iter().cloned().collect()))
        .collect()
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
