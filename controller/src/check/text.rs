//! What `check` says of a template's text: as it is now, and with one more member, invented, in each backend.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use planner::config::Config;
use planner::model::{BackendName, Servers, Version};
use planner::pipeline::LoadedConfig;
use planner::plan::{Join, Obstacle};
use planner::render::{RenderError, Rendered, with_invented};
use planner::review::promise::{Breach, Cause, breaches, is_asked_for, unprinted};
use planner::syntax::Scope;

use super::TextReport;
use super::copies::Copies;
use super::finding::{Finding, Severity, origin, place};
use super::scratch::Scratch;
use super::stats_socket;
use crate::error_chain::chain;
use crate::haproxy::file::{Checked, judge};
use crate::haproxy::message::{HaproxyMessage, Level};

/// How HAProxy ends a list of complaints.
const SUMMARIES: [&str; 2] = [
    "Error(s) found in configuration file",
    "Fatal errors found in configuration",
];

/// What HAProxy says of a file that is not there.
const CANNOT_OPEN: [&str; 2] = [
    "Could not open configuration file",
    "Cannot open configuration file",
];

/// A text and what it is looked at with.
pub(super) struct Text<'a> {
    pub(super) loaded: &'a LoadedConfig,
    /// Which lines are the members', beside the other files as they are now.
    pub(super) scope: Scope,
    /// The text with the members that are there.
    pub(super) now: &'a Rendered,
    pub(super) servers: &'a Servers,
    pub(super) version: Version,
    /// Where the check command runs, if not here.
    pub(super) directory: Option<PathBuf>,
}

