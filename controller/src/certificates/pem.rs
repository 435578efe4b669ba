//! A certificate with its key: the bytes of its files in, a text that HAProxy reads and what people want to know out; or why
//! they are none. Pure.
//!
//! The text is written anew from what was read: certificates and one key, and nothing else that stood in the files.

use std::fmt::Write as _;
use std::io::Cursor;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use planner::runtime::certificates::{Fingerprint, MOST_BYTES};
use rustls_pki_types::pem::{self, SectionKind};
use sha1::{Digest as _, Sha1};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// Names of a certificate that are told.
const MOST_NAMES: usize = 100;
/// Bytes in a line of a text (RFC 7468, section 2).
const LINE: usize = 48;

/// A certificate that may be put before HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Its chain, itself first, and its key; no line is empty.
    pub(crate) pem: String,
    /// The hosts that it is for, as it says them: hostile until printed.
    pub(crate) names: Vec<String>,
    /// When it ends, in seconds since 1970.
    pub(crate) expires: u64,
    pub(crate) fingerprint: Fingerprint,
}

/// Why files are no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// A file cannot be read as PEM.
    #[error("it is no PEM, or was cut off")]
    NotPem,
    /// No `CERTIFICATE` in it.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// Nothing but an encrypted key, or none.
    #[error("there is no private key in it or beside it; an encrypted one cannot be used")]
    NoKey,
    /// More than one.
    #[error("there are several private keys")]
    SeveralKeys,
    /// The first certificate cannot be read.
    #[error("its first certificate is none that can be read")]
    NotX509,
    /// HAProxy would not take it at runtime.
    #[error(
        "it has {0} bytes, and HAProxy takes no more than {MOST_BYTES} at runtime; leave out what no client needs of the chain"
    )]
    TooLarge(usize),
}

/// Reads the parts of a certificate, in this order: a chain, and a key after it or in a file of its own.
///
/// # Errors
/// [`Unusable`].
pub(crate) fn read(files: &[Vec<u8>]) -> Result<Certificate, Unusable> {
    let (mut chain, mut keys) = (Vec::new(), Vec::new());
    for file in files {
        let mut rest = Cursor::new(file.as_slice());
        while let Some((kind, der)) = pem::from_buf(&mut rest).map_err(|_| Unusable::NotPem)? {
            match kind {
                SectionKind::Certificate => chain.push(der),
                SectionKind::PrivateKey => keys.push(("PRIVATE KEY", der)),
                SectionKind::RsaPrivateKey => keys.push(("RSA PRIVATE KEY", der)),
                SectionKind::EcPrivateKey => keys.push(("EC PRIVATE KEY", der)),
                _ => {}
            }
        }
    }
    let first = chain.first().ok_or(Unusable::NoCertificate)?;
    let (kind, key) = match keys.as_slice() {
        [key] => key,
        [] => return Err(Unusable::NoKey),
        _ => return Err(Unusable::SeveralKeys),
    };
    let (_, certificate) = X509Certificate::from_der(first).map_err(|_| Unusable::NotX509)?;
    let mut pem = String::new();
    for certificate in &chain {
        write_section(&mut pem, "CERTIFICATE", certificate);
    }
    write_section(&mut pem, kind, key);
    if pem.len() > MOST_BYTES {
        return Err(Unusable::TooLarge(pem.len()));
    }
    let expires = certificate.validity().not_after.timestamp();
    Ok(Certificate {
        pem,
        names: names(&certificate),
        expires: u64::try_from(expires).unwrap_or(0),
        fingerprint: Sha1::digest(first).into(),
    })
}

/// Writes one part as PEM.
pub(crate) fn write_section(text: &mut String, kind: &str, der: &[u8]) {
    let _ = writeln!(text, "-----BEGIN {kind}-----");
    for line in der.chunks(LINE) {
        let _ = writeln!(text, "{}", STANDARD.encode(line));
    }
    let _ = writeln!(text, "-----END {kind}-----");
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let also = certificate.subject_alternative_name().ok().flatten();
    let also = also.iter().flat_map(|it| &it.value.general_names);
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => ip(bytes).map(|ip| ip.to_string()),
        _ => None,
    };
    let names: Vec<String> = also.filter_map(name).take(MOST_NAMES).collect();
    if !names.is_empty() {
        return names;
    }
    let common = certificate.subject().iter_common_name().next();
    let common = common.and_then(|name| name.as_str().ok());
    common.map(str::to_owned).into_iter().collect()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A certificate and its key, each as PEM.
    fn made(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (mut certificate, mut key) = (String::new(), String::new());
        write_section(&mut certificate, "CERTIFICATE", made.cert.der());
        write_section(&mut key, "PRIVATE KEY", &made.signing_key.serialize_der());
        (certificate, key)
    }

    fn of(parts: &[&str]) -> Result<Certificate, Unusable> {
        let files: Vec<Vec<u8>> = parts.iter().map(|part| part.as_bytes().to_vec()).collect();
        read(&files)
    }

    #[test]
    fn a_certificate_is_what_its_files_have_and_nothing_that_stands_beside_it() {
        let (certificate, key) = made("a.example");
        let whole = format!("{certificate}{key}");
        let read = of(&[&format!("subject=A\n\n{certificate}\n\n# note\n{key}")]).unwrap();
        assert_eq!(read.pem, whole);
        assert_eq!(read.names, ["a.example"]);
        assert!(read.expires > 1_700_000_000);
        assert_eq!(of(&[&certificate, &key]).unwrap(), read);
        assert_eq!(of(&[&key, &certificate]).unwrap().pem, whole);
        let (other, _) = made("ca");
        let chain = of(&[&format!("{certificate}{other}{key}")]).unwrap();
        assert_eq!(chain.pem, format!("{certificate}{other}{key}"));
        assert_eq!(chain.fingerprint, read.fingerprint);
    }

    #[test]
    fn what_is_no_certificate_is_told_why() {
        let (certificate, key) = made("a");
        let cut = &certificate[..certificate.len() / 2];
        for (parts, why) in [
            (vec![key.as_str()], Unusable::NoCertificate),
            (vec![""], Unusable::NoCertificate),
            (vec![certificate.as_str()], Unusable::NoKey),
            (
                vec![certificate.as_str(), &key, &key],
                Unusable::SeveralKeys,
            ),
            (vec![cut, key.as_str()], Unusable::NotPem),
            (
                vec![
                    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                    &key,
                ],
                Unusable::NotX509,
            ),
        ] {
            assert_eq!(of(&parts), Err(why), "{parts:?}");
        }
        let long = certificate.repeat(60);
        assert!(matches!(of(&[&long, &key]), Err(Unusable::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn nothing_but_pem_comes_of_any_bytes(
            junk in prop::collection::vec(any::<u8>(), 0..200),
            text in "(-----BEGIN (CERTIFICATE|PRIVATE KEY)-----\n|-----END (CERTIFICATE|PRIVATE KEY)-----\n|[A-Za-z0-9+/=\n;<]{1,9}){0,9}",
        ) {
            let (certificate, key) = made("a");
            for file in [junk, text.into_bytes()] {
                let mut files = vec![file];
                let _ = read(&files);
                files.extend([certificate.clone().into_bytes(), key.clone().into_bytes()]);
                if let Ok(read) = read(&files) {
                    let safe = |b: u8| b.is_ascii_alphanumeric() || b"+/=- \n".contains(&b);
                    prop_assert!(read.pem.bytes().all(safe), "{}", read.pem);
                    prop_assert!(!read.pem.contains("\n\n"));
                }
            }
        }
    }
}
