//! What is asked at a terminal: what was found and the lines that are typed in, what is left to say out.
//!
//! Everything has a proposal where members give one. Nothing here changes anything.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use super::found::{self, Tag};
use super::{Asked, Survey};

/// Tags that are shown.
const SHOWN: usize = 10;
/// An answer that cannot be read is asked for again so often.
const TRIES: usize = 3;

/// Asks on one side and reads on the other.
#[derive(Debug)]
pub struct Questions<R, W> {
    answers: R,
    asks: W,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// The terminal is gone, or what was typed has ended.
    #[error(
        "there was no answer, and nothing is changed; flags say it beforehand: serf-haproxy setup --help"
    )]
    End,
    /// It cannot be read.
    #[error("that is no answer: {0}; nothing is changed")]
    Unreadable(String),
    /// Nothing can be asked or read.
    #[error("cannot ask at this terminal")]
    Terminal(#[from] io::Error),
}

impl<R: BufRead, W: Write> Questions<R, W> {
    /// Reads answers here, and asks there.
    pub fn new(answers: R, asks: W) -> Self {
        Self { answers, asks }
    }

    /// Where the agent is, of which nothing was found.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn agent(&mut self, tried: &str, asked: &mut Asked) -> Result<(), NoAnswer> {
        let addr = self.ask(
            "where is the RPC of this host's Serf agent?",
            Some(tried),
            addr,
        )?;
        asked.agent = Some(addr);
        let none = "none";
        let path = |word: &str| Ok((word != none).then(|| PathBuf::from(word)));
        asked.auth_key_file = self.ask("which file has its key (rpc_auth)?", Some(none), path)?;
        Ok(())
    }

    /// What nobody said beforehand, and what cannot be found.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn rest(&mut self, survey: &Survey, asked: &mut Asked) -> Result<(), NoAnswer> {
        let tag = match &asked.tag {
            Some(tag) => tag.clone(),
            None => self.tag(survey)?,
        };
        if asked.port.is_none() {
            let proposed = survey.port(&tag).map(|port| port.to_string());
            let question = "on which port do they listen?";
            asked.port = Some(self.ask(question, proposed.as_deref(), port)?);
        }
        asked.tag = Some(tag);
        Ok(())
    }

    fn tag(&mut self, survey: &Survey) -> Result<Tag, NoAnswer> {
        let tags = survey.tags();
        if tags.is_empty() {
            writeln!(self.asks, "no member has a tag yet")?;
        } else {
            writeln!(self.asks, "members that are alive have")?;
        }
        for (key, value) in tags.iter().take(SHOWN) {
            let has = survey.count(&(key.clone(), value.clone()));
            let members = if has == 1 { "member" } else { "members" };
            writeln!(self.asks, "    {key}={value}   {has} {members}")?;
        }
        let proposed = tags.first().map(|(key, value)| format!("{key}={value}"));
        self.ask(
            "which tag do web servers have?",
            proposed.as_deref(),
            found::tag,
        )
    }

    /// Whether somebody says yes; anything else is a no.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub fn agrees(&mut self, question: &str) -> Result<bool, NoAnswer> {
        let is_yes = |word: &str| Ok(["y", "yes"].contains(&word.to_lowercase().as_str()));
        self.ask(question, Some("no"), is_yes)
    }

    /// The answer to a question, the proposal for an empty one.
    fn ask<T>(
        &mut self,
        question: &str,
        proposed: Option<&str>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, NoAnswer> {
        let hint = proposed.map(|proposed| format!(" [{proposed}]"));
        let mut wrong = String::new();
        for _ in 0..TRIES {
            write!(self.asks, "{question}{} ", hint.as_deref().unwrap_or(""))?;
            self.asks.flush()?;
            let mut line = String::new();
            if self.answers.read_line(&mut line)? == 0 {
                return Err(NoAnswer::End);
            }
            let word = match line.trim() {
                "" => proposed.unwrap_or(""),
                word => word,
            };
            match read(word) {
                Ok(answer) => return Ok(answer),
                Err(what) => wrong = what,
            }
            writeln!(self.asks, "{wrong}")?;
        }
        Err(NoAnswer::Unreadable(wrong))
    }
}

fn port(word: &str) -> Result<u16, String> {
    let port = word.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("want a port, as in 3000, got {word:?}"))
}

fn addr(word: &str) -> Result<String, String> {
    let has_port = word
        .rsplit_once(':')
        .is_some_and(|(_, after)| port(after).is_ok());
    let addr = has_port.then(|| word.to_owned());
    addr.ok_or_else(|| format!("want an address with a port, as in 127.0.0.1:7373, got {word:?}"))
}