impl Text<'_> {
    /// Everything that is wrong with it, and what it is worth.
    ///
    /// # Errors
    /// When the template fails with one more member.
    pub(super) async fn look(&self) -> Result<(Vec<Finding>, TextReport), RenderError> {
        let config = self.config();
        let flaws = self.loaded.renderer.audit(config)?;
        let template_is_good = flaws.is_empty();
        let mut found: Vec<Finding> = flaws
            .iter()
            .map(|flaw| match flaw.origin {
                Some(_) => Finding::error(flaw.to_string()),
                None => Finding::error(format!("{}: {flaw}", self.template())),
            })
            .collect();
        let more = self.render(with_invented(config, self.servers, true, |_| true))?;
        found.extend(self.unused_frontend());
        found.extend(self.stats_socket());
        found.extend(self.promises(&more));
        found.extend(self.http3());
        let copies = Copies::make(config).await;
        found.extend(copies.found());
        let judged = self.judge(self.now, &more, &copies).await;
        let file_is_good = judged
            .iter()
            .all(|finding| finding.severity != Severity::Error);
        found.extend(judged);
        let text = self.scope.read(&self.now.text);
        let fixed = config.backends.iter().map(|backend| {
            let lines = text.fixed_lines(&backend.name);
            (backend.name.clone(), lines)
        });
        let report = TextReport {
            template_is_good,
            file_is_good,
            version: self.version,
            admissions: self.loaded.admissions.clone(),
            backends: self.joins()?,
            fixed: fixed.collect(),
            others: text
                .others()
                .filter(|title| !is_ours(title))
                .map(str::to_owned)
                .collect(),
        };
        Ok((found, report))
    }

    fn config(&self) -> &Config {
        &self.loaded.config
    }

    fn template(&self) -> String {
        let path = self.config().haproxy.template.as_ref();
        path.map_or_else(
            || "the built-in template".to_owned(),
            |path| path.display().to_string(),
        )
    }

    fn render(&self, servers: Servers) -> Result<Rendered, RenderError> {
        self.loaded.renderer.render(self.config(), &servers)
    }

    /// What keeps a member from joining each backend without a reload, and servers of now from leaving.
    fn joins(&self) -> Result<BTreeMap<BackendName, Vec<String>>, RenderError> {
        let before = self.scope.read(&self.now.text);
        let mut backends = BTreeMap::new();
        for backend in &self.config().backends {
            let name = &backend.name;
            let rendered = self.render(with_invented(self.config(), self.servers, true, |b| {
                b == name
            }))?;
            let after = self.scope.read(&rendered.text);
            let join = Join {
                version: self.version,
                before: &before,
                after: &after,
            };
            let obstacles = join.obstacles().into_iter().chain(join.named(name));
            let said = obstacles.map(|obstacle| self.said(&obstacle, &rendered));
            backends.insert(name.clone(), said.collect());
        }
        Ok(backends)
    }

    fn said(&self, obstacle: &Obstacle, rendered: &Rendered) -> String {
        let Some(line) = obstacle.line() else {
            return obstacle.to_string();
        };
        let (place, origin) = place(&self.config().haproxy.config, rendered, line);
        format!("{place}: {obstacle}{origin}")
    }

    /// A section `[frontend]` that a template of one's own prints nothing of.
    fn unused_frontend(&self) -> Option<Finding> {
        let config = self.config();
        config.haproxy.template.as_ref()?;
        config.frontends.first()?;
        let mut without = config.clone();
        without.frontends.clear();
        let bare = self.loaded.renderer.render(&without, self.servers).ok()?;
        (bare.blank == self.now.blank).then(|| {
            let template = self.template();
            Finding::warning(format!(
                "[frontend]: has no effect, as {template} prints nothing of it; take the section out, or print \
                 {{{{ frontend.bind }}}}"
            ))
        })
    }

    /// HTTP/3 where HAProxy is likely to have none.
    fn http3(&self) -> Option<Finding> {
        let mut asks = self.config().frontends.iter().filter(|it| it.h3);
        let name = &asks.next().filter(|_| self.version.major < 3)?.name;
        let version = self.version;
        Some(Finding::warning(format!(
            "[frontend] {name}: h3: HAProxy {version} has no QUIC as Debian builds it; 3.0 has a limited one, 3.2 a whole one. \
             Leave h3 out"
        )))
    }

    fn stats_socket(&self) -> Option<Finding> {
        let config = self.config();
        let texts = self.scope.files().iter();
        let texts = texts.map(|file| file.text.as_deref().unwrap_or_default());
        let remark = stats_socket::remark(
            texts.chain([self.now.text.as_str()]),
            &config.haproxy.stats_socket,
            self.is_partly_unseen(),
            is_same,
        )?;
        let (place, origin) = match remark.place {
            Some((text, line)) => self.place(self.now, text, line),
            None => (config.haproxy.config.display().to_string(), String::new()),
        };
        Some(Finding {
            severity: remark.severity,
            text: format!("{place}: {}{origin}", remark.said),
        })
    }

    /// Whether a file cannot be seen that HAProxy reads before ours.
    fn is_partly_unseen(&self) -> bool {
        self.scope.files().iter().any(|file| file.text.is_none())
    }

    /// The place of a line of the configuration's texts, of which ours is the last.
    fn place(&self, rendered: &Rendered, text: usize, line: usize) -> (String, String) {
        match self.scope.files().get(text) {
            Some(other) => (format!("{}:{line}", other.path.display()), String::new()),
            None => place(&self.config().haproxy.config, rendered, line),
        }
    }

    /// The promises that the configuration breaks; what only a server line would break, of which the file may have none
    /// yet, is found with an invented one. What a file has that cannot be seen is not missed.
    fn promises(&self, more: &Rendered) -> Vec<Finding> {
        let unseen = self.is_partly_unseen();
        let find = |rendered: &Rendered| {
            let backends = self.config().backends.iter().map(|backend| &backend.name);
            let texts = self.scope.files().iter();
            let texts = texts.map(|file| file.text.as_deref().unwrap_or_default());
            let mut found = breaches(texts.chain([rendered.text.as_str()]), backends);
            let is_told = |breach: &Breach| !unseen || !breach.cause.is_a_lack();
            found.retain(|breach| is_told(breach) && !self.is_meant(breach));
            found
        };
        let texts = self.scope.files().iter();
        let texts = texts.map(|file| file.text.as_deref().unwrap_or_default());
        let texts = texts.chain([more.text.as_str()]);
        let unprinted = unprinted(texts, self.config().backends.iter());
        let unprinted = unprinted.into_iter().filter(|_| !unseen).map(|breach| {
            let (place, origin) = self.place(more, breach.text, breach.line);
            Finding::warning(format!("{place}: {breach}{origin}"))
        });
        let found = find(self.now);
        let now = found.iter().map(|breach| {
            let (place, origin) = self.place(self.now, breach.text, breach.line);
            Finding::warning(format!("{place}: {breach}{origin}"))
        });
        let is_new = |breach: &Breach| {
            breach.cause == Cause::Shuts
                && !found
                    .iter()
                    .any(|known| (&known.section, &known.cause) == (&breach.section, &breach.cause))
        };
        let of_servers = find(more).into_iter().filter(is_new).map(|breach| {
            let origin = origin(more.origin(breach.line));
            Finding::warning(format!("{breach}{origin}"))
        });
        now.chain(of_servers).chain(unprinted).collect()
    }

    /// Whether the config asks for it in so many words.
    fn is_meant(&self, breach: &Breach) -> bool {
        let mut backends = self.config().backends.iter();
        let backend = backends.find(|it| breach.section.ends_with(&format!(" {}", it.name)));
        backend.is_some_and(|backend| is_asked_for(breach, backend))
    }

    /// What the check command says of the text of now, and what it says besides of the one with invented members.
    async fn judge(&self, now: &Rendered, more: &Rendered, copies: &Copies) -> Vec<Finding> {
        let path = &self.config().haproxy.config;
        let mut found = match self.verdict(now, copies).await {
            Ok(checked) => messages(&checked, now, path, ""),
            Err(finding) => return vec![finding],
        };
        if let Ok(checked) = self.verdict(more, copies).await {
            let with = "with one more member: ";
            let known: Vec<String> = found.iter().map(|finding| essence(&finding.text)).collect();
            let more = messages(&checked, more, path, with);
            found.extend(more.into_iter().filter(|finding| {
                let text = finding.text.replacen(with, "", 1);
                !known.contains(&essence(&text))
            }));
        }
        found
    }

    async fn verdict(&self, rendered: &Rendered, copies: &Copies) -> Result<Checked, Finding> {
        let config = self.config();
        let path = &config.haproxy.config;
        let text = copies.in_place(&rendered.text);
        let text = with_a_map(&text, config);
        let scratch = Scratch::new(&text, self.scope.other_texts(), path);
        let scratch = scratch.map_err(|error| {
            Finding::error(format!(
                "{}: cannot write the text to be checked there: {error}; set TMPDIR to a folder that can be written in",
                std::env::temp_dir().display()
            ))
        })?;
        let command = &config.haproxy.check_command;
        let directory = self.directory.as_deref();
        let judged = judge(
            command,
            scratch.path(),
            path,
            directory,
            config.reload.timeout,
        )
        .await;
        judged.map_err(|error| {
            Finding::error(format!(
                "[haproxy] check_command: {}; name a program that can be run, by its path",
                chain(&error)
            ))
        })
    }
}

