//! What is left to be done, for people: steps, reasons and texts in, lines and a diff out. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use similar::TextDiff;

/// What is left to be done. Its JSON form is an interface: names are stable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingPlan {
    /// Steps through the Runtime API, in order.
    pub steps: Vec<String>,
    /// Reasons for a reload; none where none is due.
    pub reload: Vec<String>,
    /// What the running controller has not taken of config and templates; none where it has taken all, or none runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<Unread>,
    /// The file as it is on disk; none where there is none.
    pub on_disk: Option<String>,
    /// The file as it is to be.
    pub wanted: String,
}

/// Files that say something else than what the running controller goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Config and templates that have changed; none where it cannot be told which, because they are wrong.
    pub files: Vec<PathBuf>,
    /// Keys that have changed and are read at a start only, so that a reload is not enough.
    pub restart: Vec<String>,
    /// Why they cannot be taken. The plan is then that of what is in force.
    pub error: Option<String>,
}

impl PendingPlan {
    /// Whether there is nothing to do: no step, no reload, no difference in the file, nothing to be read.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
            && self.reload.is_empty()
            && self.unread.is_none()
            && self.on_disk.as_ref() == Some(&self.wanted)
    }

    /// Whether this is the plan of what is in force, because the files of now are wrong.
    pub fn is_of_before(&self) -> bool {
        let unread = self.unread.as_ref();
        unread.is_some_and(|unread| unread.error.is_some())
    }
}

impl fmt::Display for PendingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nothing to do");
        }
        if let Some(unread) = &self.unread {
            write!(f, "{unread}")?;
        }
        for step in &self.steps {
            writeln!(f, "runtime  {step}")?;
        }
        for reason in &self.reload {
            writeln!(f, "reload   {reason}")?;
        }
        let on_disk = self.on_disk.as_deref().unwrap_or_default();
        let diff = TextDiff::from_lines(on_disk, &self.wanted);
        write!(f, "{}", diff.unified_diff().header("on disk", "wanted"))
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = &self.error {
            for line in error.lines() {
                writeln!(f, "wrong    {line}")?;
            }
            return writeln!(
                f,
                "         the running controller goes by the config and template before, and so does this"
            );
        }
        for file in &self.files {
            writeln!(
                f,
                "unread   {}: the running controller goes by an earlier version",
                file.display()
            )?;
        }
        writeln!(
            f,
            "         it reads them by: systemctl reload serf-haproxy, or SIGHUP"
        )?;
        if self.restart.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "         only a restart takes: {}",
            self.restart.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> PendingPlan {
        PendingPlan {
            on_disk: Some("global\n".to_owned()),
            wanted: "global\n".to_owned(),
            ..PendingPlan::default()
        }
    }

    #[test]
    fn nothing_to_do_is_said_only_where_nothing_is_left_to_be_read_either() {
        assert_eq!(quiet().to_string(), "nothing to do\n");
        let unread = |restart: &[&str]| PendingPlan {
            unread: Some(Unread {
                files: vec!["/etc/a.toml".into()],
                restart: restart.iter().map(ToString::to_string).collect(),
                error: None,
            }),
            ..quiet()
        };
        assert!(!unread(&[]).is_empty());
        assert_eq!(
            unread(&[]).to_string(),
            "unread   /etc/a.toml: the running controller goes by an earlier version\n         \
             it reads them by: systemctl reload serf-haproxy, or SIGHUP\n"
        );
        let restart = unread(&["state.dir", "control.mode"]).to_string();
        assert!(restart.ends_with("only a restart takes: state.dir, control.mode\n"));
    }

    #[test]
    fn what_is_wrong_with_the_files_of_now_comes_before_the_plan_of_those_before() {
        let plan = PendingPlan {
            unread: Some(Unread {
                error: Some("a.toml:1:1: no\na.toml:2:1: no".to_owned()),
                ..Unread::default()
            }),
            steps: vec!["add nodes/s1".to_owned()],
            ..quiet()
        };
        assert!(plan.is_of_before() && !plan.is_empty());
        assert_eq!(
            plan.to_string(),
            "wrong    a.toml:1:1: no\nwrong    a.toml:2:1: no\n         the running controller goes by the config and \
             template before, and so does this\nruntime  add nodes/s1\n"
        );
    }
}
