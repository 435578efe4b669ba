//! What a container wants: its labels in, services with what is said of them, or what is wrong with the labels, out. Pure.
//!
//! Labels are whatever somebody wrote: what is not on the whitelist is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use planner::model::{BackendName, Weight};
use planner::route::Host;
use planner::services::Path;

/// What can be said of a service, `serf.KEY` or `serf.service.NAME.KEY`: each with what it may be, and what it says.
pub const KEYS: [(Key, &str, &str); 9] = [
    (
        Key::Port,
        "1 to 65535",
        "the port that the application listens on inside; left out: the only one that is published, or that the image exposes",
    ),
    (
        Key::Host,
        "a name, `shop.example.com`",
        "the host whose requests the service gets; which hosts may be claimed is for the balancer's `[services]` to say",
    ),
    (
        Key::Path,
        "`/api`, whole segments",
        "below which path; likewise",
    ),
    (
        Key::Weight,
        "0 to 256",
        "its share of the requests, beside the others'",
    ),
    (
        Key::State,
        "`ready`, `drain` or `maint`",
        "what it is to be; `drain` and `maint` keep it out while others of its service are ready",
    ),
    (
        Key::Proto,
        "`http`, `h2` or `tcp`",
        "what it speaks; left out: what the balancer says of the service",
    ),
    (
        Key::Backup,
        "`true` or `false`",
        "whether it gets requests only when no other answers",
    ),
    (
        Key::Address,
        "`host` or `container`",
        "where it is reached: at a published port of the host, or at the container's own address; left out: `[labels] address`",
    ),
    (
        Key::Network,
        "the name of a network",
        "which of its networks' addresses is meant; left out: the only one",
    ),
];

/// What is said of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Its port inside the container.
    Port,
    /// Whose requests it gets.
    Host,
    /// Below which path.
    Path,
    /// Its share.
    Weight,
    /// What it is to be.
    State,
    /// What it speaks.
    Proto,
    /// Whether it is a reserve.
    Backup,
    /// Which of its addresses is meant.
    Address,
    /// In which network.
    Network,
}

impl Key {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Host => "host",
            Self::Path => "path",
            Self::Weight => "weight",
            Self::State => "state",
            Self::Proto => "proto",
            Self::Backup => "backup",
            Self::Address => "address",
            Self::Network => "network",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        let mut keys = KEYS.iter().map(|(key, ..)| *key);
        keys.find(|key| key.as_str() == word)
    }

    fn what(self) -> &'static str {
        let mut keys = KEYS.iter();
        keys.find(|(key, ..)| *key == self)
            .map_or("", |(_, what, _)| what)
    }
}

/// Which address of a container is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A published port of the host.
    Host,
    /// The container's own.
    Container,
}

/// A service that a container has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub service: BackendName,
    /// The port inside.
    pub port: Option<u16>,
    /// Which address is meant.
    pub reach: Option<Reach>,
    /// In which network.
    pub network: Option<String>,
    /// What the tags say of it beside, each as it is written there; what is the default is left out.
    pub details: BTreeMap<Key, String>,
}

/// What is wrong with a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// There is no such label.
    Unknown {
        /// The label.
        label: String,
        /// What may be meant.
        meant: Option<String>,
    },
    /// It has a value that it may not have.
    Value {
        /// The label.
        label: String,
        /// What it has.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// It says something of a service that is not named.
    NoService {
        /// The label.
        label: String,
        /// The label that names it.
        missing: String,
    },
    /// A name of digits alone would be read as a port.
    Digits {
        /// The name.
        service: String,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { label, meant } => {
                write!(f, "there is no label {}", short(label))?;
                match meant {
                    Some(meant) => write!(f, "; did you mean {meant}?"),
                    None => Ok(()),
                }
            }
            Self::Value {
                label,
                value,
                expected,
            } => write!(f, "{}={:?}: write {expected}", short(label), short(value)),
            Self::NoService { label, missing } => {
                write!(f, "{label} says something of no service; add {missing}")
            }
            Self::Digits { service } => write!(
                f,
                "the service {service} has a name of digits alone, which is read as a port"
            ),
        }
    }
}

