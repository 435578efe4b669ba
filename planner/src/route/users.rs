//! Who may: the bytes of an htpasswd file in, users with their hashes out, or what is wrong with a line. Pure.

use std::fmt;
use std::path::PathBuf;

/// Users of one file at most.
const MOST: usize = 1000;

/// Who has to say a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The htpasswd file.
    pub file: PathBuf,
    /// Its users, once it was read; nobody gets in before.
    pub users: Vec<User>,
}

/// A user with the hash of a password. Both are safe to print as words of HAProxy's configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// 1 to 64 letters, digits and `._@+-`.
    pub name: String,
    /// As crypt(3) knows it.
    pub hash: String,
}

/// Without the hash, which is nobody's to read in a log.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("User").field(&self.name).finish()
    }
}

/// What is wrong with a file of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// It has none.
    #[error("there is no user in it; add one with `htpasswd -B`")]
    Nobody,
    /// It has too many.
    #[error("there are more than {MOST} users in it; split it")]
    TooMany,
    /// A line that is none.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it; what to do.
        problem: &'static str,
    },
}

impl BasicAuth {
    /// Reads a file: `NAME:HASH` a line; empty lines and those that begin with `#` are none.
    ///
    /// # Errors
    /// The first line that is none; nobody; more than may be.
    pub fn parse(bytes: &[u8]) -> Result<Vec<User>, UsersError> {
        let mut users: Vec<User> = Vec::new();
        for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let text = std::str::from_utf8(line).unwrap_or("\u{fffd}").trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let line = index + 1;
            let refuse = |problem| UsersError::Line { line, problem };
            let user = user(text).map_err(refuse)?;
            if users.iter().any(|known| known.name == user.name) {
                return Err(refuse("this user was there before; leave one line"));
            }
            users.push(user);
        }
        match users.len() {
            0 => Err(UsersError::Nobody),
            1..=MOST => Ok(users),
            _ => Err(UsersError::TooMany),
        }
    }
}

fn user(text: &str) -> Result<User, &'static str> {
    let (name, hash) = text
        .split_once(':')
        .ok_or("no `NAME:HASH`; make lines with `htpasswd -B`")?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._@+-".contains(&b);
    if !(1..=64).contains(&name.len()) || !name.bytes().all(fits) || name.starts_with('-') {
        return Err("not a name; use 1 to 64 letters, digits and `._@+-`");
    }
    is_hash(hash)?;
    let (name, hash) = (name.to_owned(), hash.to_owned());
    Ok(User { name, hash })
}

/// Whether crypt(3) of a Linux system knows it, as HAProxy asks that (Configuration Manual, section 12.2 "Userlists").
fn is_hash(hash: &str) -> Result<(), &'static str> {
    const HINT: &str = "not a hash that HAProxy knows; make one with `htpasswd -B` (bcrypt) or `openssl passwd -5` (SHA-256)";
    let mut parts = hash.split('$');
    let (Some(""), Some(kind)) = (parts.next(), parts.next()) else {
        return Err(HINT);
    };
    let rest: Vec<&str> = parts.collect();
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"./=,".contains(&b);
    let is_clean = rest
        .iter()
        .all(|part| !part.is_empty() && part.bytes().all(fits));
    let last = rest.last().map_or(0, |last| last.len());
    let is_whole = match (kind, rest.len()) {
        ("2a" | "2b" | "2y", 2) => last == 53,
        ("5", 2 | 3) => last == 43,
        ("6", 2 | 3) => last == 86,
        ("y", 3) => last == 43,
        ("apr1", _) => {
            return Err(
                "Apache's own hash, which HAProxy does not know; make another with `htpasswd -B`",
            );
        }
        ("1", _) => {
            return Err(
                "an MD5 hash, which is too easily guessed; make another with `htpasswd -B`",
            );
        }
        _ => false,
    };
    if is_clean && is_whole {
        Ok(())
    } else {
        Err(HINT)
    }
}
