//! How a backend treats its requests and servers: the keys of `[[backend]]` that are tables, and what they are together. Pure.
//!
//! HAProxy's Configuration Manual, section 4.2 for `cookie`, `dynamic-cookie-key`, `retry-on`, `stick-table`,
//! `http-request return`, `compression`; section 5.2 for `observe`, `slowstart`, `maxqueue`, `ssl`, `verify`, `sni`, `proto`.
//! What a server added at runtime may have of it was tried on HAProxy 2.6, 3.0 and 3.2.

mod between;
mod page;
mod read;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub(super) use between::{check, settle};
pub(super) use page::page;
pub use page::{MAX_PAGE, Page, PageError, PageForm};
pub(super) use read::{media_types, switch};

use self::read::{
    cookie_name, cookie_secret, methods, ratio, retry_events, secure, server_name, status,
    tls_files,
};
use super::node::Node;
use super::section::{Section, section};
use super::settings::{BackendConfig, Observe, Timeouts};
use super::value::{
    self, DAY, HOUR, MILLISECOND, MINUTE, SECOND, WEEK, number, one_of, some, time,
};
use crate::model::BackendName;

/// The longest that a cookie may last, 30 days.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

section! {
    /// `sticky`: a client keeps its server by a cookie, which is always `HttpOnly`.
    ///
    /// Its value is made of the server's address and port, and of a key: the same on every balancer, after every reload and
    /// on every version. A server that moves has another value, so its clients are given a new server once.
    pub struct Sticky {
        /// The name of the cookie, letters, digits, `_` and `-`.
        pub cookie: String = "SRV".to_owned(), cookie_name;
        /// What its value is made with, the same on all balancers; none is made of the backend's name, which lets anybody
        /// who guesses an address find out that a cookie stands for it.
        pub key: Option<String> = None, some(cookie_secret);
        /// Without a request for so long, the cookie counts no more.
        pub max_idle: Option<Duration> = None, some(time(SECOND..=MONTH));
        /// However long it is used, it counts no more after so long.
        pub max_life: Option<Duration> = None, some(time(SECOND..=MONTH));
        /// Its attribute `SameSite`.
        pub same_site: SameSite = SameSite::Lax,
            one_of([("Lax", SameSite::Lax), ("Strict", SameSite::Strict), ("None", SameSite::None)]);
        /// Its attribute `Secure`.
        pub secure: Secure = Secure::Auto, secure;
    }

    /// `retry`: which requests are tried again, and how often.
    pub struct Retry {
        /// HAProxy's `retries`: how often a request tries another server, 1 to 100.
        // The default of `retries`.
        pub attempts: u8 = 8, number(1..=100);
        /// What leads to another try (HAProxy's `retry-on`).
        pub on: Vec<String> = words(&["conn-failure", "empty-response"]), retry_events;
        /// Methods whose requests may be sent to a second server once the first has had them.
        pub methods: Vec<String> = words(&["GET", "HEAD", "OPTIONS"]), methods;
    }

    /// `eject`: a server that fails is out until its check is good again.
    pub struct Eject {
        /// Errors in a row, 1 to 1000.
        pub errors: u16 = 5, number(1..=1000);
        /// What counts as one; none is nothing.
        pub on: Option<Observe> = Some(Observe::Layer4),
            one_of([("layer4", Some(Observe::Layer4)), ("layer7", Some(Observe::Layer7))]);
    }

    /// `breaker`: where too many answers are failures, requests are answered without a server for a while.
    ///
    /// Failures are answers with a status from 500 on but 501 and 505, broken answers, and none (HAProxy's
    /// `http_fail_rate`). A request that no server could be reached for is none. It closes when those of `window` have aged.
    pub struct Breaker {
        /// Share of failures in the requests of `window`, 1 to 100.
        pub ratio_percent as ratio: u8 = 50, ratio;
        /// So many requests in `window` at least.
        pub min_requests: u32 = 20, number(1..=1_000_000);
        /// How far it looks back.
        pub window: Duration = Duration::from_secs(10), time(SECOND..=HOUR);
        /// The status of its answer, 400 to 599.
        pub status: u16 = 503, status;
        /// When clients may come again, in whole seconds.
        pub retry_after: Duration = Duration::from_secs(5), time(SECOND..=DAY);
        /// Its answer; none is a line of text.
        pub page: Option<Page> = None, some(page);
    }

    /// `overload`: where too many requests wait for a server, others are turned away at once.
    pub struct Overload {
        /// So many may wait.
        pub queue: u32 = 100, number(0..=1_000_000);
        /// The status of the answer, 400 to 599.
        pub status: u16 = 503, status;
        /// When clients may come again, in whole seconds.
        pub retry_after: Duration = Duration::from_secs(1), time(SECOND..=DAY);
    }

    /// `tls`: the servers are spoken to over TLS.
    pub struct Tls {
        /// Whether their certificates are looked at.
        pub verify: Verify = Verify::Required, one_of([("required", Verify::Required), ("none", Verify::None)]);
        /// Who may have signed these; none are the system's authorities.
        pub ca_file: Option<PathBuf> = None, some(tls_files);
        /// The name in the handshake, which the certificate must have where it is looked at; none sends no name.
        pub sni: Option<ServerNameSent> = None, some(server_name);
        /// The name that the certificate must have where it is another one.
        pub verify_host: Option<String> = None, some(value::sni);
    }

    /// `timeouts`: those of `[timeouts]` that are others here.
    pub struct BackendTimeouts {
        /// `connect`, at most a minute.
        pub connect: Option<Duration> = None, some(time(MILLISECOND..=MINUTE));
        /// `queue`, at most an hour.
        pub queue: Option<Duration> = None, some(time(MILLISECOND..=HOUR));
        /// `server`, at most a day.
        pub server: Option<Duration> = None, some(time(MILLISECOND..=DAY));
        /// `tunnel`, at most a week.
        pub tunnel: Option<Duration> = None, some(time(MILLISECOND..=WEEK));
    }
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Sent when somebody follows a link from elsewhere, too.
    Lax,
    /// Sent from the site itself only.
    Strict,
    /// Sent from everywhere; browsers want `Secure` with it.
    None,
}