/// Characters of a text that are told.
const TOLD: usize = 60;

fn short(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(TOLD) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// The services of a container; none where it has no label of this prefix.
///
/// # Errors
/// The first label, in the order of names, that is wrong.
pub fn read(labels: &BTreeMap<String, String>, prefix: &str) -> Result<Vec<Wanted>, Flaw> {
    let ours = || {
        let from = labels.range::<str, _>((
            std::ops::Bound::Included(prefix),
            std::ops::Bound::Unbounded,
        ));
        from.map_while(|(label, value)| Some((label, label.strip_prefix(prefix)?, value)))
    };
    let mut of_all: Vec<(Key, &String, &String)> = Vec::new();
    let mut named: BTreeMap<BackendName, Wanted> = BTreeMap::new();
    let mut alone = None;
    for (label, rest, value) in ours() {
        if rest == "service" {
            let service = service(label, value)?;
            alone = Some(service.clone());
            named
                .entry(service.clone())
                .or_insert_with(|| Wanted::new(service));
        } else if let Some(of_one) = rest.strip_prefix("service.") {
            let known = of_one
                .rsplit_once('.')
                .and_then(|(name, key)| Some((name, Key::parse(key)?)));
            let (name, key) = known.ok_or_else(|| unknown(label, prefix, rest))?;
            let service = service(label, name)?;
            let wanted = named
                .entry(service.clone())
                .or_insert_with(|| Wanted::new(service));
            wanted.take(key, label, value)?;
        } else {
            let key = Key::parse(rest).ok_or_else(|| unknown(label, prefix, rest))?;
            of_all.push((key, label, value));
        }
    }
    for (key, label, value) in of_all {
        match (&alone, key) {
            (Some(alone), _) => {
                if let Some(wanted) = named.get_mut(alone) {
                    wanted.take(key, label, value)?;
                }
            }
            // Where a container is, it is for all of its services.
            (None, Key::Address | Key::Network) if !named.is_empty() => {
                for wanted in named.values_mut() {
                    let is_said = match key {
                        Key::Network => wanted.network.is_some(),
                        _ => wanted.reach.is_some(),
                    };
                    if !is_said {
                        wanted.take(key, label, value)?;
                    }
                }
            }
            (None, _) => {
                let missing = format!("{prefix}service=NAME");
                let label = label.clone();
                return Err(Flaw::NoService { label, missing });
            }
        }
    }
    Ok(named.into_values().collect())
}

fn service(label: &str, name: &str) -> Result<BackendName, Flaw> {
    let service = BackendName::new(name).ok_or_else(|| Flaw::Value {
        label: label.to_owned(),
        value: name.to_owned(),
        expected: "the name of a service, 1 to 64 of letters, digits, `_`, `.` and `-`",
    })?;
    if name.bytes().all(|b| b.is_ascii_digit()) {
        let service = name.to_owned();
        return Err(Flaw::Digits { service });
    }
    Ok(service)
}

fn unknown(label: &str, prefix: &str, rest: &str) -> Flaw {
    let (before, word) = match rest.rsplit_once('.') {
        Some((before, word)) if before.starts_with("service.") => (format!("{before}."), word),
        _ => (String::new(), rest),
    };
    let service = before.is_empty().then_some("service");
    let words = KEYS.iter().map(|(key, ..)| key.as_str()).chain(service);
    let near = words.map(|known| (strsim::damerau_levenshtein(word, known), known));
    let near = near
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
        .min();
    Flaw::Unknown {
        label: label.to_owned(),
        meant: near.map(|(_, known)| format!("{prefix}{}{known}", short(&before))),
    }
}

impl Wanted {
    fn new(service: BackendName) -> Self {
        Self {
            service,
            port: None,
            reach: None,
            network: None,
            details: BTreeMap::new(),
        }
    }

    fn take(&mut self, key: Key, label: &str, value: &str) -> Result<(), Flaw> {
        let wrong = || Flaw::Value {
            label: label.to_owned(),
            value: value.to_owned(),
            expected: key.what(),
        };
        let detail = match key {
            Key::Port => {
                let port = number(value).filter(|port| *port != 0);
                self.port = Some(port.ok_or_else(wrong)?);
                return Ok(());
            }
            Key::Address => {
                self.reach = Some(match value {
                    "host" => Reach::Host,
                    "container" => Reach::Container,
                    _ => return Err(wrong()),
                });
                return Ok(());
            }
            Key::Network => {
                let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
                if value.is_empty() || value.len() > 255 || !value.bytes().all(is_name) {
                    return Err(wrong());
                }
                self.network = Some(value.to_owned());
                return Ok(());
            }
            Key::Host => Some(Host::new(value).ok_or_else(wrong)?.as_str().to_owned()),
            Key::Path => Some(Path::new(value).ok_or_else(wrong)?)
                .filter(|path| *path != Path::root())
                .map(|path| path.to_string()),
            Key::Weight => {
                let weight = number(value).and_then(Weight::new).ok_or_else(wrong)?;
                Some(weight.get().to_string()).filter(|_| weight != Weight::DEFAULT)
            }
            Key::State => match value {
                "ready" => None,
                "drain" | "maint" => Some(value.to_owned()),
                _ => return Err(wrong()),
            },
            Key::Proto => match value {
                "http" | "h2" | "tcp" => Some(value.to_owned()),
                _ => return Err(wrong()),
            },
            Key::Backup => match value {
                "true" | "1" => Some("1".to_owned()),
                "false" | "0" => None,
                _ => return Err(wrong()),
            },
        };
        if let Some(detail) = detail {
            self.details.insert(key, detail);
        }
        Ok(())
    }
}

/// A number as people write one: digits, and no zero before them.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(labels: &[(&str, &str)]) -> Result<Vec<Wanted>, Flaw> {
        let labels = labels
            .iter()
            .map(|(label, value)| ((*label).to_owned(), (*value).to_owned()));
        read(&labels.collect(), "serf.")
    }

    fn shown(labels: &[(&str, &str)]) -> String {
        match of(labels) {
            Ok(wanted) => format!("{wanted:?}"),
            Err(flaw) => flaw.to_string(),
        }
    }

    #[test]
    fn a_container_without_labels_of_ours_wants_nothing() {
        assert_eq!(of(&[]), Ok(Vec::new()));
        assert_eq!(
            of(&[
                ("serfs.service", "shop"),
                ("com.example", "x"),
                ("serf", "x")
            ]),
            Ok(Vec::new())
        );
    }

    #[test]
    fn one_service_is_named_and_the_rest_says_something_of_it() {
        let wanted = of(&[
            ("serf.service", "shop"),
            ("serf.port", "3000"),
            ("serf.host", "Shop.example.com"),
            ("serf.path", "/api/"),
            ("serf.weight", "5"),
            ("serf.state", "ready"),
            ("serf.backup", "true"),
            ("serf.address", "container"),
            ("serf.network", "back_end"),
            ("other", "x"),
        ]);
        let [shop] = &wanted.unwrap()[..] else {
            panic!()
        };
        assert_eq!(shop.service.as_str(), "shop");
        assert_eq!(
            (shop.port, shop.reach),
            (Some(3000), Some(Reach::Container))
        );
        assert_eq!(shop.network.as_deref(), Some("back_end"));
        let details: Vec<_> = shop
            .details
            .iter()
            .map(|(key, value)| format!("{}={value}", key.as_str()))
            .collect();
        assert_eq!(
            details,
            ["host=shop.example.com", "path=/api", "weight=5", "backup=1"]
        );
    }

    #[test]
    fn several_services_are_named_in_their_labels() {
        let wanted = of(&[
            ("serf.service.shop.port", "3000"),
            ("serf.service.my.api.port", "4000"),
            ("serf.service.my.api.address", "host"),
            ("serf.address", "container"),
        ])
        .unwrap();
        let shown: Vec<_> = wanted
            .iter()
            .map(|it| (it.service.as_str(), it.port, it.reach))
            .collect();
        assert_eq!(
            shown,
            [
                ("my.api", Some(4000), Some(Reach::Host)),
                ("shop", Some(3000), Some(Reach::Container))
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_what_to_write() {
        for (labels, told) in [
            (
                &[("serf.service", "a b")][..],
                "serf.service=\"a b\": write the name of a service, 1 to 64 of letters, digits, `_`, `.` and `-`",
            ),
            (
                &[("serf.service", "80")],
                "the service 80 has a name of digits alone, which is read as a port",
            ),
            (
                &[("serf.service", "shop"), ("serf.prot", "80")],
                "there is no label serf.prot; did you mean serf.port?",
            ),
            (
                &[("serf.sevice", "shop")],
                "there is no label serf.sevice; did you mean serf.service?",
            ),
            (
                &[("serf.service.shop", "1")],
                "there is no label serf.service.shop",
            ),
            (
                &[("serf.port", "80")],
                "serf.port says something of no service; add serf.service=NAME",
            ),
            (
                &[("serf.service", "shop"), ("serf.port", "080")],
                "serf.port=\"080\": write 1 to 65535",
            ),
            (
                &[("serf.service", "shop"), ("serf.weight", "257")],
                "serf.weight=\"257\": write 0 to 256",
            ),
            (
                &[("serf.service", "shop"), ("serf.host", "a\nb")],
                "serf.host=\"a\\nb\": write a name, `shop.example.com`",
            ),
        ] {
            assert_eq!(shown(labels), told);
        }
        let long = "x".repeat(10_000);
        let told = shown(&[("serf.service", &long)]);
        assert!(told.len() < 250, "{told}");
    }

    /// docs/reference/labels.md, from what is read.
    #[test]
    fn every_label_is_documented_and_no_other() {
        let code = |text: &str| format!("`{text}`");
        let service = [
            code("serf.service"),
            "1 to 64 of letters, digits, `_`, `.` and `-`, not digits alone".to_owned(),
            "the service that the container has; the labels below say something of it".to_owned(),
        ];
        let rows = KEYS.map(|(key, what, says)| {
            [
                code(&format!("serf.{}", key.as_str())),
                what.to_owned(),
                says.to_owned(),
            ]
        });
        let labels = reference::table(
            ["label", "value", "what it says"],
            [service].into_iter().chain(rows),
        );
        let words = crate::instances::Reason::TOLD;
        let words = words.map(|(word, when)| [code(word), when.to_owned()]);
        let words = reference::table(["reason", "when"], words);
        reference::hold(
            "labels.md",
            &format!("## Labels\n\n{labels}\n## Why one is not there\n\n{words}"),
        );
    }

    fn hostile() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[a-z0-9.;,@:='\"\\n /_-]{0,40}",
            Just("x".repeat(10_000)),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_harmless(
            labels in prop::collection::btree_map(
                prop_oneof![
                    "serf\\.(service|port|host|path|weight|state|proto|backup|address|network)",
                    "serf\\.service\\.[a-z.]{0,8}\\.(port|host|path|weight)",
                    hostile().prop_map(|text| format!("serf.{text}")),
                    hostile(),
                ],
                prop_oneof![hostile(), "[a-z]{1,8}", "[0-9]{1,6}"],
                0..6,
            )
        ) {
            match read(&labels, "serf.") {
                Ok(wanted) => for wanted in wanted {
                    prop_assert!(BackendName::new(wanted.service.as_str()).is_some());
                    for value in wanted.details.values() {
                        prop_assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b)), "{}", value);
                    }
                },
                Err(flaw) => {
                    let told = flaw.to_string();
                    prop_assert!(told.chars().count() < 400, "{}", told);
                }
            }
        }
    }
}
