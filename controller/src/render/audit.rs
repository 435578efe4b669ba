//! A template and the config it is used with in, what would break without an error out. Pure.

use std::net::{Ipv4Addr, SocketAddr};

use super::{RenderError, Rendered, Renderer, Server, Servers};
use crate::config::Config;
use crate::model::{BackendName, ServerName, Weight};
use crate::plan::SECTIONS;

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
        let mut findings = Vec::new();
        let stamp = format!("serf-haproxy {}", ready.stamp.0);
        if !section(&ready.text, &["global"])
            .any(|line| line.starts_with("description ") && line.contains(&stamp))
        {
            findings.push(Finding::NoStamp);
        }
        for backend in &config.backends {
            let disabled = |text| {
                member_words(text, &bare.text, backend.name.as_str())
                    .map(|mut words| words.any(|w| w == "disabled"))
            };
            match (disabled(&ready.text), disabled(&unready.text)) {
                (Some(false), Some(true)) => {}
                (None, _) => findings.push(Finding::NoServers(backend.name.clone())),
                _ => findings.push(Finding::NotDisabled(backend.name.clone())),
            }
        }
        findings.extend(hard_stop(&ready.text, config));
        Ok(findings)
    }
}

fn hard_stop(text: &str, config: &Config) -> Vec<Finding> {
    let limit = section(text, &["global"])
        .find_map(|line| line.strip_prefix("hard-stop-after ").map(str::trim));
    let Some((limit, millis)) = limit.and_then(|limit| Some((limit, millis(limit)?))) else {
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

/// A time as HAProxy writes it, milliseconds where it has no unit (Configuration Manual, section 2.5 "Time format").
pub(crate) fn millis(text: &str) -> Option<u128> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit {
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(number.parse::<u128>().ok()?.saturating_mul(factor))
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

/// The words of the first server line of this backend that is not in the text without any member.
fn member_words<'a>(
    text: &'a str,
    bare: &str,
    backend: &str,
) -> Option<impl Iterator<Item = &'a str>> {
    let line = |kind| {
        let is_fixed = |line: &str| section(bare, &[kind, backend]).any(|fixed| fixed == line);
        section(text, &[kind, backend]).find(|line| line.starts_with("server ") && !is_fixed(line))
    };
    line("backend")
        .or_else(|| line("listen"))
        .map(str::split_whitespace)
}

/// The lines of the sections that begin with these words, without blanks around them.
fn section<'a, 'b>(
    text: &'a str,
    begins: &'b [&'b str],
) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
    let mut inside = false;
    text.lines().map(str::trim).filter(move |line| {
        let mut words = line.split_whitespace();
        if words
            .clone()
            .next()
            .is_some_and(|word| SECTIONS.contains(&word))
        {
            inside = begins.iter().all(|wanted| words.next() == Some(wanted));
            return false;
        }
        inside
    })
}
