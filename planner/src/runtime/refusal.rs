//! The reply to one command in, done or the reason why not out. Pure.
//!
//! The texts are those of HAProxy 2.6, 3.0 and 3.2; one that is on no list counts as a refusal, never as done.

use super::command::Verb;

/// Why HAProxy did not do a command; the server is as it was before it.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// `add server`: the name is taken; the options were not compared.
    #[error("a server of this name exists")]
    Exists,
    /// The backend is unknown to this worker.
    #[error("no such backend")]
    NoSuchBackend,
    /// The server is unknown to this worker.
    #[error("no such server")]
    NoSuchServer,
    /// `add server`: the balance algorithm of the backend is static.
    #[error("the backend's balance algorithm takes no servers at runtime")]
    StaticBalance,
    /// `add server`: the keyword is for the configuration file only.
    #[error("option {0:?} cannot be set at runtime")]
    NotDynamic(String),
    /// `add server`: this version does not know the keyword.
    #[error("option {0:?} is unknown to this HAProxy")]
    UnknownKeyword(String),
    /// `add server`: a certificate or CA file that the running configuration has not loaded.
    #[error("a file is not loaded: {0}")]
    FileNotLoaded(String),
    /// `del server`: it is not in maint.
    #[error("only a server in maint can be deleted")]
    NotInMaint,
    /// `del server`: connections are open to it, running or (2.6) idle.
    #[error("connections to the server are still open")]
    Busy,
    /// `del server`: another part of the configuration names it.
    #[error("other parts of the configuration name the server")]
    Referenced,
    /// `enable health` of a server without `check`.
    #[error("the server has no health check")]
    NoCheck,
    /// `set server … weight` in a backend with a static balance algorithm.
    #[error("the backend's balance algorithm takes no weights at runtime")]
    StaticWeight,
    /// `set server … addr`: HAProxy took it, but a second later the server still had its old address.
    #[error("the new address has not come into force")]
    AddressUnsettled,
    /// Any other text.
    #[error("haproxy answered: {0}")]
    Other(String),
}

/// Whether the stats socket lets us do nothing because it is not `level admin`.
pub fn is_permission_denied(reply: &str) -> bool {
    reply.trim() == "Permission denied"
}

/// Reads the reply to a command.
///
/// # Errors
/// [`Refusal`] for anything but the closed list of replies that say it was done.
pub fn judge(verb: Verb, reply: &str) -> Result<(), Refusal> {
    let reply = reply.trim();
    let done = match verb {
        // warnings may stand above the last line
        Verb::Add => reply.lines().last() == Some("New server registered."),
        Verb::Delete => reply.lines().last() == Some("Server deleted."),
        Verb::Address => {
            let starts = [
                "IP changed from ",
                "port changed from ",
                "no need to change the addr",
                "nothing changed",
            ];
            starts.iter().any(|start| reply.starts_with(start)) && reply.lines().count() == 1
        }
        Verb::Silent => reply.is_empty(),
    };
    if done { Ok(()) } else { Err(refusal(reply)) }
}

/// Whether the backend takes servers at runtime, from the reply to an `add server` without an address; none when it says
/// neither.
///
/// HAProxy looks at the balance algorithm before it looks at anything else of the command.
pub fn accepts_add(reply: &str) -> Option<bool> {
    match refusal(reply.trim()) {
        Refusal::StaticBalance => Some(false),
        Refusal::Exists => Some(true),
        Refusal::Other(text) if text.starts_with("'server' expects <name> and <addr>") => {
            Some(true)
        }
        _ => None,
    }
}

fn refusal(reply: &str) -> Refusal {
    match reply {
        "Already exists a server with the same name in backend." => Refusal::Exists,
        "No such backend." => Refusal::NoSuchBackend,
        "No such server." => Refusal::NoSuchServer,
        "Backend must use a dynamic load balancing to support dynamic servers." => {
            Refusal::StaticBalance
        }
        "Only servers in maintenance mode can be deleted." => Refusal::NotInMaint,
        "Server still has connections attached to it, cannot remove it." => Refusal::Busy,
        "This server cannot be removed at runtime due to other configuration elements pointing to it." => {
            Refusal::Referenced
        }
        "Health check was not configured on this server, cannot enable." => Refusal::NoCheck,
        "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'." => {
            Refusal::StaticWeight
        }
        other => keyword(other).unwrap_or_else(|| Refusal::Other(other.to_owned())),
    }
}

