//! A site's haproxy.cfg in, the template and the config that take its place out, with what there is to know of them.
//!
//! It reads only: what it proposes is written into a folder of the caller's ([`Files`]), and over nothing.

mod files;
mod proposal;
mod report;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use planner::admission;
use planner::config::{CheckConfig, Config, Diagnostic};
use planner::encoding::{NotUtf8, decode};
use planner::migrate::{
    Already, Around, MigrateError, Migrated, Migration, Present, already, prove,
};
use planner::model::{BackendName, Servers, Version};
use planner::plan::Join;
use planner::render::{RenderError, Rendered, Renderer, with_invented};
use planner::review::promise::breaches;
use planner::syntax::Scope;
use serf_rpc::{Member, MemberStatus};

pub use files::{CONFIG, Files, FilesError, TEMPLATE, Undone, undo};
pub use report::{AgentSaid, BackendReport, Proof, Report};

use crate::check::around::checking_version;
use crate::check::scratch::Scratch;
use crate::error_chain::chain;
use crate::haproxy::file::{Checked, judge};
use crate::haproxy::message::Level;
use crate::here;
use crate::setup::{self, SetupError, Tag, found};
use proposal::Backend;

/// How long a check may take.
const WAIT: Duration = Duration::from_secs(30);
/// What is assumed where no HAProxy says its version: the oldest that is supported.
const OLDEST: Version = Version { major: 2, minor: 6 };

/// Why there is nothing to propose.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no text.
    #[error("{}:{}: {fault}", path.display(), fault.line)]
    Encoding {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: NotUtf8,
    },
    /// The backends are not there.
    #[error("{}: {source}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: MigrateError,
    },
    /// The key of the agent cannot be read.
    #[error(transparent)]
    Agent(#[from] SetupError),
    /// The template cannot be rendered, which is a fault of the program's.
    #[error("the template that was made cannot be used; please report it with the file")]
    Render(#[from] RenderError),
    /// The config is not right.
    #[error("the config would not be right: {}", .0.iter().map(|found| format!("{}: {}", found.key, found.message)).collect::<Vec<_>>().join("; "))]
    Config(Vec<Diagnostic>),
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The file, by its absolute path.
    pub file: PathBuf,
    /// The backends, with the tags that pick their members; without any they are found, or made up.
    pub backends: Vec<(BackendName, Vec<Tag>)>,
    /// Where the template will be.
    pub template: PathBuf,
    /// The agent's RPC; none is as its own files say.
    pub agent: Option<String>,
    /// A file with its key.
    pub auth_key_file: Option<PathBuf>,
    /// What judges a file; none is the HAProxy of this host.
    pub check_command: Option<Vec<String>>,
}

/// What a file comes to.
#[derive(Debug)]
pub enum Outcome {
    /// There is nothing to do.
    Already(Already),
    /// What is proposed.
    Proposed(Box<Report>),
}

/// The text of the file.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn read(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    decode(bytes).map_err(|fault| Error::Encoding {
        path: path.to_owned(),
        fault,
    })
}

/// Finds out everything; changes nothing.
///
/// # Errors
/// [`Error`].
pub async fn propose(wanted: &Wanted) -> Result<Outcome, Error> {
    let old = read(&wanted.file)?;
    if let Some(already) = already(&old) {
        return Ok(Outcome::Already(already));
    }
    let agent = setup::agent(wanted.agent.as_deref(), wanted.auth_key_file.as_deref())?;
    let asked = setup::members(&agent).await;
    let said = AgentSaid {
        addr: agent.addr.clone(),
        members: asked.as_ref().ok().map(Vec::len),
        error: asked.as_ref().err().map(|error| chain(error)),
    };
    let members = asked.unwrap_or_default();
    let names: Vec<BackendName> = wanted
        .backends
        .iter()
        .map(|(name, _)| name.clone())
        .collect();
    let around = Around {
        members: members.clone(),
        addresses: here::addresses().unwrap_or_default(),
    };
    let migration = Migration::of(&old, &names, &around).map_err(|source| Error::Migrate {
        path: wanted.file.clone(),
        source,
    })?;
    let draft = Draft {
        wanted,
        members: said.members.map(|_| members.as_slice()),
        migration: &migration,
        old: &old,
    };
    draft
        .report(said)
        .await
        .map(Box::new)
        .map(Outcome::Proposed)
}

/// What there is to look at.
struct Draft<'a> {
    wanted: &'a Wanted,
    /// None where they are not known.
    members: Option<&'a [Member]>,
    migration: &'a Migration,
    old: &'a str,
}