/// `Secure` of a cookie: whether browsers send it over TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Where the client has come over TLS to this HAProxy.
    Auto,
    /// Always: somebody else ends TLS before.
    Always,
    /// Never.
    Never,
}

/// Whether certificates of servers are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// They must be signed by whom `ca_file` says.
    Required,
    /// Anyone will do.
    None,
}

/// The name that a server is asked for in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerNameSent {
    /// The `Host` of the request.
    Host,
    /// This one.
    Name(String),
}

/// What is spoken to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// HTTP/1.1.
    H1,
    /// HTTP/2.
    H2,
}

impl Eject {
    /// No server is out by its traffic.
    const OFF: Self = Self {
        errors: 5,
        on: None,
    };
}

impl BackendConfig {
    /// What is tried again, however the config says it.
    pub fn retrying(&self) -> Retry {
        let attempts = self.retries;
        self.retry.clone().unwrap_or_else(|| Retry {
            attempts,
            ..Retry::default()
        })
    }

    /// What takes a server out by its traffic, however the config says it; none where nothing does.
    pub fn ejection(&self) -> Option<(Observe, u16)> {
        self.check.as_ref()?;
        match &self.eject {
            Some(eject) => Some((eject.on?, eject.errors)),
            None => Some((self.observe?, self.error_limit)),
        }
    }

    /// Requests at a time to one server, however the config says it; none is unlimited.
    pub fn server_limit(&self) -> Option<u32> {
        self.max_conn.or(self.maxconn)
    }

    /// The timeouts of this backend, `all` where it has none of its own.
    pub fn timeouts_over(&self, all: &Timeouts) -> Timeouts {
        let own = &self.timeouts;
        Timeouts {
            connect: own.connect.unwrap_or(all.connect),
            queue: own.queue.unwrap_or(all.queue),
            server: own.server.unwrap_or(all.server),
            tunnel: own.tunnel.unwrap_or(all.tunnel),
            ..all.clone()
        }
    }

    /// The pages that HAProxy reads for it, with their keys, and the status that they are to have, where one is said.
    pub fn pages(&self) -> impl Iterator<Item = (&'static str, &Page, Option<u16>)> {
        let breaker = self.breaker.as_ref();
        let breaker =
            breaker.and_then(|it| Some(("breaker.page", it.page.as_ref()?, Some(it.status))));
        let maintenance = self.maintenance_page.as_ref();
        let maintenance = maintenance.map(|page| ("maintenance_page", page, None));
        breaker.into_iter().chain(maintenance)
    }
}

impl Sticky {
    /// What the values of the cookie are made with in this backend: the key of the config, or one that all balancers find.
    pub fn key_of(&self, backend: &BackendName) -> String {
        let given = self.key.clone();
        given.unwrap_or_else(|| format!("serf-haproxy-{backend}"))
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
