//! What the config says of a backend's policy and a configuration does not do: both in, [`Breach`]es out. Pure.
//!
//! Only whether it is there at all is looked at: how it is said is the template's business.

use std::time::Duration;

use super::{Breach, Cause, Proxy};
use crate::config::BackendConfig;
use crate::config::policy::Proto;
use crate::syntax::lines::{Line, Lines, Section};
use crate::syntax::time;

/// Where a template gets the lines of a section from.
const SECTION: &str = "{% include \"policy.cfg.j2\" %}";
/// Where it gets server lines from.
const SERVERS: &str = "{% include \"servers.cfg.j2\" %}";

/// Keys of these backends that the configuration does not print anything of, in the order of its lines. Its texts are those
/// of its files, in the order HAProxy reads them, with a server in each backend.
pub fn unprinted<'a, 'b>(
    texts: impl IntoIterator<Item = &'a str>,
    backends: impl Iterator<Item = &'b BackendConfig>,
) -> Vec<Breach> {
    let lines = Lines::parse_all(texts);
    let mut found = Vec::new();
    for backend in backends {
        let sections =
            ["backend", "listen"].map(|kind| lines.named(kind, backend.name.as_str()).next());
        if let Some(section) = sections.into_iter().flatten().next() {
            let printed = Printed {
                lines: &lines,
                section,
            };
            found.extend(printed.lacks(backend));
        }
    }
    found.sort();
    found
}

/// Whether the config of its backend itself asks for what this breach says.
pub fn is_asked_for(breach: &Breach, backend: &BackendConfig) -> bool {
    let retry = backend.retry.as_ref();
    match &breach.cause {
        Cause::Repeats(line) | Cause::Loses(Some(line)) => retry.is_some_and(|retry| {
            let words = line.split(' ').skip(1);
            words.eq(retry.on.iter().map(String::as_str))
        }),
        Cause::Waits(Some(line)) => {
            let said = line.rsplit(' ').next().and_then(time::millis);
            said.is_some() && said == backend.timeouts.connect.map(|span| span.as_millis())
        }
        _ => false,
    }
}

/// A backend as it is printed.
#[derive(Clone, Copy)]
struct Printed<'a> {
    lines: &'a Lines,
    section: &'a Section,
}

impl Printed<'_> {
    fn lacks(self, backend: &BackendConfig) -> Vec<Breach> {
        let line = |keyword: &'static str| {
            let mut all = self.all();
            all.any(|line| line.word(0) == keyword)
        };
        let rule = |part: &str| self.all().any(|line| says(line, part));
        let server = |word: &str| {
            self.servers()
                .any(|line| line.words.iter().any(|it| it == word))
        };
        let page = backend.maintenance_page.as_ref();
        let page = page.map(|page| page.path.display().to_string());
        let h2 = backend.proto == Proto::H2;
        let ejects = backend.eject.is_some() && backend.ejection().is_some();
        let keys = [
            (
                "sticky",
                backend.sticky.is_none() || line("cookie"),
                SECTION,
            ),
            (
                "breaker",
                backend.breaker.is_none() || rule("_fail_rate(") || rule("_gpc"),
                SECTION,
            ),
            (
                "overload",
                backend.overload.is_none() || rule("queue("),
                SECTION,
            ),
            (
                "maintenance_page",
                page.is_none_or(|page| rule(&page)),
                SECTION,
            ),
            (
                "compress",
                backend.compress.is_empty() || line("compression"),
                SECTION,
            ),
            ("eject", !ejects || server("observe"), SERVERS),
            (
                "slow_start",
                backend.slow_start.is_none() || server("slowstart"),
                SERVERS,
            ),
            (
                "max_conn",
                backend.max_conn.is_none() || server("maxconn"),
                SERVERS,
            ),
            (
                "max_queue",
                backend.max_queue.is_none() || server("maxqueue"),
                SERVERS,
            ),
            ("tls", backend.tls.is_none() || server("ssl"), SERVERS),
            ("proto", !h2 || server("proto") || server("alpn"), SERVERS),
            (
                "retry",
                backend.retry.is_none() || self.retries(backend),
                "retries {{ backend.retries }} and retry-on {{ backend.retry.on }}",
            ),
        ];
        let lacking = keys.into_iter().filter(|(_, there, _)| !there);
        let lacking = lacking.map(|(key, _, instead)| self.breach(key, instead));
        lacking.chain(self.timeouts(backend)).collect()
    }

    fn retries(self, backend: &BackendConfig) -> bool {
        let retry = backend.retrying();
        let proxy = self.proxy();
        let times = proxy.setting(&["retries"]);
        let times = times.is_some_and(|line| line.word(1) == retry.attempts.to_string());
        let on = proxy.setting(&["retry-on"]);
        let on = on.is_some_and(|line| line.words.iter().skip(1).eq(&retry.on));
        times && (on || !proxy.is_http())
    }

    /// The timeouts that are others in this backend, and are not printed so.
    fn timeouts(self, backend: &BackendConfig) -> impl Iterator<Item = Breach> {
        let own = &backend.timeouts;
        let keys: [(_, _, Option<Duration>, _); 4] = [
            (
                "timeouts.connect",
                "connect",
                own.connect,
                "timeout connect {{ backend.timeouts.connect }}",
            ),
            (
                "timeouts.queue",
                "queue",
                own.queue,
                "timeout queue {{ backend.timeouts.queue }}",
            ),
            (
                "timeouts.server",
                "server",
                own.server,
                "timeout server {{ backend.timeouts.server }}",
            ),
            (
                "timeouts.tunnel",
                "tunnel",
                own.tunnel,
                "timeout tunnel {{ backend.timeouts.tunnel }}",
            ),
        ];
        keys.into_iter()
            .filter_map(move |(key, keyword, span, instead)| {
                let wanted = span?.as_millis();
                let line = self.proxy().setting(&["timeout", keyword]);
                let said = line.and_then(|line| time::millis(line.word(2)));
                (said != Some(wanted)).then(|| self.breach(key, instead))
            })
    }

    fn proxy(&self) -> Proxy<'_> {
        Proxy {
            lines: self.lines,
            section: self.section,
        }
    }

    /// Its lines, and those that it inherits.
    fn all(&self) -> impl Iterator<Item = &Line> {
        let chain = self.lines.chain(self.section);
        chain.flat_map(|section| &section.lines)
    }

    fn servers(&self) -> impl Iterator<Item = &Line> {
        let kinds = ["server", "default-server", "server-template"];
        self.all().filter(move |line| kinds.contains(&line.word(0)))
    }

    fn breach(self, key: &'static str, instead: &'static str) -> Breach {
        let title = &self.section.title;
        Breach {
            text: title.text,
            line: title.number,
            section: format!("{} {}", title.word(0), title.word(1)),
            cause: Cause::Unprinted { key, instead },
        }
    }
}