/// Whether a section is of the built-in templates.
fn is_ours(title: &str) -> bool {
    title.starts_with("backend sh_rate_")
}

/// The text with an empty map of routes where there is none yet: it is written before the text is, and not by `check`.
fn with_a_map<'a>(text: &'a str, config: &Config) -> Cow<'a, str> {
    let map = config.haproxy.routes_map();
    if !config.has_routes() || map.exists() {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(&map.display().to_string(), "/dev/null"))
}

/// What a check command complains of, each with its place; a text that it does not take has one error at least. `path` is
/// that of the text.
fn messages(checked: &Checked, rendered: &Rendered, path: &Path, with: &str) -> Vec<Finding> {
    let shown = |message: &HaproxyMessage| {
        let HaproxyMessage { location, text, .. } = message;
        let elsewhere = if CANNOT_OPEN.iter().any(|said| text.contains(said)) {
            way_to_see()
        } else {
            String::new()
        };
        match location {
            Some((file, line)) if file == path => {
                let (origin, hint) = (origin(rendered.origin(*line)), variable(rendered, *line));
                format!("{}:{line}: {with}{text}{hint}{origin}", file.display())
            }
            Some((file, line)) => format!("{}:{line}: {with}{text}{elsewhere}", file.display()),
            None => format!("{with}{text}{elsewhere}"),
        }
    };
    let is_summary = |message: &&HaproxyMessage| {
        let mut summaries = SUMMARIES.iter();
        message.location.is_none() && summaries.any(|begin| message.text.starts_with(begin))
    };
    let mut found = Vec::new();
    for message in checked.messages.iter().filter(|c| !is_summary(c)) {
        match message.level {
            Level::Alert if !checked.valid => found.push(Finding::error(shown(message))),
            Level::Alert | Level::Warning => found.push(Finding::warning(shown(message))),
            Level::Notice => {}
        }
    }
    let has_error = found
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    if !checked.valid && !has_error {
        found.push(Finding::error(format!(
            "[haproxy] check_command: {with}ended with {}: {}{}",
            checked.status,
            checked.output.trim(),
            way_to_see()
        )));
    }
    found
}

