//! Who may ask: a request's method, `Host` and token in; a refusal, or none, out. Pure but for reading the token.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use planner::config;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::HttpError;

/// How many characters a token has.
const TOKEN: (usize, u64) = (16, 4096);

/// Who may ask.
#[derive(Debug)]
pub struct Access {
    listen: IpAddr,
    hosts: Vec<String>,
    token: Option<SecretString>,
}

/// Why somebody is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It would change something.
    Method,
    /// A page of somebody else's may be asking, in the name of a person whose browser it is in.
    Host,
    /// The token is missing or wrong.
    Token,
}

impl Refusal {
    /// How that is said.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }

    /// The same for people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Method => "only GET and HEAD\n",
            Self::Host => {
                "this is not asked for by that name; add it to [http] hosts in the config of serf-haproxy\n"
            }
            Self::Token => {
                "give the word of [http] token_file: `Authorization: Bearer WORD`, or as the password in a browser\n"
            }
        }
    }
}

impl Access {
    /// As the config wants it; the token is read.
    ///
    /// # Errors
    /// [`HttpError::Read`] or [`HttpError::Token`].
    pub fn read(settings: &config::Http) -> Result<Self, HttpError> {
        let token = settings.token_file.as_deref().map(token);
        Ok(Self {
            listen: settings.listen.ip().to_canonical(),
            hosts: settings.hosts.clone(),
            token: token.transpose()?,
        })
    }