fn says(line: &Line, part: &str) -> bool {
    line.words.iter().any(|word| word.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::Servers;
    use crate::render::{Renderer, with_invented};

    const KEYS: [(&str, &str); 15] = [
        ("sticky", "sticky = true"),
        ("retry", "retry = { attempts = 2, on = [\"conn-failure\"] }"),
        ("eject", "eject = { on = \"layer7\" }"),
        ("breaker", "breaker = true"),
        ("overload", "overload = true\nmax_conn = 5"),
        ("slow_start", "slow_start = \"5s\""),
        ("maintenance_page", "maintenance_page = \"/p.html\""),
        ("max_conn", "max_conn = 5"),
        ("max_queue", "max_queue = 5\nmax_conn = 5"),
        ("tls", "tls = true"),
        ("proto", "proto = \"h2\""),
        ("compress", "compress = \"text/html\""),
        ("timeouts.connect", "timeouts = { connect = \"2s\" }"),
        ("timeouts.server", "timeouts = { server = \"2s\" }"),
        ("timeouts.tunnel", "timeouts = { tunnel = \"2s\" }"),
    ];

    /// A template that prints a backend with words of its own, and none of the policy's.
    const OWN: &str = "global\n description \"serf-haproxy {{ stamp }}\"\n{% for backend in backends %}\nbackend {{ backend.name }}\n \
                       mode http\n timeout connect 500ms\n option redispatch 1\n retries 8\n retry-on conn-failure empty-response\n \
                       http-request disable-l7-retry unless { method GET HEAD OPTIONS }\n{% for server in backend.servers %} server \
                       {{ server.name }} {{ server.addr }} check\n{% endfor %}{% endfor %}\n";

    fn lacking(lines: &str, renderer: &Renderer) -> Vec<&'static str> {
        let text = format!(
            "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"web\"\ntags = {{ a = \"b\" }}\nport = 1\n{lines}\n"
        );
        let config = Config::parse(&text, []).unwrap();
        let servers = with_invented(&config, &Servers::new(), true, |_| true);
        let text = renderer.render(&config, &servers).unwrap().text;
        let found = unprinted([text.as_str()], config.backends.iter());
        let keys = found.into_iter().map(|breach| match breach.cause {
            Cause::Unprinted { key, .. } => key,
            other => panic!("{other}"),
        });
        keys.collect()
    }

    #[test]
    fn the_built_in_template_prints_every_key() {
        let built_in = Renderer::built_in().unwrap();
        for (_, lines) in KEYS {
            assert!(lacking(lines, &built_in).is_empty(), "{lines}");
        }
    }

    #[test]
    fn a_template_of_ones_own_is_told_what_it_leaves_out() {
        let own = Renderer::new("own", OWN.to_owned()).unwrap();
        assert!(lacking("", &own).is_empty());
        for (key, lines) in KEYS {
            assert!(lacking(lines, &own).contains(&key), "{key}");
        }
    }

    #[test]
    fn what_the_config_asks_for_breaks_no_promise() {
        let lines = "retry = { on = [\"conn-failure\", \"503\"], methods = [\"GET\", \"POST\"] }\ntimeouts = { connect = \"5s\" }";
        let text = format!(
            "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"web\"\ntags = {{ a = \"b\" }}\nport = 1\n{lines}\n"
        );
        let config = Config::parse(&text, []).unwrap();
        let text = Renderer::built_in().unwrap();
        let text = text.render(&config, &Servers::new()).unwrap().text;
        let names = config.backends.iter().map(|backend| &backend.name);
        let found = super::super::breaches([text.as_str()], names);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found
                .iter()
                .all(|breach| is_asked_for(breach, &config.backends[0])),
            "{found:#?}"
        );
        let other = Config::parse(
            "[frontend]\nbind = [\"*:80\"]\n[[backend]]\nname = \"web\"\ntags = { a = \"b\" }\nport = 1\n",
            [],
        );
        let other = other.unwrap();
        assert!(
            !found
                .iter()
                .any(|breach| is_asked_for(breach, &other.backends[0]))
        );
    }
}
