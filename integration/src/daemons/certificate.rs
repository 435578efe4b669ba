//! Certificates that nobody trusts: a host's name goes in, the texts of its files come out.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A certificate of its own making, and its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// As a server sends it.
    pub der: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// A new one for this host.
    ///
    /// # Errors
    /// When the name is none.
    pub fn of(host: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([host.to_owned()])?;
        Ok(Self {
            der: made.cert.der().to_vec(),
            key: made.signing_key.serialize_der(),
        })
    }

    /// A new one that ends on this day.
    ///
    /// # Errors
    /// When the name or the day is none.
    pub fn until(host: &str, year: i32, month: u8, day: u8) -> Result<Self> {
        let mut params = rcgen::CertificateParams::new([host.to_owned()])?;
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate()?;
        Ok(Self {
            der: params.self_signed(&key)?.der().to_vec(),
            key: key.serialize_der(),
        })
    }

    /// As PEM.
    #[must_use]
    pub fn chain(&self) -> String {
        section("CERTIFICATE", &self.der)
    }

    /// Its key as PEM.
    #[must_use]
    pub fn key(&self) -> String {
        section("PRIVATE KEY", &self.key)
    }

    /// Both, as HAProxy reads them from one file.
    #[must_use]
    pub fn pem(&self) -> String {
        self.chain() + &self.key()
    }
}

fn section(kind: &str, der: &[u8]) -> String {
    let lines: Vec<String> = der.chunks(48).map(|line| STANDARD.encode(line)).collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    )
}
