//! What of the certificates needs a person: how they stand in, problems with advice out. Pure.

use std::time::{Duration, UNIX_EPOCH};

use super::concerns::Concern;
use crate::certificates::Report;

/// So many are named one by one.
const NAMED: usize = 20;

const BAD: &str = "put a certificate with its key there that can be used, or take it away; it is read again within a second of \
                   any change";
const EXPIRED: &str =
    "renew it; browsers refuse it until then (docs/front-ends.md says how Certbot and lego do)";

/// What is wrong with certificates; `now` is in seconds since 1970.
pub(super) fn concerns(report: &Report, now: u64) -> Vec<Concern> {
    let mut found: Vec<Concern> = report
        .problems
        .iter()
        .map(|(what, problem)| Concern {
            what: what.clone(),
            problem: problem.clone(),
            advice: BAD.to_owned(),
        })
        .collect();
    for certificate in &report.certificates {
        let Some(expires) = certificate.expires.filter(|expires| *expires <= now) else {
            continue;
        };
        let what = format!("certificate {}/{}", certificate.frontend, certificate.name);
        if found.iter().any(|concern| concern.what == what) {
            continue;
        }
        let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(expires));
        found.push(Concern {
            problem: format!("{what} has expired on {date}"),
            what,
            advice: EXPIRED.to_owned(),
        });
    }
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    if let Some(last) = found.last_mut().filter(|_| more > 0) {
        last.problem.push_str(&format!("; and {more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Certificate;

    fn report(count: usize, expires: u64) -> Report {
        let certificate = |number| Certificate {
            frontend: "main".to_owned(),
            name: format!("c{number}"),
            expires: Some(expires),
            ..Certificate::default()
        };
        Report {
            certificates: (0..count).map(certificate).collect(),
            ..Report::default()
        }
    }

    #[test]
    fn an_expired_one_is_told_and_of_many_a_few() {
        assert_eq!(concerns(&report(2, 101), 100), []);
        let found = concerns(&report(1, 100), 100);
        assert_eq!(
            found[0].problem,
            "certificate main/c0 has expired on 1970-01-01T00:01:40Z"
        );
        let found = concerns(&report(30, 1), 100);
        assert_eq!(found.len(), 20);
        assert!(found[19].problem.ends_with("; and 10 more"));
        let mut both = report(1, 1);
        let what = "certificate main/c0".to_owned();
        both.problems.insert(what, "it is broken".to_owned());
        assert_eq!(concerns(&both, 100).len(), 1);
    }
}
