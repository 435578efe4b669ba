//! What stands in for a certificate where there is none yet: nothing in, one that nobody trusts out. HAProxy does not start
//! with a `bind` line for TLS that has none.

use super::pem::{self, Certificate};

/// Whom it is for: nobody (RFC 2606).
const NOBODY: &str = "no-certificate-yet.invalid";

/// Makes one.
pub(super) fn make() -> Result<Certificate, rcgen::Error> {
    let made = rcgen::generate_simple_self_signed([NOBODY.to_owned()])?;
    let mut text = String::new();
    pem::write_section(&mut text, "CERTIFICATE", made.cert.der());
    pem::write_section(&mut text, "PRIVATE KEY", &made.signing_key.serialize_der());
    pem::read(&[text.into_bytes()]).map_err(|_| rcgen::Error::CouldNotParseCertificate)
}