fn keyword(reply: &str) -> Option<Refusal> {
    if reply.contains("unable to load ") || reply.contains("unable to stat SSL certificate") {
        return Some(Refusal::FileNotLoaded(reply.to_owned()));
    }
    if let Some(rest) = reply.strip_prefix("unknown keyword '") {
        return Some(Refusal::UnknownKeyword(rest.split_once('\'')?.0.to_owned()));
    }
    let (word, rest) = reply.strip_prefix('\'')?.split_once('\'')?;
    rest.starts_with(" option is not accepted for dynamic server")
        .then(|| Refusal::NotDynamic(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_done_is_told_from_the_closed_list() {
        assert_eq!(judge(Verb::Add, "New server registered.\n"), Ok(()));
        assert_eq!(
            judge(Verb::Add, "some warning\nNew server registered.\n"),
            Ok(())
        );
        assert_eq!(judge(Verb::Delete, "Server deleted."), Ok(()));
        assert_eq!(judge(Verb::Silent, ""), Ok(()));
        for reply in [
            "IP changed from '127.12.0.4' to '127.12.0.5', port changed from '3000' to '3001' by 'stats socket command'",
            "no need to change the addr, no need to change the port by 'stats socket command'",
            "no need to change the addr, port changed from '3001' to '3002' by 'stats socket command'",
            "port changed from '3001' to '3002' by 'stats socket command'",
            "nothing changed",
        ] {
            assert_eq!(judge(Verb::Address, reply), Ok(()), "{reply}");
        }
    }

    #[test]
    fn silence_is_no_answer_to_a_command_that_talks() {
        for verb in [Verb::Add, Verb::Delete, Verb::Address] {
            assert_eq!(judge(verb, ""), Err(Refusal::Other(String::new())));
        }
        assert!(judge(Verb::Silent, "New server registered.").is_err());
    }

    #[test]
    fn refusals_are_told_apart() {
        let add = |reply| judge(Verb::Add, reply).unwrap_err();
        assert_eq!(
            add("Already exists a server with the same name in backend.\n"),
            Refusal::Exists
        );
        assert_eq!(add("No such backend."), Refusal::NoSuchBackend);
        assert_eq!(
            add("Backend must use a dynamic load balancing to support dynamic servers."),
            Refusal::StaticBalance
        );
        assert_eq!(
            add("'cookie' option is not accepted for dynamic server"),
            Refusal::NotDynamic("cookie".into())
        );
        assert_eq!(
            add("unknown keyword 'bogus'."),
            Refusal::UnknownKeyword("bogus".into())
        );
        assert_eq!(
            add("unknown keyword 'chec'; did you mean 'check' maybe ?"),
            Refusal::UnknownKeyword("chec".into())
        );
        assert!(matches!(
            add("'ca-file' : unable to load /x."),
            Refusal::FileNotLoaded(_)
        ));
        assert!(matches!(
            add("unable to stat SSL certificate '/x'."),
            Refusal::FileNotLoaded(_)
        ));
        assert!(matches!(add("invalid port '99999'"), Refusal::Other(_)));
        let delete = |reply| judge(Verb::Delete, reply).unwrap_err();
        assert_eq!(
            delete("Only servers in maintenance mode can be deleted."),
            Refusal::NotInMaint
        );
        assert_eq!(
            delete("Server still has connections attached to it, cannot remove it."),
            Refusal::Busy
        );
        let pointed = "This server cannot be removed at runtime due to other configuration elements pointing to it.";
        assert_eq!(delete(pointed), Refusal::Referenced);
        let silent = |reply| judge(Verb::Silent, reply).unwrap_err();
        assert_eq!(silent("No such server."), Refusal::NoSuchServer);
        assert_eq!(
            silent("Health check was not configured on this server, cannot enable."),
            Refusal::NoCheck
        );
        let weights =
            "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'.";
        assert_eq!(silent(weights), Refusal::StaticWeight);
    }

    #[test]
    fn a_backend_that_takes_servers_asks_for_an_address() {
        assert_eq!(
            accepts_add("'server' expects <name> and <addr>[:<port>] as arguments.\n"),
            Some(true)
        );
        let refused = "Backend must use a dynamic load balancing to support dynamic servers.\n";
        assert_eq!(accepts_add(refused), Some(false));
        assert_eq!(accepts_add("No such backend."), None);
        assert_eq!(accepts_add(""), None);
    }

    proptest! {
        #[test]
        fn any_reply_is_judged_without_a_panic(reply in any::<String>()) {
            for verb in [Verb::Add, Verb::Address, Verb::Delete, Verb::Silent] {
                let _ = judge(verb, &reply);
            }
            let _ = accepts_add(&reply);
        }
    }
}