    /// Why this request is not answered; none where it is.
    pub(super) fn refuses(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Option<Refusal> {
        if method != Method::GET && method != Method::HEAD {
            return Some(Refusal::Method);
        }
        let mut hosts = headers.get_all(HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (Some(host), None) => host.to_str().unwrap_or_default(),
            _ => "",
        };
        // A proxy may be spoken to with the whole address, which then goes before the header.
        let host = uri.authority().map_or(host, |authority| authority.as_str());
        if !self.knows(host) {
            return Some(Refusal::Host);
        }
        let token = self.token.as_ref()?;
        let given = headers.get(AUTHORIZATION).and_then(given);
        let is_right = given.is_some_and(|given| {
            let token = token.expose_secret().as_bytes();
            bool::from(token.ct_eq(given.as_bytes()))
        });
        (!is_right).then_some(Refusal::Token)
    }

    /// Whether it may be asked by that name. Against an address no name of somebody else's can be bound to it, so that
    /// where all addresses are listened on, each is good.
    fn knows(&self, host: &str) -> bool {
        let name = without_port(host).trim_end_matches('.');
        let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        match bare.unwrap_or(name).parse::<IpAddr>() {
            Ok(ip) => {
                let ip = ip.to_canonical();
                let named = |host: &String| {
                    host.parse::<IpAddr>()
                        .is_ok_and(|it| it.to_canonical() == ip)
                };
                ip.is_loopback()
                    || ip == self.listen
                    || self.listen.is_unspecified()
                    || self.hosts.iter().any(named)
            }
            Err(_) => {
                let name = name.to_ascii_lowercase();
                name == "localhost" || self.hosts.contains(&name)
            }
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            // An address of IPv6 has its port behind its brackets.
            if name.contains(':') && !name.ends_with(']') {
                host
            } else {
                name
            }
        }
        _ => host,
    }
}

/// The token that was given: as it is, or as a password, which is all that a browser asks a person for.
fn given(header: &HeaderValue) -> Option<String> {
    let (scheme, word) = header.to_str().ok()?.split_once(' ')?;
    let word = word.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(word.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(word).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    Some(password.to_owned())
}

fn token(path: &Path) -> Result<SecretString, HttpError> {
    let read = || {
        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(TOKEN.1).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|source| HttpError::Read {
        path: path.to_owned(),
        source,
    })?;
    let token = text.trim();
    let flaw = |flaw| HttpError::Token {
        path: path.to_owned(),
        flaw,
    };
    if token.len() < TOKEN.0 {
        return Err(flaw("holds less than 16 characters"));
    }
    if text.len() as u64 == TOKEN.1 || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(flaw(
            "holds more than one word of letters, digits and signs",
        ));
    }
    Ok(SecretString::from(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn access(listen: &str, hosts: &[&str]) -> Access {
        Access {
            listen: listen.parse().unwrap(),
            hosts: hosts.iter().map(ToString::to_string).collect(),
            token: None,
        }
    }

    #[test]
    fn it_is_asked_by_its_own_names_only() {
        let local = access("127.0.0.1", &["lb1.example.com", "2001:db8::7"]);
        for own in [
            "localhost",
            "LOCALHOST:9280",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:9280",
            "127.9.8.7:1",
            "[::1]:9280",
            "[::1]",
            "::1",
            "[::ffff:127.0.0.1]:80",
            "lb1.example.com",
            "LB1.example.com.:443",
            "[2001:db8::7]:80",
        ] {
            assert!(local.knows(own), "{own}");
        }
        for other in [
            "",
            ":",
            ":9280",
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9280",
            "xlb1.example.com",
            "10.0.0.1:9280",
            "[2001:db8::8]:80",
            "[",
            "[]",
            "localhost:evil",
            "0x7f.1",
        ] {
            assert!(!local.knows(other), "{other}");
        }
        assert!(access("10.0.0.1", &[]).knows("10.0.0.1:9280"));
        assert!(!access("10.0.0.1", &[]).knows("10.0.0.2:9280"));
        let all = access("::", &[]);
        assert!(all.knows("10.0.0.2:9280") && !all.knows("lb1.example.com"));
    }

    fn headers(host: &str, authorization: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(word) = authorization {
            headers.insert(AUTHORIZATION, word.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_given_as_a_bearers_or_as_a_password() {
        let mut access = access("0.0.0.0", &[]);
        access.token = Some(SecretString::from("0123456789abcdef".to_owned()));
        let refusal = |word: Option<&str>| {
            access.refuses(
                &Method::GET,
                &"/".parse().unwrap(),
                &headers("10.0.0.1", word),
            )
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(refusal(Some("Bearer 0123456789abcdef")), None);
        assert_eq!(refusal(Some("bearer  0123456789abcdef")), None);
        assert_eq!(refusal(Some(&basic("anybody:0123456789abcdef"))), None);
        for wrong in [
            None,
            Some("Bearer"),
            Some("Bearer 0123456789abcde"),
            Some("Bearer 0123456789abcdef0"),
            Some("0123456789abcdef"),
            Some("Digest 0123456789abcdef"),
            Some("Basic 0123456789abcdef"),
            Some(&basic("0123456789abcdef")),
            Some(&basic("0123456789abcdef:")),
        ] {
            assert_eq!(refusal(wrong), Some(Refusal::Token), "{wrong:?}");
        }
    }

    #[test]
    fn a_request_names_one_host_and_changes_nothing() {
        let local = access("127.0.0.1", &[]);
        let root = Uri::from_static("/");
        let named = headers("localhost", None);
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert_eq!(local.refuses(&method, &root, &named), Some(Refusal::Method));
        }
        assert_eq!(local.refuses(&Method::HEAD, &root, &named), None);
        let mut two = named.clone();
        two.append(HOST, HeaderValue::from_static("localhost"));
        for headers in [HeaderMap::new(), two] {
            let refusal = local.refuses(&Method::GET, &root, &headers);
            assert_eq!(refusal, Some(Refusal::Host));
        }
        let whole = Uri::from_static("http://evil.example/");
        assert_eq!(
            local.refuses(&Method::GET, &whole, &named),
            Some(Refusal::Host)
        );
    }

    #[test]
    fn a_token_is_one_long_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            token(&path).map(|token| token.expose_secret().to_owned())
        };
        assert_eq!(read("0123456789abcdef\n").unwrap(), "0123456789abcdef");
        for flawed in [
            "",
            "\n",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdef\n0",
        ] {
            assert!(
                matches!(read(flawed), Err(HttpError::Token { .. })),
                "{flawed}"
            );
        }
        assert!(read(&"x".repeat(5000)).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(token(&path), Err(HttpError::Read { .. })));
    }

    proptest! {
        #[test]
        fn no_name_of_somebody_elses_is_ours(host in "\\PC{0,40}") {
            let local = access("127.0.0.1", &[]);
            let bare = without_port(&host).trim_matches(['[', ']', '.']).to_ascii_lowercase();
            let is_ours = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
            prop_assert!(is_ours || !local.knows(&host));
        }
    }
}
