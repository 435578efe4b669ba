//! The words of a server line in, its settings out, or what HAProxy says is wrong with them.

use std::time::Duration;

use crate::version::Version;

/// Where the words stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a configuration file.
    File,
    /// In an `add server`.
    Command,
}

/// What a server line says after the address, as far as it can be seen at runtime.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) weight: u16,
    pub(crate) maxconn: u32,
    pub(crate) disabled: bool,
    /// `enabled`, which 2.6 takes at runtime.
    pub(crate) enabled: bool,
    pub(crate) backup: bool,
    pub(crate) check: bool,
    pub(crate) agent: bool,
    pub(crate) inter: Duration,
    pub(crate) agent_inter: Duration,
    pub(crate) fastinter: Option<Duration>,
    pub(crate) downinter: Option<Duration>,
    pub(crate) rise: u32,
    pub(crate) fall: u32,
    pub(crate) cookie: String,
    pub(crate) track: Option<String>,
    ssl: bool,
    verify: bool,
    agent_port: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            weight: 1,
            maxconn: 0,
            disabled: false,
            enabled: false,
            backup: false,
            check: false,
            agent: false,
            inter: Duration::from_secs(2),
            agent_inter: Duration::from_secs(2),
            fastinter: None,
            downinter: None,
            rise: 2,
            fall: 3,
            cookie: String::new(),
            track: None,
            ssl: false,
            verify: true,
            agent_port: false,
        }
    }
}

/// Words without a value that every version takes at runtime.
const FLAGS: &str = "check check-ssl check-send-proxy check-via-socks4 backup disabled send-proxy send-proxy-v2 \
    send-proxy-v2-ssl send-proxy-v2-ssl-cn ssl no-ssl-reuse no-sslv3 no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 \
    no-tls-tickets allow-0rtt tfo no-tfo agent-check no-backup no-check-ssl no-send-proxy no-send-proxy-v2 no-verifyhost";
/// Words with a value that every version takes at runtime.
const VALUES: &str = "check-sni check-alpn check-proto inter fastinter downinter rise fall weight maxconn minconn \
    maxqueue observe error-limit on-error on-marked-down on-marked-up slowstart track proto proxy-v2-options verify \
    ca-file crl-file crt sni verifyhost alpn ciphers ciphersuites ssl-min-ver ssl-max-ver id source usesrc \
    pool-max-conn pool-low-conn pool-purge-delay ws agent-addr agent-inter agent-send agent-port port addr";
/// Words that stand in a file only: without a value, and with one.
const FILE_FLAGS: &str = "stick non-stick no-check no-ssl ssl-reuse no-agent-check";
const FILE_VALUES: &str = "init-addr resolvers resolve-prefer resolve-net resolve-opts redir namespace socks4 tcp-ut max-reuse log-proto";
/// Words with a value that came with 3.0, and with 3.2.
const VALUES_3_0: &str = "guid hash-key shard pool-conn-name set-proxy-v2-tlv-fmt curves sigalgs";
const VALUES_3_2: &str = "init-state idle-ping check-pool-conn-name";
const FLAGS_3_2: &str = "strict-maxconn check-reuse-pool";

/// How a version takes a word.
enum Kind {
    Unknown,
    /// With so many values, and whether an `add server` may have it.
    Known(usize, bool),
}

fn kind(word: &str, version: Version) -> Kind {
    let is_in = |list: &str| list.split_ascii_whitespace().any(|known| known == word);
    let v3_2 = version >= Version::V3_2;
    match word {
        "cookie" => Kind::Known(1, version.is_3()),
        "enabled" => Kind::Known(0, !version.is_3()),
        _ if is_in(FLAGS) || v3_2 && is_in(FLAGS_3_2) => Kind::Known(0, true),
        _ if is_in(VALUES) || version.is_3() && is_in(VALUES_3_0) || v3_2 && is_in(VALUES_3_2) => {
            Kind::Known(1, true)
        }
        _ if is_in(FILE_FLAGS) => Kind::Known(0, false),
        _ if is_in(FILE_VALUES) => Kind::Known(1, false),
        _ => Kind::Unknown,
    }
}

