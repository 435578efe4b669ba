//! The config file: its path and the environment in, a checked [`Config`] or everything that is wrong with it out.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use controller::config::ConfigError;
use planner::config::node::Node;
use planner::config::section::Section;
use planner::config::source::Variables;
use planner::config::value::{HOUR, SECOND, agent, boolean, one_of, path, some, tag_name, time};
use planner::config::{self, Control, Http, SocketMode};
use planner::section;

use crate::instances::Rules;
use crate::labels::{Key, Reach};
use crate::tags::Names;

/// Where the config is, unless somebody says else.
pub const PATH: &str = "/etc/serf-docker/config.toml";

const VARIABLES: Variables = Variables {
    prefix: "SERF_DOCKER_",
    command_line: &["CONFIG", "LOG_FORMAT", "LOG_LEVEL", "CONTROL_SOCKET"],
};

section! {
    /// All settings, checked.
    pub struct Config {
        /// Where the containers are seen.
        pub docker: Docker = Docker::default(), Docker::read;
        /// This host's agent.
        pub serf: Serf = Serf::default(), Serf::read;
        /// How labels are read.
        pub labels: Labels = Labels::default(), Labels::read;
        /// How tags are written.
        pub tags: Tags = Tags::default(), Tags::read;
        /// How changes gather.
        pub debounce: Debounce = Debounce::default(), Debounce::read;
        /// The HTTP listener; none where the section is left out.
        pub http: Option<Http> = None, some(http);
        /// The control socket.
        pub control: Control = default_control(), control;
    }

    /// `[docker]`: Docker's API.
    pub struct Docker {
        /// Its unix socket, or that of a proxy that allows `GET /version`, `/events` and `/containers/json`.
        pub socket: PathBuf = "/run/docker.sock".into(), path;
        /// How long a container may take to end once it was told to; one that runs on for longer is announced again.
        pub stop_timeout: Duration = Duration::from_secs(300), time(SECOND..=HOUR);
        /// How often all containers are listed though nothing was heard.
        pub resync: Duration = Duration::from_secs(60), time(SECOND..=HOUR);
    }

    /// `[serf]`: this host's agent.
    pub struct Serf {
        /// Its RPC address, `host:port`.
        pub addr: String = "127.0.0.1:7373".to_owned(), agent;
        /// A file with the RPC auth key.
        pub auth_key_file: Option<PathBuf> = None, some(path);
        /// How often its tags are read again though nothing has changed.
        pub resync: Duration = Duration::from_secs(10), time(SECOND..=HOUR);
    }

    /// `[labels]`: how labels are read.
    pub struct Labels {
        /// What labels of ours begin with.
        pub prefix: String = "serf.".to_owned(), prefix;
        /// Where a container is reached whose labels do not say it.
        pub address: Reach = Reach::Host, one_of([("host", Reach::Host), ("container", Reach::Container)]);
    }

    /// `[tags]`: how tags are written. Their names are those of `[tags]` in the balancers' config.
    pub struct Tags {
        /// The services.
        pub services: String = "svc".to_owned(), tag_name;
        /// The host of one, with `.SERVICE` behind it.
        pub host: String = "host".to_owned(), tag_name;
        /// Its path.
        pub path: String = "path".to_owned(), tag_name;
        /// Its weight.
        pub weight: String = "weight".to_owned(), tag_name;
        /// What it is to be.
        pub state: String = "state".to_owned(), tag_name;
        /// What it speaks.
        pub proto: String = "proto".to_owned(), tag_name;
        /// Whether it is a reserve.
        pub backup: String = "backup".to_owned(), tag_name;
        /// Whether they stay when serf-docker is told to end.
        pub keep_on_exit: bool = false, boolean;
    }

    /// `[debounce]`: how changes gather.
    pub struct Debounce {
        /// Without a change for so long, the gathered ones are written.
        pub quiet: Duration = Duration::from_millis(100), time(Duration::ZERO..=HOUR);
        /// At the latest after so long.
        pub max_wait: Duration = SECOND, time(Duration::ZERO..=HOUR);
    }
}

fn default_control() -> Control {
    Control {
        socket: "/run/serf-docker/control.sock".into(),
        ..Control::default()
    }
}

fn control(node: &Node<'_>) -> Option<Control> {
    let mut control = default_control().over(node)?;
    if control.group.is_some() && !node.has("mode") {
        control.mode = SocketMode::GROUP;
    }
    Some(control)
}

fn http(node: &Node<'_>) -> Option<Http> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 9281));
    let default = Http {
        listen,
        ..Http::default()
    };
    default.over(node)
}