impl Draft<'_> {
    async fn report(&self, agent: AgentSaid) -> Result<Report, Error> {
        let migration = self.migration;
        let tags = self.tags();
        let plain = self.config_text(&agent.addr, &tags, vec![None; tags.len()]);
        let made = Made::new(self.wanted, migration, plain)?;
        let text = self.config_text(&agent.addr, &tags, made.checks(migration)?);
        Config::read(text.clone().into_bytes(), []).map_err(Error::Config)?;
        let version = checking_version(&made.config).await;
        let mut backends = Vec::new();
        for (backend, (tags, guessed)) in migration.backends.iter().zip(&tags) {
            backends.push(BackendReport {
                name: backend.name.to_string(),
                line: backend.line,
                tags: tags.iter().map(|(k, v)| format!("{k}={v}")).collect(),
                servers: backend.servers.clone(),
                member_line: backend.member_line.clone(),
                maps: backend.maps.clone(),
                reloads: made.reloads(migration, &backend.name, version.unwrap_or(OLDEST))?,
                notes: self.notes(backend, tags, *guessed),
            });
        }
        let names = migration.backends.iter().map(|backend| &backend.name);
        let promises = breaches([made.full.text.as_str()], names);
        let mut proof = self.judged(&made.config, &made.full.text).await;
        proof.differences = prove(self.old, migration, &made.bare, &made.full);
        Ok(Report {
            file: self.wanted.file.clone(),
            haproxy: version.map_or_else(
                || format!("{OLDEST}, as none says its version"),
                |version| version.to_string(),
            ),
            agent,
            backends,
            global: migration.global.clone(),
            wrapped: migration.wrapped.clone(),
            promises: promises.iter().map(ToString::to_string).collect(),
            proof,
            template: migration.template.clone(),
            config: text,
            old: self.old.to_owned(),
        })
    }

    fn config_text(
        &self,
        agent: &str,
        tags: &[(Vec<Tag>, bool)],
        checks: Vec<Option<CheckConfig>>,
    ) -> String {
        let all = self.migration.backends.iter().zip(tags).zip(checks);
        let backends = all.map(|((migrated, (tags, _)), check)| Backend {
            migrated,
            tags,
            check,
            members: self.addresses(tags),
        });
        let backends: Vec<Backend<'_>> = backends.collect();
        proposal::text(self.wanted, agent, self.migration, &backends)
    }

    /// The tags of each backend, and whether nobody has said or seen them.
    fn tags(&self) -> Vec<(Vec<Tag>, bool)> {
        let asked = self.wanted.backends.iter().zip(&self.migration.backends);
        asked
            .map(|((name, tags), backend)| {
                if !tags.is_empty() {
                    return (tags.clone(), false);
                }
                let common = self.common_tag(backend);
                let made_up = common.is_none();
                let tag = common.unwrap_or_else(|| ("role".to_owned(), name.to_string()));
                (vec![tag], made_up)
            })
            .collect()
    }

    /// A tag that all members have which are at the addresses of a backend's servers, and no other member has.
    fn common_tag(&self, backend: &Migrated) -> Option<Tag> {
        let ips: BTreeSet<_> = backend.present.iter().map(|it| it.addr.ip()).collect();
        let members = self.members.unwrap_or_default();
        let is_there = |member: &&Member| member.addr().is_some_and(|addr| ips.contains(&addr));
        let here: Vec<Member> = members.iter().filter(is_there).cloned().collect();
        let has = |member: &Member, (key, value): &Tag| {
            member.tag(key).is_some_and(|has| has == value.as_str())
        };
        let mut tags = found::tags(&here).into_iter();
        tags.find(|tag| {
            let all = here.iter().all(|member| has(member, tag));
            all && members.iter().filter(|member| has(member, tag)).count() == here.len()
        })
    }

    /// Where the members are that these tags pick.
    fn addresses(&self, tags: &[Tag]) -> Vec<std::net::IpAddr> {
        let members = self.members.unwrap_or_default().iter();
        let picked = members.filter(|member| is_picked(member, tags));
        picked.filter_map(Member::addr).collect()
    }

    /// What has to be done by people, or seen by them.
    fn notes(&self, backend: &Migrated, tags: &[Tag], guessed: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if guessed {
            notes.push(format!(
                "no tag was said, and the one here is made up; say it: --backend {}=KEY=VALUE",
                backend.name
            ));
        }
        if backend.present.is_empty() {
            notes.push(
                "none of its lines says where members listen; correct `port` in the config"
                    .to_owned(),
            );
        }
        let usual = proposal::usual_port(backend);
        let mut hosts = BTreeSet::new();
        for present in &backend.present {
            let (name, addr) = (&present.name, present.addr);
            if !hosts.insert(addr.ip()) {
                notes.push(format!(
                    "{name}: {} has more than one server here, and a member is one; keep a line for the others, or give them \
                     agents of their own",
                    addr.ip()
                ));
            }
            if addr.ip().is_loopback() {
                notes.push(format!(
                    "{name}: {} is this balancer itself, where other members are not",
                    addr.ip()
                ));
            }
            if Some(addr.port()) != usual {
                notes.push(format!(
                    "{name}: its member needs the tag port={}",
                    addr.port()
                ));
            }
            if backend.weighs && present.weight.get() != 1 {
                let weight = present.weight.get();
                notes.push(format!("{name}: its member needs the tag weight={weight}"));
            }
            notes.extend(self.member_note(present, tags));
        }
        notes
    }

    /// What is wrong with the member of a server.
    fn member_note(&self, present: &Present, tags: &[Tag]) -> Option<String> {
        let members = self.members?;
        let (server, ip) = (present.name.as_str(), present.addr.ip());
        let name = present.alias.as_deref().unwrap_or(server);
        let is_it = |member: &&Member| {
            let alive = member.status() == MemberStatus::Alive;
            alive && member.addr() == Some(ip) && member.name() == name
        };
        let Some(member) = members.iter().find(is_it) else {
            return Some(format!(
                "{server}: no member is at {ip}; it goes with the migration, unless one is by then"
            ));
        };
        if !is_picked(member, tags) {
            let tags: Vec<String> = tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let tags = tags.join(", ");
            return Some(format!("{server}: its member {name} has no tag {tags}"));
        }
        (name != server)
            .then(|| format!("{server}: its member is called {name}, and so will the server be"))
    }

    /// What the check command says of both texts.
    async fn judged(&self, config: &Config, new: &str) -> Proof {
        let old = self.verdict(config, self.old).await;
        let new = self.verdict(config, new).await;
        let complaints = |checked: &Result<Checked, String>| match checked {
            Ok(checked) => {
                let messages = checked.messages.iter();
                let messages = messages.filter(|message| message.level != Level::Notice);
                messages.map(|message| message.text.clone()).collect()
            }
            Err(error) => vec![error.clone()],
        };
        let (before, after): (Vec<String>, Vec<String>) = (complaints(&old), complaints(&new));
        let is_valid = |checked: &Result<Checked, String>| checked.as_ref().ok().map(|it| it.valid);
        let servers = self.migration.present();
        let worse: Vec<String> = after
            .into_iter()
            .filter(|complaint| !before.contains(complaint))
            .collect();
        Proof {
            differences: Vec::new(),
            members: servers.values().map(Vec::len).sum(),
            old_is_valid: is_valid(&old),
            new_is_valid: is_valid(&new),
            complaints: if is_valid(&old) == Some(true) {
                worse
            } else {
                before
            },
        }
    }

    async fn verdict(&self, config: &Config, text: &str) -> Result<Checked, String> {
        let place = &self.wanted.file;
        let scratch = Scratch::new(text, std::iter::empty(), place).map_err(|e| e.to_string())?;
        let command = &config.haproxy.check_command;
        let folder = Path::new("/");
        let judged = judge(command, scratch.path(), place, Some(folder), WAIT).await;
        judged.map_err(|error| chain(&error))
    }
}