impl Settings {
    /// Takes the words of a server line, or of a `default-server` line.
    pub(crate) fn take(
        &mut self,
        words: &[String],
        version: Version,
        place: Place,
    ) -> Result<(), String> {
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            match kind(word, version) {
                Kind::Unknown => return Err(format!("unknown keyword '{word}'.")),
                Kind::Known(_, false) if place == Place::Command => {
                    return Err(format!(
                        "'{word}' option is not accepted for dynamic server"
                    ));
                }
                Kind::Known(0, _) => self.flag(word),
                Kind::Known(..) => {
                    let missing = || format!("'{word}' expects a value.");
                    self.value(word, words.next().ok_or_else(missing)?)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a server can be like that.
    pub(crate) fn finish(&self, server: &str) -> Result<(), String> {
        if self.weight > 256 {
            let weight = self.weight;
            return Err(format!(
                "weight of server {server} is not within 0 and 256 ({weight}).."
            ));
        }
        if self.ssl && self.verify {
            return Err("verify is enabled by default but no CA file specified. If you're running on a LAN where you're \
                 certain to trust the server's certificate, please set an explicit 'verify none' statement on the \
                 'server' line, or use 'ssl-server-verify none' in the global section to disable server-side \
                 verifications by default.".to_owned());
        }
        if self.agent && !self.agent_port {
            return Err(
                "server does not have agent port. Agent check has been disabled.".to_owned(),
            );
        }
        Ok(())
    }

    fn flag(&mut self, word: &str) {
        match word {
            "check" => self.check = true,
            "no-check" => self.check = false,
            "agent-check" => self.agent = true,
            "no-agent-check" => self.agent = false,
            "backup" => self.backup = true,
            "no-backup" => self.backup = false,
            "disabled" => (self.disabled, self.enabled) = (true, false),
            "enabled" => (self.disabled, self.enabled) = (false, true),
            "ssl" => self.ssl = true,
            "no-ssl" => self.ssl = false,
            _ => {}
        }
    }

    fn value(&mut self, word: &str, value: &str) -> Result<(), String> {
        match word {
            // as C's atoi: what is no number is 0
            "weight" => self.weight = leading::<u16>(value).min(9999),
            "maxconn" => self.maxconn = leading(value),
            "rise" => self.rise = leading(value),
            "fall" => self.fall = leading(value),
            "inter" => self.inter = time(value)?,
            "agent-inter" => self.agent_inter = time(value)?,
            "fastinter" => self.fastinter = Some(time(value)?),
            "downinter" => self.downinter = Some(time(value)?),
            "cookie" => value.clone_into(&mut self.cookie),
            "track" => self.track = Some(value.to_owned()),
            "agent-port" => self.agent_port = true,
            "verify" => self.verify = value != "none",
            "ca-file" if value == "@system-ca" => self.verify = false,
            "ca-file" => return Err(format!("'ca-file' : unable to load {value}.")),
            "crt" => return Err(format!("unable to stat SSL certificate '{value}'.")),
            _ => {}
        }
        Ok(())
    }
}

/// The number that a text starts with, 0 where it starts with none.
pub(crate) fn leading<T: std::str::FromStr + Default>(text: &str) -> T {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits)
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// A time of HAProxy's, in milliseconds where it names no unit.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number
        .parse()
        .map_err(|_| format!("unexpected character '{text}' in argument to <inter>."))?;
    let millis = match unit {
        "us" => return Ok(Duration::from_micros(number)),
        "" | "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => {
            return Err(format!(
                "unexpected character '{unit}' in argument to <inter>."
            ));
        }
    };
    Ok(Duration::from_millis(number.saturating_mul(millis)))
}