fn prefix(node: &Node<'_>) -> Option<String> {
    let is_safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/');
    let what = "what labels begin with, such as \"serf.\"";
    node.parse(what, |text| {
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_safe);
        fits.then(|| text.to_owned())
    })
}

impl Config {
    /// Reads the file, takes the variables of `env` over it and checks everything. Without the file of [`PATH`]
    /// everything has its default.
    ///
    /// # Errors
    /// When the file cannot be read, or all that is wrong with it.
    pub fn load(
        path: &Path,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound && path == Path::new(PATH) => {
                Vec::new()
            }
            read => read.map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })?,
        };
        let config = config::read(bytes, VARIABLES, env, Self::read, Self::between);
        config.map_err(|diagnostics| ConfigError::Invalid {
            path: path.to_owned(),
            diagnostics,
        })
    }

    /// What several keys must not say together.
    fn between(&self, root: &Node<'_>) {
        if self.debounce.max_wait < self.debounce.quiet {
            let message = "is shorter than quiet, so that it would never be quiet for long enough";
            root.complain("debounce.max_wait", message);
        }
        let names = self.names();
        let mut seen = std::collections::BTreeSet::from([&names.services]);
        for (key, name) in &names.details {
            if !seen.insert(name) {
                let message = format!("another tag is called {name:?} already");
                root.complain(&format!("tags.{}", key.as_str()), message);
            }
        }
    }

    /// The control socket, for those who only want to talk to it: the rest of the file may be wrong.
    pub fn control_socket(path: &Path, env: impl IntoIterator<Item = (String, String)>) -> PathBuf {
        let config = Self::load(path, env);
        config.map_or_else(|_| default_control().socket, |config| config.control.socket)
    }

    /// What the tags are called.
    pub fn names(&self) -> Names {
        let tags = &self.tags;
        let details = [
            (Key::Host, &tags.host),
            (Key::Path, &tags.path),
            (Key::Weight, &tags.weight),
            (Key::State, &tags.state),
            (Key::Proto, &tags.proto),
            (Key::Backup, &tags.backup),
        ];
        Names {
            services: tags.services.clone(),
            details: BTreeMap::from(details.map(|(key, name)| (key, name.clone()))),
        }
    }

    /// How labels are read.
    pub fn rules(&self) -> Rules {
        Rules {
            prefix: self.labels.prefix.clone(),
            reach: self.labels.address,
            patience: i64::try_from(self.docker.stop_timeout.as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// The keys that differ and wait for the next start.
    pub fn needs_restart(&self, started_with: &Self) -> Vec<&'static str> {
        let differs = self.control != started_with.control;
        if differs { vec!["control"] } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(file.path(), env).map_err(|error| {
            error
                .to_string()
                .replace(&file.path().display().to_string(), "FILE")
        })
    }

    #[test]
    fn the_sample_says_every_default() {
        let sample = include_str!("../config.sample.toml");
        assert_eq!(read(sample, &[]), Ok(Config::default()));
        // With what is left out by default all is a config, too.
        let all: String = sample
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(key) if key.starts_with('[') || key.split(' ').nth(1) == Some("=") => {
                    format!("{key}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let config = read(&all, &[]).unwrap();
        assert!(
            config.http.is_some()
                && config.serf.auth_key_file.is_some()
                && config.control.group.is_some()
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_all_at_once() {
        let error = read(
            "[docker]\nsocket = \"x\"\n[lables]\n[debounce]\nquiet = \"2s\"\nmax_wait = 1\n",
            &[],
        );
        assert_eq!(
            error.unwrap_err(),
            "FILE:2:10: docker.socket: not an absolute path; begin it with `/`\n\
             FILE:3:2: lables: unknown key; did you mean `labels`?\n\
             FILE:6:12: debounce.max_wait: expected a time span with its unit, such as \"200ms\", found integer"
        );
        let error = read("[tags]\nhost = \"svc\"\n", &[]).unwrap_err();
        assert_eq!(
            error,
            "FILE:2:8: tags.host: another tag is called \"svc\" already"
        );
    }

    #[test]
    fn a_variable_goes_before_the_file() {
        let config = read(
            "[tags]\nkeep_on_exit = false\n",
            &[
                ("SERF_DOCKER_TAGS_KEEP_ON_EXIT", "true"),
                ("SERF_DOCKER_LOG_LEVEL", "debug"),
            ],
        );
        assert!(config.unwrap().tags.keep_on_exit);
        let error = read("", &[("SERF_DOCKER_TAGS_KEP", "true")]).unwrap_err();
        assert!(error.starts_with("SERF_DOCKER_TAGS_KEP: "), "{error}");
    }
}