#[cfg(test)]
mod tests {
    use serf_rpc::{Member, MemberStatus};

    use super::super::Agent;
    use super::*;

    fn survey(tags: &[&[(&str, &str)]]) -> Survey {
        let member = |(at, tags): (usize, &&[(&str, &str)])| {
            let addr = format!("10.0.0.{}", at + 1).parse().unwrap();
            let builder = Member::builder(format!("m{at}")).addr(addr, 7946);
            let builder = builder.status(MemberStatus::Alive);
            let tags = tags.iter();
            tags.fold(builder, |builder, (key, value)| builder.tag(*key, *value))
                .build()
        };
        Survey {
            agent: Agent::read([]),
            key_file: None,
            site: Vec::new(),
            members: tags.iter().enumerate().map(member).collect(),
        }
    }

    fn answered(survey: &Survey, typed: &str, asked: &mut Asked) -> (Result<(), NoAnswer>, String) {
        let mut said = Vec::new();
        let result = Questions::new(typed.as_bytes(), &mut said).rest(survey, asked);
        (result, String::from_utf8(said).unwrap())
    }

    #[test]
    fn empty_lines_take_what_members_propose() {
        let web: &[_] = &[("role", "web"), ("port", "8080")];
        let survey = survey(&[&[("role", "lb")], web, web]);
        let mut asked = Asked::default();
        let (result, said) = answered(&survey, "\n\n", &mut asked);
        result.unwrap();
        assert_eq!(asked.tag, found::tag("role=web").ok());
        assert_eq!(asked.port, Some(8080));
        assert!(said.contains("role=web   2 members"), "{said}");
        assert!(said.contains("role=lb   1 member\n"), "{said}");
    }

    #[test]
    fn what_was_said_beforehand_is_not_asked() {
        let mut asked = Asked {
            tag: found::tag("role=web").ok(),
            port: Some(1),
            ..Asked::default()
        };
        let (result, said) = answered(&survey(&[]), "", &mut asked);
        result.unwrap();
        assert_eq!(said, "");
    }

    #[test]
    fn an_answer_that_is_none_is_asked_for_again_and_then_the_end() {
        let survey = survey(&[]);
        let mut asked = Asked::default();
        let (result, said) = answered(&survey, "web\nrole=web\n0\nx\n80\n", &mut asked);
        result.unwrap();
        assert_eq!(asked.port, Some(80), "{said}");
        let (result, _) = answered(&survey, "a\nb\nc\nrole=web\n", &mut Asked::default());
        assert!(matches!(result, Err(NoAnswer::Unreadable(_))), "{result:?}");
        let (result, _) = answered(&survey, "role=web\n", &mut Asked::default());
        assert!(matches!(result, Err(NoAnswer::End)), "{result:?}");
    }

    #[test]
    fn only_a_yes_is_one() {
        let agrees = |typed: &str| {
            let mut said = Vec::new();
            Questions::new(typed.as_bytes(), &mut said).agrees("do it?")
        };
        assert!(agrees("yes\n").unwrap() && agrees("Y\n").unwrap());
        assert!(!agrees("\n").unwrap() && !agrees("no\n").unwrap() && !agrees("yess\n").unwrap());
        assert!(agrees("").is_err());
    }

    #[test]
    fn a_tag_that_is_no_plain_word_is_not_proposed() {
        let survey = survey(&[&[("role", "x; reboot")], &[("role", "\u{202e}web")]]);
        let (result, said) = answered(&survey, "\n", &mut Asked::default());
        assert!(result.is_err());
        assert!(said.starts_with("no member has a tag yet\n"), "{said}");
    }

    #[test]
    fn the_agent_is_asked_for_with_its_key() {
        let ask = |typed: &str| {
            let (mut said, mut asked) = (Vec::new(), Asked::default());
            let result =
                Questions::new(typed.as_bytes(), &mut said).agent("127.0.0.1:7373", &mut asked);
            result.map(|()| (asked.agent, asked.auth_key_file))
        };
        let addr = |addr: &str| Some(addr.to_owned());
        assert_eq!(ask("\n\n").unwrap(), (addr("127.0.0.1:7373"), None));
        let given = ask("lb\n10.0.0.2:7373\n/root/key\n").unwrap();
        assert_eq!(given, (addr("10.0.0.2:7373"), Some("/root/key".into())));
    }
}