/// Of a line that a variable makes what it is.
fn variable(rendered: &Rendered, line: usize) -> &'static str {
    let text = line
        .checked_sub(1)
        .and_then(|index| rendered.text.lines().nth(index));
    if text.is_some_and(|text| text.contains('$')) {
        "; its variables are those of whoever calls: set them here, and for the controller"
    } else {
        ""
    }
}

/// What helps a command that does not find the text.
fn way_to_see() -> String {
    format!(
        "; the text lay below {}: a command that runs elsewhere, as in a container, needs TMPDIR set to a folder that it sees",
        std::env::temp_dir().display()
    )
}

/// A complaint without the numbers of lines, which differ where there are more of them.
fn essence(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Whether two paths are one, by way of symlinks such as that of `/var/run` too.
fn is_same(a: &Path, b: &Path) -> bool {
    let real = |path: &Path| {
        let folder = fs::canonicalize(path.parent()?).ok()?;
        Some(folder.join(path.file_name()?))
    };
    a == b || real(a).is_some_and(|a| Some(a) == real(b))
}

#[cfg(test)]
mod tests {
    use planner::render::Renderer;

    use super::*;
    use crate::haproxy::message;

    /// What is made of the words of a check command about a text of two lines.
    fn said(output: &str, valid: bool) -> Vec<String> {
        let text = "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"b\"\ntags = { role = \"b\" }\nport = 80\n";
        let config = Config::parse(text, []).unwrap();
        let renderer =
            Renderer::new("own.j2", "global\n maxconn \"${MOST}\"\n".to_owned()).unwrap();
        let rendered = renderer.render(&config, &Servers::new()).unwrap();
        let checked = Checked {
            valid,
            status: "exit code 1".to_owned(),
            messages: message::messages(output),
            output: output.to_owned(),
        };
        let found = messages(&checked, &rendered, Path::new("/a.cfg"), "");
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_complaint_has_its_place_in_the_template_and_what_helps() {
        let alert = |text: &str| {
            format!("[NOTICE]   (9) : haproxy version is 2.6\n[ALERT]    (9) : config : {text}\n")
        };
        let place = "parsing [/a.cfg:3] : 'maxconn' expects an integer argument.";
        assert_eq!(
            said(&alert(place), false),
            [
                "/a.cfg:3: 'maxconn' expects an integer argument.; its variables are those of whoever calls: set them here, and for the controller (from own.j2:2)"
            ]
        );
        let other = "parsing [/base.cfg:3] : unknown keyword 'x'.";
        assert_eq!(
            said(&alert(other), false),
            ["/base.cfg:3: unknown keyword 'x'."]
        );
        let summary = format!(
            "{}[ALERT]    (9) : config : Fatal errors found in configuration.\n",
            alert(other)
        );
        assert_eq!(said(&summary, false).len(), 1);
        assert_eq!(
            said(&alert(other), true),
            ["warning: /base.cfg:3: unknown keyword 'x'."]
        );
        let unseen = said(
            &alert("Could not open configuration file /a.cfg : No such file"),
            false,
        );
        assert!(unseen[0].contains("needs TMPDIR set"), "{unseen:?}");
        let silent = said("", false);
        assert!(
            silent[0]
                .starts_with("[haproxy] check_command: ended with exit code 1: ; the text lay"),
            "{silent:?}"
        );
        assert_eq!(said("", true), Vec::<String>::new());
    }
}