/// The template at work.
struct Made {
    config: Config,
    renderer: Renderer,
    /// What it prints without any member.
    bare: Rendered,
    /// What it prints with the servers of now.
    full: Rendered,
    scope: Scope,
}

impl Made {
    fn new(wanted: &Wanted, migration: &Migration, config: String) -> Result<Self, Error> {
        let config = Config::read(config.into_bytes(), []).map_err(Error::Config)?;
        let name = wanted.template.display().to_string();
        let renderer = Renderer::new(&name, migration.template.clone())?;
        let bare = renderer.render(&config, &Servers::new())?;
        let full = renderer.render(&config, &migration.present())?;
        let names = config.backends.iter().map(|backend| &backend.name);
        Ok(Self {
            scope: Scope::new(names, &bare.text),
            config,
            renderer,
            bare,
            full,
        })
    }

    /// What HAProxy's check asks in each backend, where a config can say it.
    fn checks(&self, migration: &Migration) -> Result<Vec<Option<CheckConfig>>, RenderError> {
        let servers = with_invented(&self.config, &Servers::new(), true, |_| true);
        let text = self
            .scope
            .read(&self.renderer.render(&self.config, &servers)?.text);
        let backends = migration.backends.iter();
        let asked = backends.map(|backend| admission::asked(&backend.name, &text));
        Ok(asked.collect())
    }

    /// Why a member could not join a backend without a reload, nor the servers of now leave it.
    fn reloads(
        &self,
        migration: &Migration,
        backend: &BackendName,
        version: Version,
    ) -> Result<Vec<String>, RenderError> {
        let present = migration.present();
        let more = with_invented(&self.config, &present, true, |name| name == backend);
        let (before, after) = (
            self.scope.read(&self.full.text),
            self.scope
                .read(&self.renderer.render(&self.config, &more)?.text),
        );
        let join = Join {
            version,
            before: &before,
            after: &after,
        };
        let obstacles = join.obstacles().into_iter().chain(join.named(backend));
        Ok(obstacles.map(|obstacle| obstacle.to_string()).collect())
    }
}

fn is_picked(member: &Member, tags: &[Tag]) -> bool {
    tags.iter()
        .all(|(key, value)| member.tag(key).is_some_and(|has| has == value.as_str()))
}
